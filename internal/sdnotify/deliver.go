package sdnotify

// maxWaiting is how many messages wait for the caller before nothing more is read.
const maxWaiting = 16

// waiting are messages that the caller has not taken, in their order.
type waiting []received

// add appends a message, or lets it take the place of the last one if both are but statuses of one process. Barriers
// come between, so a status that somebody waits for is never replaced.
func (w waiting) add(r received) waiting {
	if n := len(w); n > 0 && r.onlyStatus() && w[n-1].onlyStatus() && w[n-1].PID == r.PID {
		w[n-1] = r
		return w
	}
	return append(w, r)
}

// release lets barriers go that nothing waits before, and takes them out unless they say something else as well.
func (w waiting) release() waiting {
	for len(w) > 0 && w[0].Barrier {
		if w[0].says() {
			return w // it is released when it has been taken
		}
		w[0].close()
		w = w[1:]
	}
	return w
}

// deliver is the deliverer's goroutine. It ends at Close, or when the reader has ended and all has been taken.
func (s *Socket) deliver() {
	defer close(s.messages)
	var queue waiting
	in := s.received
	for {
		queue = queue.release()
		var (
			take <-chan received
			give chan<- Message
			next Message
		)
		if len(queue) < maxWaiting {
			take = in
		}
		if len(queue) > 0 {
			give, next = s.messages, queue[0].Message
		} else if in == nil {
			return
		}
		select {
		case r, ok := <-take:
			if !ok {
				in = nil
				continue
			}
			queue = queue.add(r)
		case give <- next:
			queue[0].close()
			queue = queue[1:]
		case <-s.done:
			for _, r := range queue {
				r.close()
			}
			return
		}
	}
}
