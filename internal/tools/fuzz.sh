#!/usr/bin/env bash
# Runs each fuzz target for a while: fuzz.sh 10s. What it finds is printed in full, and kept in testdata/fuzz of the
# package, where every test run looks at it; all else is one line a target.
#
# Each package's test binary is built once: "go test -fuzz" would link it for each target, which takes longer than a
# short look at one. And little time is given to making inputs shorter: by default it is up to a minute for each that
# reaches new code, and a short look would see nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
duration=$1

tmp=$(mktemp -d "${TMPDIR:-/tmp}/huptime-fuzz.XXXXXX")
trap 'rm -rf -- "$tmp"' EXIT
cache=$(go env GOCACHE)/fuzz/$(go list -m) # where "go test -fuzz" keeps inputs that reach new code

# ended tells whether a target that has failed has only run out of time: Go before 1.27 may call that a failure
# (go.dev/issue/75804).
ended() {
	grep -qx '    context deadline exceeded' "$tmp/out" &&
		! grep -vqE '^(fuzz: elapsed: .*|--- FAIL: Fuzz.*|    context deadline exceeded|FAIL|)$' "$tmp/out"
}

failed=0
for dir in $(grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do
	go test -c -fuzz . -o "$tmp/fuzz.test" "$dir"
	for name in $("$tmp/fuzz.test" -test.list '^Fuzz'); do
		if (cd "$dir" && "$tmp/fuzz.test" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$duration" \
			-test.fuzzminimizetime 100x -test.fuzzcachedir "$cache/${dir#./}") </dev/null >"$tmp/out" 2>&1 || ended; then
			printf '%-24s %-22s %s\n' "${dir#./}" "$name" "$(grep '^fuzz: elapsed' "$tmp/out" | tail -n 1 | cut -d ' ' -f 4-)"
		else
			cat "$tmp/out" >&2
			failed=1
		fi
	done
done
exit "$failed"
