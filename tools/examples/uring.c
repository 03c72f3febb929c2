// SPDX-License-Identifier: MIT
/*
 * An event loop by io_uring: two channels at once, each read as its messages come.
 * A multishot poll stays in the kernel; it tells of every arrival after the last look.
 *
 *	cc uring.c -o uring -luring $(pkg-config --cflags --libs libumpsc)
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include <umpsc.h>

#define CHANNELS 2

static struct channel {
	int receiver;
	bool ended;
} channels[CHANNELS];

static void watch(struct io_uring *ring, struct channel *channel)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_poll_multishot(sqe, channel->receiver, POLLIN);
	io_uring_sqe_set_data(sqe, channel);
}

static void unwatch(struct io_uring *ring, struct channel *channel)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_cancel(sqe, channel, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* Everything that is there: 1 when more may come, 0 at the end. */
static int drain(int receiver)
{
	static struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	int n;

	while ((n = umpsc_try_recv_many(receiver, &batch, 1000)) > 0)
		while (umpsc_batch_next(&batch, &m) > 0)
			printf("%.*s\n", (int)m.len, (const char *)m.data);
	if (n < 0 && errno != EAGAIN)
		errx(1, "receive: %s", umpsc_strerror(errno));
	return n < 0;
}

/* A child that sends through the channel; the parent keeps the receiver only. */
static int start(int number)
{
	int sender, receiver, i, len;
	char text[64];

	if (umpsc_channel(&sender, &receiver))
		errx(1, "/dev/umpsc: %s", umpsc_strerror(errno));
	if (!fork()) {
		for (i = 0; i < 3; i++) {
			len = snprintf(text, sizeof(text), "channel %d: %d",
				       number, i);
			if (umpsc_send(sender, text, len))
				err(1, "send");
		}
		_exit(0);
	}
	close(sender);
	return receiver;
}

int main(void)
{
	int i, open = CHANNELS;
	struct channel *channel;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	bool more;

	if (io_uring_queue_init(8, &ring, 0))
		errx(1, "no io_uring");
	for (i = 0; i < CHANNELS; i++) {
		channels[i].receiver = start(i);
		watch(&ring, &channels[i]);
	}
	while (open) {
		if (io_uring_submit_and_wait(&ring, 1) < 0 ||
		    io_uring_peek_cqe(&ring, &cqe))
			continue;
		channel = io_uring_cqe_get_data(cqe);
		more = cqe->flags & IORING_CQE_F_MORE;
		io_uring_cqe_seen(&ring, cqe);
		if (!channel)
			continue;
		if (!channel->ended && !drain(channel->receiver)) {
			channel->ended = true;
			if (more)
				unwatch(&ring, channel);
		}
		/* The poll is over: it was cancelled, or had no room to tell. */
		if (!more && channel->ended) {
			close(channel->receiver);
			open--;
		} else if (!more) {
			watch(&ring, channel);
		}
	}
	io_uring_queue_exit(&ring);
	return 0;
}
