# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# shellcheck disable=SC2034 # those who source this use its variables
# What the scripts of tools/vm share: where things lie, messages, kernel names, processes.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-${HOME:?}/.cache}/umpsc
VM_BUILD=$ROOT/build/vm
export LC_ALL=C

# What needs no kernel: the compiler, the emulator, the guest's userland.
PACKAGES=(gcc gcc-multilib libc6-dev liburing-dev make libelf1 qemu-system-x86 busybox-static xz-utils zstd)

say() { printf 'umpsc: %s\n' "$*" >&2; }

# 2: this machine cannot do it, as it is; 125: the runner or the guest failed.
die() {
	local status=$1
	shift
	say "$@"
	exit "$status"
}

require_debian() {
	local ID='' VERSION_ID='' arch
	# shellcheck source=/dev/null
	[ ! -r /etc/os-release ] || . /etc/os-release
	arch=$(uname -m)
	if [ "$ID" != debian ] || [ "$VERSION_ID" != 12 ] || [ "$arch" != x86_64 ]; then
		die 2 "this needs Debian 12 on amd64; this is ${ID:-unknown} ${VERSION_ID:-} on $arch"
	fi
}

# --- the cache -------------------------------------------------------------
# kernels/ABI holds vmlinuz (vmlinux too, where possible) and build (the headers); kernels/6.1, 6.12 and rt
# are links to the ABI fetched last.  A directory put there by other means is a kernel like any other.
# The kernels that are built here are called VERSION-FLAVOUR-KEY, as they call themselves; the key is
# of what they were built by, so that each checkout finds its own.

# The flavours built here: their configuration is tools/vm/kernel/base.config and FLAVOUR.config.
BUILT=(debug kcsan)

is_built() {
	[[ " ${BUILT[*]} " = *" $1 "* ]]
}

kernel_key() {
	cat "$ROOT"/tools/vm/kernel/{build,base.config,"$1.config"} | sha256sum | head -c 8
}

# The directory of a kernel: a flavour, an ABI, or an ABI without -amd64.
kernel_dir() {
	local name names=("$1" "$1-amd64") dir
	if is_built "$1"; then
		mapfile -t names < <(cd "$CACHE/kernels" 2> /dev/null && printf '%s\n' *-"$1-$(kernel_key "$1")" | sort -rV)
	fi
	for name in "${names[@]}"; do
		dir=$CACHE/kernels/$name
		if { [ -e "$dir/vmlinux" ] || [ -e "$dir/vmlinuz" ]; } && [ -e "$dir/build/Makefile" ]; then
			readlink -f "$dir"
			return
		fi
	done
	return 1
}

part_cached() {
	case $1 in
	none) ;;
	python) [ -d "$CACHE/python/usr/lib/python3.11/asyncio/__pycache__" ] ;;
	lint) [ -d "$CACHE/lint" ] ;;
	*) kernel_dir "$1" > /dev/null ;;
	esac
}

# What building a kernel needs beside PACKAGES.
BUILD_PACKAGES=(bc bison flex libelf-dev)

# Whether a part is made from the kernel's sources.
needs_source() {
	[ "$1" = lint ] || is_built "$1"
}

# Download in MB, rounded up; only ever shown.
part_megabytes() {
	case $1 in
	python) echo 6 ;;
	6.1*) echo 85 ;;
	*) echo 125 ;;
	esac
}

parts_missing() {
	local part
	for part; do
		part_cached "$part" || echo "$part"
	done
}

parts_megabytes() {
	local part sum=0 source=0
	for part; do
		if needs_source "$part"; then
			source=154
		else
			sum=$((sum + $(part_megabytes "$part")))
		fi
	done
	echo $((sum + source))
}

# --- processes -------------------------------------------------------------

# Run a download, and end it with status 75 when nothing has arrived in DIR for
# 25 seconds: apt's own time-outs add up to minutes where a firewall swallows packets.
run_while_growing() {
	local dir=$1 pid size last='' idle=0
	shift
	setpriv --pdeathsig TERM "$@" &
	pid=$!
	while kill -0 "$pid" 2> /dev/null; do
		size=$(du -sb "$dir" 2> /dev/null | cut -f1) || true
		if [ "$size" = "$last" ]; then idle=$((idle + 1)); else idle=0; fi
		last=$size
		if [ "$idle" -ge 50 ]; then
			kill "$pid" 2> /dev/null || true
			wait "$pid" || true
			return 75
		fi
		sleep 0.5
	done
	wait "$pid"
}
