// SPDX-License-Identifier: MIT
/*
 * A command that gets a message
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "command.h"

/* A file with the message, to be read from its start; or -1. */
static int message_file(const struct umpsc_message *m)
{
	int fd = memfd_create("umpsc-message", MFD_CLOEXEC);
	const char *data = m->data;
	size_t left = m->len;
	ssize_t n;

	if (fd < 0)
		return -1;
	for (; left; data += n, left -= n) {
		n = write(fd, data, left);
		if (n <= 0) {
			close(fd);
			return -1;
		}
	}
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void set_number(const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	setenv(name, text, 1);
}

static void set_environment(const struct umpsc_message *m, uint32_t flags)
{
	set_number("UMPSC_SEQ", m->seq);
	set_number("UMPSC_SENDER", m->sender);
	if (flags & UMPSC_TIMESTAMP)
		set_number("UMPSC_TIME_NS", m->time_ns);
	if (flags & UMPSC_CREDS) {
		set_number("UMPSC_PID", m->creds.pid);
		set_number("UMPSC_UID", m->creds.uid);
		set_number("UMPSC_GID", m->creds.gid);
	}
}

static void __attribute__((noreturn))
child_exec(const char *command, int in, const struct umpsc_message *m,
	   uint32_t flags)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	set_environment(m, flags);
	dup2(in, STDIN_FILENO);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	say("/bin/sh: %s", strerror(errno));
	_exit(127);
}

/* What is to be said of a command that ended with @status of waitpid(), or NULL. */
static char *explain(int status)
{
	if (WIFSIGNALED(status))
		return text_format("was killed by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status))
		return text_format("ended with status %d", WEXITSTATUS(status));
	return NULL;
}

bool child_run(const char *command, const struct umpsc_message *m,
	       uint32_t flags, char **why)
{
	int in = message_file(m), status;
	pid_t pid;

	pid = in < 0 ? -1 : fork();
	if (!pid)
		child_exec(command, in, m, flags);
	if (pid < 0)
		*why = text_copy(strerror(errno));
	if (in >= 0)
		close(in);
	if (pid < 0)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die(STATUS_FAILED, "waiting for '%s': %s", command,
			    strerror(errno));
	*why = explain(status);
	return true;
}
