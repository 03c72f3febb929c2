// SPDX-License-Identifier: MIT
/*
 * A service with an event loop by epoll: prints each message of a node's channel,
 * and on SIGTERM or SIGINT takes no more, prints what is queued, and ends.
 *
 *	cc epoll.c -o epoll $(pkg-config --cflags --libs libumpsc)
 *	./epoll log & echo hello > /dev/umpsc-log; kill $!
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <umpsc.h>

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll_ctl");
}

/* Everything that is there: 1 when more may come, 0 at the end. */
static int drain(int receiver)
{
	static struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	int n;

	while ((n = umpsc_recv_many(receiver, &batch, 1000)) > 0)
		while (umpsc_batch_next(&batch, &m) > 0)
			printf("%.*s", (int)m.len, (const char *)m.data);
	if (n < 0 && errno != EAGAIN)
		errx(1, "receive: %s", umpsc_strerror(errno));
	fflush(stdout);
	return n < 0;
}

int main(int argc, char **argv)
{
	const char *node = argc > 1 ? argv[1] : NULL;
	int epoll = epoll_create1(EPOLL_CLOEXEC), receiver, sender, signals;
	struct signalfd_siginfo info;
	struct epoll_event event;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	/* With a sender of its own it stays when all others have gone. */
	if (umpsc_attach(node, O_NONBLOCK, &receiver, &sender))
		errx(1, "attach: %s", umpsc_strerror(errno));
	watch(epoll, receiver);
	watch(epoll, signals);

	for (;;) {
		if (epoll_wait(epoll, &event, 1, -1) != 1)
			continue;
		if (event.data.fd == signals) {
			/* Senders are refused from now on, and nothing gets lost. */
			if (read(signals, &info, sizeof(info)) > 0)
				umpsc_close(receiver);
		} else if (!drain(receiver)) {
			return 0;
		}
	}
}
