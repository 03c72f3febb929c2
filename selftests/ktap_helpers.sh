# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# What the shell tests share; they source it.  A test is a function test_NAME;
# ktap_run runs NAME or NAME.ARGUMENT, each in a session of its own and an empty
# directory.  It passes if the function returns 0 and the module is unused after
# it, and fails if it takes more than $LIMIT seconds.

MODULE=${UMPSC_MODULE:-/umpsc.ko}

LIMIT=$((120 * ${UMPSC_SLOW:-1}))

fail() {
	echo "$*"
	exit 1
}

skip() {
	echo "$*"
	exit 4
}

need() {
	for tool; do
		command -v "$tool" > /dev/null || skip "there is no $tool"
	done
}

# equal GOT WANT WHAT
equal() {
	[ "$1" = "$2" ] || fail "$3: '$1', should be '$2'"
}

# same GOT WANT: files
same() {
	[ -e "$1" ] || fail "$1 is not there"
	cmp "$1" "$2" || fail "$1 ($(wc -c < "$1") bytes) is not $2 ($(wc -c < "$2") bytes)"
}

# refused COMMAND...: it must fail; what it says goes to "error".
refused() {
	"$@" > /dev/null 2> error && fail "should have failed: $*"
}

# until_true COMMAND...: wait for what must become true.
until_true() {
	tries=0
	until "$@"; do
		[ "$tries" -lt 400 ] || return 1
		tries=$((tries + 1))
		sleep 0.05
	done
}

# figure FD NAME: a figure of an open handle, as fdinfo has it.
figure() {
	sed -n "s/^umpsc-$2:[[:space:]]*//p" "/proc/self/fdinfo/$1"
}

module_loaded() {
	[ -d /sys/module/umpsc ]
}

module_unused() {
	! module_loaded || [ "$(cat /sys/module/umpsc/refcnt)" = 0 ]
}

module_load() {
	insmod "$MODULE" "$@"
}

# A script may have its own: it runs after each test, before the module has to be unused.
ktap_after() {
	:
}

# Where the script was started to run one test, run it, and do not return.
ktap_one() {
	[ "${1-}" = --test ] || return 0
	case $2 in
	*.*) "test_${2%%.*}" "${2#*.}" ;;
	*) "test_$2" ;;
	esac
	exit
}

ktap_run() {
	ktap_top=$(mktemp -d) || exit 1
	trap 'rm -rf "$ktap_top"' EXIT
	ktap_script=$(readlink -f "$0")
	ktap_number=0
	ktap_failed=0
	echo "KTAP version 1"
	echo "1..$#"
	for ktap_name; do
		ktap_number=$((ktap_number + 1))
		mkdir "$ktap_top/dir"
		(
			cd "$ktap_top/dir" &&
				exec setsid timeout -s KILL "$LIMIT" "$ktap_script" --test "$ktap_name"
		) > "$ktap_top/log" 2>&1 < /dev/null &
		ktap_pid=$!
		wait "$ktap_pid"
		ktap_status=$?
		# What it has left running.
		kill -KILL "-$ktap_pid" 2> /dev/null
		ktap_after
		if [ "$ktap_status" = 137 ]; then
			echo "not done after $LIMIT seconds" >> "$ktap_top/log"
		elif [ "$ktap_status" = 0 ] && ! until_true module_unused; then
			echo "the module is still in use: $(cat /sys/module/umpsc/refcnt)" >> "$ktap_top/log"
			ktap_status=1
		fi
		if [ "$ktap_status" = 4 ]; then
			echo "ok $ktap_number $ktap_name # SKIP $(tail -n 1 "$ktap_top/log")"
		else
			sed 's/^/# /' "$ktap_top/log"
			if [ "$ktap_status" = 0 ]; then
				echo "ok $ktap_number $ktap_name"
			else
				echo "not ok $ktap_number $ktap_name"
				ktap_failed=$((ktap_failed + 1))
			fi
		fi
		rm -rf "$ktap_top/dir"
	done
	[ "$ktap_failed" = 0 ]
}
