#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: tools/deps.sh run|test|all
#
# Installs those Debian packages that are missing to build and run Vivarium (run), to test it too
# (test), or for every check (all). Asks nothing; without anything missing it needs no network.
set -eu

# With all that the build looks for, so that it is the same build whatever is done next.
run="gcc libc6-dev make meson ninja-build pkgconf scdoc check libhttp-parser-dev
	libuv1-dev libjansson-dev libsqlite3-dev libmnl-dev libarchive-dev libssl-dev libxxhash-dev zlib1g-dev
	libcurl4-openssl-dev
	qemu-system-x86 qemu-utils mmdebstrap debian-archive-keyring e2fsprogs nftables iproute2
	ca-certificates"
tests="python3 python3-pytest python3-pytest-xdist procps clang-format shellcheck"
all="clang clang-tidy llvm libclang-rt-14-dev cppcheck"

case "${1-}" in
run) wanted=$run ;;
test) wanted="$run $tests" ;;
all) wanted="$run $tests $all" ;;
*)
	echo "usage: tools/deps.sh run|test|all" >&2
	exit 2
	;;
esac
# For the suite of the SDKs; whoever has npm from elsewhere keeps it.
if [ "$1" != run ] && ! command -v npm >/dev/null; then
	wanted="$wanted npm"
fi

# The wanted packages that are not installed, one per line. Several versions of a package may be
# known, so what dpkg-query does not list is missing as well.
missing() {
	# shellcheck disable=SC2086 # a list of words
	{
		dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
			sed -n 's/^installed //p'
		printf '%s\n' $wanted $wanted
	} | sort | uniq -c | sed -n 's/^ *2 //p'
}

# Whether apt has lists of packages: the guest's kernel is looked up in them, too.
have_lists() {
	for list in /var/lib/apt/lists/*_Packages*; do
		[ -e "$list" ] && return 0
	done
	return 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y \
		-o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 "$@" </dev/null
}

install_missing() {
	# shellcheck disable=SC2046 # a list of words
	apt install --no-install-recommends $(missing)
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "tools/deps.sh: this is no Debian 12 or relative of it; install what these packages hold:" >&2
	echo "$wanted" >&2
	exit 1
fi
if [ -z "$(missing)" ] && have_lists; then
	exit 0
fi
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
	echo "tools/deps.sh: to install packages, be root or install sudo; missing:" >&2
	missing >&2
	exit 1
fi
have_lists || apt update
if [ -n "$(missing)" ]; then
	echo "tools/deps.sh: installing $(missing | tr '\n' ' ')"
	# Lists that are too old name packages that are gone.
	install_missing || { apt update && install_missing; }
fi
