// SPDX-License-Identifier: MIT
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/umpsc.h>

/* A child sends two messages through a private channel; the parent prints them. */
int main(void)
{
	static __u64 buffer[8192];
	struct umpsc_channel_args channel = { .flags = UMPSC_TIMESTAMP };
	struct umpsc_recv_args recv = {
		.addr = (uintptr_t)buffer,
		.len = sizeof(buffer),
		.max = 1000,
		.deadline_ns = UMPSC_NO_DEADLINE,
	};
	int n, manager = open("/dev/umpsc", O_RDWR);

	if (manager < 0 || ioctl(manager, UMPSC_IOC_CHANNEL, &channel))
		err(1, "/dev/umpsc");
	if (!fork()) {
		close(channel.receiver_fd);
		if (write(channel.sender_fd, "hello", 5) < 0 ||
		    write(channel.sender_fd, "world", 5) < 0)
			err(1, "write");
		return 0;
	}
	close(channel.sender_fd); /* or the end would never come */

	while ((n = ioctl(channel.receiver_fd, UMPSC_IOC_RECV, &recv)) > 0) {
		char *at = (char *)buffer;

		while (n--) {
			struct umpsc_record *r = (void *)at;

			printf("message %llu, from sender %llu: %.*s\n", r->seq,
			       r->sender, (int)r->len, at + r->hdr);
			at += UMPSC_RECORD_SIZE(r->hdr, r->len);
		}
	}
	if (n < 0)
		err(1, "RECV");
	return 0;
}
