// Service is an ordinary web service: it binds its port, answers, and dies of any signal. It knows nothing of huptime
// and does nothing for its restarts.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()

	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "process %d answers %s\n", os.Getpid(), r.URL.Path)
	})
	log.Printf("process %d listens on %s", os.Getpid(), *addr)
	log.Fatal(http.ListenAndServe(*addr, nil))
}
