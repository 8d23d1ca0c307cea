# Everything that a contributor types. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.DEFAULT_GOAL := help
# The order of a target's prerequisites matters (deps installs the compiler that build uses), so -j must not change it.
.NOTPARALLEL:

# deps puts a Go here if the machine has none that go.mod accepts. The sbin directories are for nginx and
# redis, which an ordinary user's PATH does not reach.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/huptime
export PATH := $(CACHE)/go/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s
BENCHTIME ?= 1s
# .ci/run puts its own filter here.
GOTEST ?= go test
# What tests and benchmarks run. Tests start it from other directories, hence absolute.
export HUPTIME_BIN ?= $(CURDIR)/bin/huptime

.PHONY: help deps build test unit integration lint fuzz fuzz-short bench packages demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

deps: ## install what is missing: compiler, libseccomp, Go, and the servers that the tests run
	@internal/tools/deps.sh

build: deps ## build bin/huptime, static and stripped
	CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags netgo,osusergo \
		-ldflags '-s -w -linkmode external -extldflags "-static" -X main.version=$(VERSION)' \
		-o bin/huptime ./cmd/huptime
	@# The linker falls back to shared libraries silently; an interpreter in the headers gives it away.
	@if readelf -lW bin/huptime | grep -qw INTERP; then echo 'bin/huptime is not static' >&2; rm bin/huptime; exit 1; fi

test: build unit integration ## install what is missing, build, run the unit tests and the integration tests

unit: deps ## run the unit tests with the race detector; they need no privileges
	$(GOTEST) -race -count=1 -timeout 10m $$(go list ./... | grep -v '/integration')
	@# What is written for the other architecture, as far as it needs neither cgo nor ptrace: tests that do skip.
	@if [[ $$(go env GOHOSTARCH) == amd64 ]]; then set -x; \
		GOARCH=arm64 CGO_ENABLED=0 $(GOTEST) -count=1 -timeout 3m -exec qemu-aarch64-static ./internal/abi ./internal/remote; fi

# One package at a time: they put load on the machine, and measure.
integration: build ## run the integration tests: real servers, real load
	$(GOTEST) -count=1 -timeout 60m -p 1 ./integration/...
	@# The files in deploy, with the parsers of those who read them: a module of its own.
	cd integration/deploy && $(GOTEST) -count=1 -timeout 3m ./...

lint: deps ## gofmt, go vet, staticcheck (pinned in internal/tools) and the house rules
	@files=$$(gofmt -l .); if [[ -n $$files ]]; then echo "gofmt -w is needed on:" $$files >&2; exit 1; fi
	go vet ./...
	GOARCH=arm64 CGO_ENABLED=0 go vet ./internal/...
	go tool -modfile=internal/tools/go.mod staticcheck ./...
	cd internal/tools && go vet ./... && go tool staticcheck ./...
	cd integration/deploy && go vet ./...
	@.ci/house-rules

fuzz: deps ## run each fuzz target for FUZZTIME (10s)
	@internal/tools/fuzz.sh $(FUZZTIME)

fuzz-short: FUZZTIME = 2s
fuzz-short: fuzz ## the same for 2s

# Only packages that have benchmarks: in the others go test has nothing to run, and would say so at length.
bench: build ## run the benchmarks, each for BENCHTIME (1s)
	@packages=$$(grep -rlE --include='*_test.go' '^func Benchmark' . | xargs -r -n 1 dirname | sort -u); \
	if [[ -z $$packages ]]; then echo 'no benchmarks yet'; exit; fi; \
	set -x; go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -count=1 -timeout 60m -p 1 $$packages

packages: deps ## write the table of packages in docs/architecture.md anew
	@go run -C internal/tools -buildvcs=false ./packages -write "$(CURDIR)/docs/architecture.md" "$(CURDIR)"

demo: build ## run an example service under load and restart it five times
	@go build -buildvcs=false -o bin/demo ./integration/demo
	@CGO_ENABLED=0 go build -buildvcs=false -o bin/demo-service ./integration/demo/service
	@bin/demo -huptime "$(HUPTIME_BIN)" -service "$(CURDIR)/bin/demo-service"

clean: ## remove what was built
	rm -rf bin
