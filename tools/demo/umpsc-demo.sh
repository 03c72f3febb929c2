#!/bin/sh
# SPDX-License-Identifier: MIT
# The demo, on a machine that has umpsc loaded: several processes stream a text
# file each, a line a message, and one receives, shows and checks them.
#
# Usage: umpsc-demo.sh [-s drop|double|swap] [-t] [-d SECONDS] [-l FILE] [-b FILE]... [-c FILE]...
#
# -s spoils a line of the first -b FILE on its way into the channel.  The other
# options are those of "umpsc-demo receive", where they are explained.
set -u

PATH=$(cd "$(dirname "$0")" && pwd):$PATH
sabotage=
pace=
if [ "${1-}" = -s ]; then
	sabotage="-s $2"
	shift 2
fi

# A line a message, with nothing but a shell: it writes at each printf.  The
# loop's read sees no last line that lacks its newline.
stream() {
	while IFS= read -r l; do printf '%s\n' "$l"; done < "$1" > /dev/umpsc
}

register=$(mktemp) || exit 2
trap 'rm -f "$register" "$register.errors"' EXIT

# Until the first of the senders has come, a node's channel waits; when the last
# one has gone, it ends.  This sender keeps it open until all have started.
exec 9> /dev/umpsc || exit 2

# shellcheck disable=SC2016 # this is to be read
loop='while IFS= read -r l; do printf '"'%s\\n'"' "$l"; done'
echo "umpsc on Linux $(uname -r): one receiver, and as senders"
senders=
while getopts td:l:b:c: option; do
	case $option in
	l)
		if [ -n "$(tail -c 1 "$OPTARG")" ]; then
			echo "$OPTARG: its last line has no newline, and the loop would lose it" >&2
			exit 2
		fi
		printf '  %s < %s > /dev/umpsc\n' "$loop" "${OPTARG##*/}"
		stream "$OPTARG" 9>&- &
		senders="$senders $!"
		;;
	b)
		echo "  SEND, 32 lines in a batch: ${OPTARG##*/} > /dev/umpsc"
		# shellcheck disable=SC2086 # options and their words
		umpsc-demo send $sabotage $pace "$register" "$OPTARG" \
			> /dev/umpsc 2>> "$register.errors" 9>&- &
		sabotage=
		senders="$senders $!"
		;;
	c)
		echo "  SEND, to a private channel, by a clone of its sender: ${OPTARG##*/}"
		;;
	d) pace="-d $OPTARG" ;;
	t) ;;
	*) exit 2 ;;
	esac
done

umpsc-demo receive "$@" "$register" < /dev/umpsc 9>&- &
receiver=$!
exec 9>&-

wait "$receiver"
status=$?
for sender in $senders; do
	wait "$sender" || status=1
done
cat "$register.errors" 2> /dev/null
exit "$status"
