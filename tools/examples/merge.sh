#!/bin/sh
# SPDX-License-Identifier: MIT
# Run several commands at once and print their lines whole, each with the command's number:
#	./merge.sh 'make -C a' 'make -C b' 'make -C c'
# In a file or a pipe that all of them write to, lines may come out mixed up.
node=${UMPSC_NODE:-/dev/umpsc}

exec 3< "$node" 4> "$node" || exit
number=0
for command; do
	number=$((number + 1))
	# Each loop is a sender, and each printf a message.
	sh -c "$command" 2>&1 3<&- 4>&- | while IFS= read -r line; do
		printf '[%s] %s\n' "$number" "$line"
	done 3<&- > "$node" 4>&- &
done
# Until here, this one kept the channel from ending with the first command.
exec 4>&-
cat <&3
