// SPDX-License-Identifier: MIT
/*
 * Requests and replies.  All clients share the server's channel, each through a
 * sender that was made for it and passed to it over a socket; so the kernel tells
 * with each message who sent it, and no client can pretend to be another.  In
 * return each passes a sender of a private channel of its own, for its replies.
 *
 *	cc request_reply.c -o request_reply $(pkg-config --cflags --libs libumpsc)
 */
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <umpsc.h>

#define CLIENTS 3

/* Pass @fd over a socket, or take one when it is -1: the fd, or -1. */
static int pass(int sock, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	char byte;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = &control.align;

	memset(&control, 0, sizeof(control));
	if (fd >= 0) {
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
		return sendmsg(sock, &msg, 0) == 1 ? fd : -1;
	}
	iov.iov_base = &byte;
	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 ||
	    !CMSG_FIRSTHDR(&msg) || cmsg->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	return fd;
}

static int ask(int sock)
{
	int reply_to, replies, requests, i, len;
	struct umpsc_batch memory = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	char text[64];

	if (umpsc_channel(&reply_to, &replies))
		errx(1, "/dev/umpsc: %s", umpsc_strerror(errno));
	requests = pass(sock, -1);
	if (requests < 0 || pass(sock, reply_to) < 0)
		err(1, "socket");
	close(reply_to); /* the server's dying must be the end */
	for (i = 1; i <= 2; i++) {
		len = snprintf(text, sizeof(text), "question %d of %d", i,
			       getpid());
		if (umpsc_send(requests, text, len))
			errx(1, "send: %s", umpsc_strerror(errno));
		if (umpsc_recv(replies, &memory, &m) != 1)
			errx(1, "the server has gone");
		printf("%d: %.*s\n", getpid(), (int)m.len,
		       (const char *)m.data);
	}
	fflush(stdout);
	return 0;
}

/* A client as the server knows it. */
static struct {
	uint64_t id;
	int reply_to;
} clients[CLIENTS];

static void start(int number, int sender, int requests)
{
	int own = umpsc_sender_clone(sender, 0), socks[2];
	struct umpsc_info info;

	if (own < 0 || umpsc_info(own, &info) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		err(1, "client %d", number);
	clients[number].id = info.handle;
	if (!fork()) {
		/* What is the server's must not live on in a client. */
		close(sender);
		close(own);
		close(requests);
		close(socks[0]);
		while (number--)
			close(clients[number].reply_to);
		_exit(ask(socks[1]));
	}
	close(socks[1]);
	if (pass(socks[0], own) < 0)
		err(1, "socket");
	close(own);
	clients[number].reply_to = pass(socks[0], -1);
	close(socks[0]);
}

int main(void)
{
	struct umpsc_batch memory = UMPSC_BATCH_INIT;
	struct iovec answer[2] = { { "answer to ", 10 } };
	int requests, sender, i;
	struct umpsc_message m;

	if (umpsc_channel(&sender, &requests))
		errx(1, "/dev/umpsc: %s", umpsc_strerror(errno));
	for (i = 0; i < CLIENTS; i++)
		start(i, sender, requests);
	close(sender);

	/* Until the last client has gone. */
	while (umpsc_recv(requests, &memory, &m) > 0) {
		answer[1] = (struct iovec){ (void *)m.data, m.len };
		/* A clone that a client made has another id: it gets no answer. */
		for (i = 0; i < CLIENTS; i++)
			if (clients[i].id == m.sender)
				umpsc_sendv(clients[i].reply_to, answer, 2);
	}
	return 0;
}
