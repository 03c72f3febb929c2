// SPDX-License-Identifier: MIT
/*
 * The terminal: its size, and one that shows a changing picture
 *
 * While the terminal is taken, the signals that end or stop the command are blocked
 * and come through a signalfd, so that the terminal is given back first.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "terminal.h"

#define ESCAPE 27

#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"

static struct termios before;
static bool taken;
static int signals = -1;

size_t terminal_columns(int fd)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) || !size.ws_col)
		return 80;
	return size.ws_col;
}

size_t terminal_rows(int fd)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) || !size.ws_row)
		return 24;
	return size.ws_row;
}

static void terminal_take(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &before))
		return;
	raw = before;
	/* Keys that send signals still do. */
	raw.c_lflag &= ~(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	fputs(SCREEN_ENTER, stdout);
	fflush(stdout);
	taken = true;
}

void terminal_leave(void)
{
	if (!taken)
		return;
	taken = false;
	fputs(SCREEN_LEAVE, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

void terminal_enter(void)
{
	static const int caught[] = { SIGINT,  SIGTERM, SIGHUP,
				      SIGQUIT, SIGTSTP, SIGWINCH };
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < ARRAY_SIZE(caught); i++)
		sigaddset(&set, caught[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	atexit(terminal_leave);
	terminal_take();
}

/* What the signal does when nobody catches it, with the terminal given back. */
static void signal_pass_on(int number)
{
	sigset_t set;

	terminal_leave();
	sigemptyset(&set);
	sigaddset(&set, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	/* It was SIGTSTP, and goes on. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	terminal_take();
}

static int read_signal(void)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return TERMINAL_TIMEOUT;
	if (info.ssi_signo != SIGWINCH)
		signal_pass_on(info.ssi_signo);
	return TERMINAL_RESIZED;
}

/* A key; of those that send a sequence, nothing but that something came. */
static int read_key(void)
{
	unsigned char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return TERMINAL_TIMEOUT;
	if (n <= 0)
		return TERMINAL_GONE;
	return n > 1 && keys[0] == ESCAPE ? 0 : keys[n - 1];
}

int terminal_wait(uint64_t ns)
{
	struct pollfd fds[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};
	struct timespec ts = ns_timespec(ns);

	if (ppoll(fds, 2, &ts, NULL) <= 0)
		return TERMINAL_TIMEOUT;
	if (fds[1].revents)
		return read_signal();
	return read_key();
}
