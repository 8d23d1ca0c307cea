#!/usr/bin/env bash
# Installs what building and testing huptime needs, and only what is missing. With nothing missing it takes a few
# milliseconds, so that every target may call it.
#
# It looks for the things themselves (a program, a static library), not for packages: nginx from elsewhere will do, and
# on a distribution without apt the list it prints is still the right one.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/huptime # the Makefile puts $cache/go/bin first in PATH

say() { printf 'deps: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# apt_install runs as root: through sudo it is a new run of this script.
apt_install() {
	local policy=/usr/sbin/policy-rc.d daemon
	# Debian starts a daemon as soon as it is installed, and nobody asked for an nginx on port 80. 101 means "not allowed".
	# A policy that is there already belongs to the machine's owner.
	if [[ ! -e $policy ]]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null
	if (($# > 0)); then
		apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" </dev/null
	fi
	# Nor should they start at the next boot.
	if command -v systemctl >/dev/null; then
		for daemon in "$@"; do
			case $daemon in
			nginx-light) systemctl disable --quiet nginx || true ;;
			redis-server) systemctl disable --quiet redis-server || true ;;
			nsd) systemctl disable --quiet nsd || true ;;
			postgresql) systemctl disable --quiet postgresql || true ;;
			varnish | haproxy | icecast2) systemctl disable --quiet "$daemon" varnishncsa || true ;;
			esac
		done
	fi
}

if [[ ${1-} == apt-install ]]; then
	shift
	apt_install "$@"
	exit
fi

# have also looks where daemons live: an ordinary user's PATH leaves the sbin directories out.
have() { PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# static finds a library by asking the compiler that will link it, which knows the machine's multiarch directories.
static() { have gcc && [[ $(gcc -print-file-name="$1") == /* ]]; }

# go_fits tells whether the Go on PATH is one that go.mod accepts. Asked inside the module, a Go that can switch
# toolchains (1.21 and later, unless told not to) answers with the version that it switched to.
go_fits() {
	local need got
	need=$(awk '$1 == "go" { print $2; exit }' "$root/go.mod")
	got=$(cd "$root" && go env GOVERSION 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1) || return 1
	[[ $(printf '%s\n%s\n' "$need" "$got" | sort -V | head -n 1) == "$need" ]]
}

# go_from_proxy puts a Go that go.mod accepts into the cache. Every Go release is also a module, golang.org/toolchain;
# a Go too old to switch toolchains by itself can still download it, and check it against the checksum database. If
# there is no Go at all, the distribution's own serves for that one download; it is unpacked, not installed.
go_from_proxy() {
	local tmp old=go package version dir f
	tmp=$(mktemp -d)
	# shellcheck disable=SC2064 # tmp is local: expand it now
	trap "rm -rf -- '$tmp'" EXIT
	mkdir "$tmp/empty" "$tmp/deb"
	cd "$tmp/empty" # outside any module
	if ! have go; then
		package=$(apt-cache depends golang-go | sed -n 's/.*Depends: \(golang-[0-9.]*-go\).*/\1/p' | head -n 1)
		[[ -n $package ]] || return 1
		say "unpacking $package, to download Go with"
		(cd "$tmp/deb" && apt-get -qq download "$package" 2>/dev/null && dpkg -x ./*.deb .) || return 1
		for f in "$tmp"/deb/usr/lib/go-*; do GOROOT=$f; done
		export GOROOT
		old=$GOROOT/bin/go
	fi
	export GOMODCACHE=$tmp/mod GOCACHE=$tmp/build GOFLAGS=-modcacherw GOTOOLCHAIN=local
	# The toolchain line of go.mod says which release exactly; without one it is the newest of the go line's series.
	version=$(awk '$1 == "toolchain" { print $2; exit }' "$root/go.mod")
	if [[ -n $version ]]; then
		version=v0.0.1-$version.linux-$("$old" env GOARCH)
	else
		version=$(awk '$1 == "go" { split($2, v, "."); print v[1] "\\." v[2]; exit }' "$root/go.mod")
		version=$("$old" list -m -versions golang.org/toolchain | tr ' ' '\n' |
			grep -E "^v0\.0\.1-go$version\.[0-9]+\.linux-$("$old" env GOARCH)\$" | sort -V | tail -n 1) || return 1
	fi
	say "downloading golang.org/toolchain@$version"
	"$old" mod download "golang.org/toolchain@$version" || return 1
	dir=$tmp/mod/golang.org/toolchain@$version
	# What a module's archive can't hold: executable bits, and go.mod files inside (they are named _go.mod).
	chmod +x "$dir"/bin/* "$dir"/pkg/tool/*/*
	find "$dir" -name _go.mod -execdir cp {} go.mod \;
	mkdir -p "$cache"
	rm -rf "$cache/go"
	mv "$dir" "$cache/go"
}

packages=()
want() { packages+=("$1"); }
have gcc || want gcc
static libc.a || want libc6-dev
have make || want make
have pkg-config || want pkg-config
{ static libseccomp.a && have pkg-config && pkg-config --exists libseccomp; } || want libseccomp-dev
have git || want git
have nginx || want nginx-light
have redis-server || want redis-server
have nsd || want nsd
ls /usr/lib/postgresql/*/bin/postgres &>/dev/null || want postgresql # it is not on PATH
have node || want nodejs
have gunicorn || want gunicorn
have python3 || want python3
have varnishd || want varnish
have haproxy || want haproxy
have icecast2 || want icecast2
have hypnotoad || want libmojolicious-perl
{ have erl && ls /usr/lib/erlang/lib/inets-* &>/dev/null; } || want erlang-inets
have killall || want psmisc
have ps || want procps
have runc || want runc
have crun || want crun
have tini || want tini # what starts of containers are measured against
have dumb-init || want dumb-init
have systemd-analyze || want systemd # checks the units in deploy; it is not started
[[ $(uname -m) != x86_64 ]] || have qemu-aarch64-static || want qemu-user-static # runs the unit tests of what is written for arm64
[[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt ]] || want ca-certificates # for Go's downloads

go_missing=false
go_fits || go_missing=true
if ((${#packages[@]} == 0)) && ! $go_missing; then exit 0; fi

# Unless Go alone is missing and can be had without apt, apt is needed, and thus root.
if ((${#packages[@]} > 0)) || { ! have go && ! apt-cache show golang-go &>/dev/null; }; then
	if ! have apt-get; then
		if $go_missing; then packages+=('go (the version in go.mod, or later)'); fi
		fail "no apt-get here; please install what your system calls: ${packages[*]}"
	fi
	if ((EUID == 0)); then
		as_root=()
	elif have sudo && sudo -n true 2>/dev/null; then
		as_root=(sudo -n)
	elif have sudo && [[ -t 0 && -t 2 ]]; then
		as_root=(sudo) # it will ask for the password
	else
		fail "not root, and sudo does not let us; please install: ${packages[*]:-golang-go}"
	fi
	say "installing: ${packages[*]:-nothing, only refreshing the package lists}"
	"${as_root[@]}" bash "${BASH_SOURCE[0]}" apt-install "${packages[@]}" >&2
fi

if $go_missing; then
	(go_from_proxy) || fail "cannot get the Go that go.mod asks for; please install it from https://go.dev/dl/"
	hash -r
	PATH=$cache/go/bin:$PATH go_fits || fail "the Go in $cache/go does not run"
fi
