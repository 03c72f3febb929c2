// SPDX-License-Identifier: GPL-2.0-only
/*
 * umpsc, the command, on a terminal: what top draws, at which size and after which
 * key, that the terminal is given back, and how send shows its progress.
 *
 * A terminal is emulated as far as the command uses it, so that a test sees what a
 * person would.
 */
#include "umpsc_test.h"

#include <termios.h>

#define NODES 12
#define COLUMNS_MAX 200
#define ROWS_MAX 60

/* What is on the screen, and how what comes goes on. */
struct screen {
	unsigned int rows;
	unsigned int columns;
	unsigned int row;
	unsigned int column;
	bool alternate;
	bool cursor_hidden;
	unsigned int frames; /* how often it was drawn from the top */
	char cells[ROWS_MAX][COLUMNS_MAX + 1];
	char escape[32]; /* a sequence that is not complete yet */
	char other[65536]; /* all that came while it was not the alternate screen */
	size_t other_len;
};

FIXTURE(terminal)
{
	int master;
	int slave;
	pid_t pid;
	struct termios before;
	struct screen screen;
};

/* ---- The emulation ------------------------------------------------------- */

static void screen_clear_from(struct screen *s, unsigned int row,
			      unsigned int column)
{
	memset(&s->cells[row][column], ' ', COLUMNS_MAX - column);
	while (++row < ROWS_MAX)
		memset(s->cells[row], ' ', COLUMNS_MAX);
}

static void screen_init(struct screen *s, unsigned int rows,
			unsigned int columns)
{
	unsigned int i;

	memset(s, 0, sizeof(*s));
	s->rows = rows;
	s->columns = columns;
	for (i = 0; i < ROWS_MAX; i++)
		memset(s->cells[i], ' ', COLUMNS_MAX);
}

/* A whole sequence is in s->escape; false: it is not one that is known. */
static bool screen_escape(struct screen *s)
{
	const char *e = s->escape + 1;

	if (!strcmp(e, "[H")) {
		s->row = 0;
		s->column = 0;
		s->frames++;
	} else if (!strcmp(e, "[K")) {
		memset(&s->cells[s->row][s->column], ' ',
		       COLUMNS_MAX - s->column);
	} else if (!strcmp(e, "[J")) {
		screen_clear_from(s, s->row, s->column);
	} else if (!strcmp(e, "[?1049h") || !strcmp(e, "[?1049l")) {
		s->alternate = e[6] == 'h';
	} else if (!strcmp(e, "[?25l") || !strcmp(e, "[?25h")) {
		s->cursor_hidden = e[4] == 'l';
	} else if (strcmp(e, "[7m") && strcmp(e, "[0m")) {
		return false;
	}
	return true;
}

/* False: a sequence that is not known, or something outside of the screen. */
static bool screen_put(struct screen *s, char c)
{
	size_t len = strlen(s->escape);

	if (len || c == '\033') {
		if (len == sizeof(s->escape) - 1)
			return false;
		s->escape[len] = c;
		s->escape[len + 1] = '\0';
		if (len < 2 || c == '?' || (c >= '0' && c <= '9'))
			return true;
		if (!screen_escape(s))
			return false;
		s->escape[0] = '\0';
		return true;
	}
	if (!s->alternate && s->other_len < sizeof(s->other) - 1)
		s->other[s->other_len++] = c;
	if (c == '\n') {
		s->row += s->row < ROWS_MAX - 1;
		return !s->alternate || s->row < s->rows;
	}
	if (c == '\r') {
		s->column = 0;
		return true;
	}
	if (s->column >= s->columns)
		return false;
	s->cells[s->row][s->column++] = c;
	return true;
}

/* The row without blanks at its end. */
static const char *screen_row(struct screen *s, unsigned int row)
{
	static char text[COLUMNS_MAX + 1];
	size_t len = COLUMNS_MAX;

	memcpy(text, s->cells[row], COLUMNS_MAX);
	while (len && text[len - 1] == ' ')
		len--;
	text[len] = '\0';
	return text;
}

/* The first row that begins so, or -1. */
static int screen_find(struct screen *s, const char *text)
{
	unsigned int i;

	for (i = 0; i < ROWS_MAX; i++)
		if (!strncmp(screen_row(s, i), text, strlen(text)))
			return i;
	return -1;
}

static unsigned int screen_used_rows(struct screen *s)
{
	unsigned int used = 0, i;

	for (i = 0; i < ROWS_MAX; i++)
		if (*screen_row(s, i))
			used = i + 1;
	return used;
}

/* ---- The command on it --------------------------------------------------- */

static void set_size(int fd, unsigned int rows, unsigned int columns)
{
	struct winsize size = { .ws_row = rows, .ws_col = columns };

	ioctl(fd, TIOCSWINSZ, &size);
}

static void terminal_open(struct __test_metadata *_metadata,
			  FIXTURE_DATA(terminal) * self, unsigned int rows,
			  unsigned int columns)
{
	char name[64];

	self->master = ASSERT_FD(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	ASSERT_EQ(0, grantpt(self->master));
	ASSERT_EQ(0, unlockpt(self->master));
	ASSERT_EQ(0, ptsname_r(self->master, name, sizeof(name)));
	self->slave = ASSERT_FD(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
	ASSERT_EQ(0, fcntl(self->master, F_SETFL, O_NONBLOCK));
	set_size(self->master, rows, columns);
	ASSERT_EQ(0, tcgetattr(self->slave, &self->before));
	screen_init(&self->screen, rows, columns);
}

/* Starts it there, its standard input from @in, or the terminal where that is -1. */
static void terminal_run(struct __test_metadata *_metadata,
			 FIXTURE_DATA(terminal) * self, int in,
			 char *const *argv)
{
	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (self->pid)
		return;
	setsid();
	ioctl(self->slave, TIOCSCTTY, 0);
	dup2(in < 0 ? self->slave : in, 0);
	dup2(self->slave, 1);
	dup2(self->slave, 2);
	setenv("TERM", "xterm", 1);
	execvp(argv[0], argv);
	_exit(127);
}

#define RUN(in, ...) \
	terminal_run(_metadata, self, in, (char *const[]){ __VA_ARGS__, NULL })

/* Takes what has come; false: something that is not to come. */
static bool terminal_look(FIXTURE_DATA(terminal) * self)
{
	char buf[4096];
	bool ok = true;
	ssize_t n, i;

	while ((n = read(self->master, buf, sizeof(buf))) > 0)
		for (i = 0; i < n; i++)
			ok &= screen_put(&self->screen, buf[i]);
	return ok;
}

/* Looks until @cond holds. */
#define SEES(cond)                                                       \
	do {                                                             \
		EXPECT_TRUE(UMPSC_UNTIL(({                               \
			ASSERT_TRUE(terminal_look(self))                 \
			{                                                \
				TH_LOG("'%s'", self->screen.escape + 1); \
			}                                                \
			cond;                                            \
		})))                                                     \
		{                                                        \
			screen_show(_metadata, &self->screen);           \
		}                                                        \
	} while (0)

static void screen_show(struct __test_metadata *_metadata, struct screen *s)
{
	unsigned int i;

	for (i = 0; i < screen_used_rows(s); i++)
		TH_LOG("|%s|", screen_row(s, i));
}

static void type(FIXTURE_DATA(terminal) * self, const char *keys)
{
	if (write(self->master, keys, strlen(keys)) < 0)
		perror("typing");
}

/* What is drawn after this has been drawn later. */
static void forget(FIXTURE_DATA(terminal) * self)
{
	terminal_look(self);
	self->screen.frames = 0;
}

/* Another picture, the last of which is complete. */
static bool drawn(FIXTURE_DATA(terminal) * self)
{
	return self->screen.frames > 2;
}

static bool given_back(FIXTURE_DATA(terminal) * self)
{
	struct termios now;

	return !tcgetattr(self->slave, &now) &&
	       now.c_iflag == self->before.c_iflag &&
	       now.c_oflag == self->before.c_oflag &&
	       now.c_cflag == self->before.c_cflag &&
	       now.c_lflag == self->before.c_lflag &&
	       !memcmp(now.c_cc, self->before.c_cc, sizeof(now.c_cc)) &&
	       !self->screen.alternate && !self->screen.cursor_hidden;
}

static void name_of(unsigned int i, char *name)
{
	sprintf(name, "terminal%02u", i);
}

FIXTURE_SETUP(terminal)
{
	char name[32];
	unsigned int i;
	int tx;

	/* Each has one message more than the one before. */
	for (i = 0; i < NODES; i++) {
		unsigned int n;

		name_of(i, name);
		umpsc_node_remove(name);
		ASSERT_EQ(0, umpsc_node_create(name, UMPSC_STANDING, NULL));
		tx = ASSERT_FD(umpsc_open(name, O_WRONLY));
		for (n = 0; n < i; n++)
			EXPECT_WRITE(tx, "x");
		close(tx);
	}
	self->pid = -1;
}

FIXTURE_TEARDOWN(terminal)
{
	char name[32];
	unsigned int i;

	if (self->pid > 0) {
		kill(self->pid, SIGKILL);
		waitpid(self->pid, NULL, 0);
	}
	close(self->slave);
	close(self->master);
	for (i = 0; i < NODES; i++) {
		name_of(i, name);
		umpsc_node_remove(name);
	}
}

/* It has ended, with what wait() says. */
#define ENDS(status)                                                       \
	do {                                                               \
		int __status = -1;                                         \
		EXPECT_TRUE(UMPSC_UNTIL((terminal_look(self),              \
					 waitpid(self->pid, &__status,     \
						 WNOHANG) == self->pid))); \
		EXPECT_EQ(status, __status);                               \
		self->pid = -1;                                            \
		terminal_look(self);                                       \
	} while (0)

/* ---- top ------------------------------------------------------------------ */

TEST_LONG(terminal, top_draws_all_that_fits_and_says_what_does_not)
{
	terminal_open(_metadata, self, 24, 100);
	RUN(-1, "umpsc", "top", "-d", "100ms");
	SEES(drawn(self) && screen_find(&self->screen, "terminal11") == 3);
	EXPECT_TRUE(self->screen.alternate);
	EXPECT_EQ(2, screen_find(&self->screen, "NODE "));
	EXPECT_NE(NULL, strstr(screen_row(&self->screen, 0), "66 messages"));
	EXPECT_EQ(3 + NODES + 1, screen_used_rows(&self->screen));
	EXPECT_EQ(-1, screen_find(&self->screen, "... and"));
	type(self, "q");
	ENDS(0);
}

/* Another picture for a screen of that size, after any that were for another. */
static bool settles(FIXTURE_DATA(terminal) * self, unsigned int rows,
		    unsigned int columns)
{
	if (!terminal_look(self)) {
		screen_init(&self->screen, rows, columns);
		self->screen.alternate = true;
	}
	return drawn(self) && screen_used_rows(&self->screen) <= rows;
}

/* Larger, smaller, and too small for anything: never outside of what there is. */
TEST_LONG(terminal, top_follows_the_size_of_the_terminal)
{
	static const unsigned int sizes[][2] = {
		{ 10, 40 }, { 24, 80 }, { 4, 20 }, { 50, 150 }, { 1, 1 },
	};
	unsigned int rows, columns, i;

	terminal_open(_metadata, self, 24, 100);
	RUN(-1, "umpsc", "top", "-d", "100ms");
	SEES(drawn(self));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		rows = sizes[i][0];
		columns = sizes[i][1];
		set_size(self->master, rows, columns);
		screen_init(&self->screen, rows, columns);
		self->screen.alternate = true;
		ASSERT_TRUE(UMPSC_UNTIL(settles(self, rows, columns)))
		{
			TH_LOG("at %u by %u", rows, columns);
		}
		if (rows < 10)
			continue;
		EXPECT_EQ(3, screen_find(&self->screen, "terminal11"));
		EXPECT_EQ(rows > 3 + NODES + 1,
			  screen_find(&self->screen, "... and") < 0);
	}
	type(self, "q");
	EXPECT_EQ(0, umpsc_wait_child(self->pid));
	self->pid = -1;
}

TEST_LONG(terminal, top_sorts_by_the_first_letter_of_a_title)
{
	terminal_open(_metadata, self, 24, 100);
	RUN(-1, "umpsc", "top", "-d", "100ms");
	SEES(drawn(self) && screen_find(&self->screen, "terminal11") == 3);
	type(self, "n");
	SEES(screen_find(&self->screen, "umpsc ") == 3 &&
	     screen_find(&self->screen, "terminal00") == 4);
	type(self, "r");
	SEES(screen_find(&self->screen, "umpsc ") == 3 + NODES);
	EXPECT_NE(NULL, strstr(screen_row(&self->screen, 0), "by name"));
	type(self, "b");
	SEES(screen_find(&self->screen, "terminal11") == 3 + NODES);
	/* Keys that send a sequence, and those that mean nothing, change nothing. */
	type(self, "\033[A\033OPz\n");
	forget(self);
	SEES(drawn(self) &&
	     screen_find(&self->screen, "terminal11") == 3 + NODES);
	type(self, "q");
	ENDS(0);
	EXPECT_TRUE(given_back(self));
	/* Nothing was left on the screen that was there before. */
	EXPECT_EQ(0, self->screen.other_len);
}

TEST_LONG(terminal, top_gives_the_terminal_back_when_a_signal_ends_it)
{
	static const struct {
		int signal;
		const char *key;
	} ways[] = {
		{ SIGINT, "\003" },
		{ SIGQUIT, "\034" },
		{ SIGTERM, NULL },
		{ SIGHUP, NULL },
	};
	unsigned int i;

	terminal_open(_metadata, self, 24, 100);
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		forget(self);
		RUN(-1, "umpsc", "top", "-d", "100ms");
		SEES(drawn(self) && self->screen.alternate);
		if (ways[i].key)
			type(self, ways[i].key);
		else
			kill(self->pid, ways[i].signal);
		ENDS(ways[i].signal);
		EXPECT_TRUE(given_back(self));
	}
}

static bool stopped(pid_t pid)
{
	int status;

	return waitpid(pid, &status, WUNTRACED | WNOHANG) == pid &&
	       WIFSTOPPED(status);
}

TEST_LONG(terminal, top_goes_on_after_it_was_stopped)
{
	terminal_open(_metadata, self, 24, 100);
	RUN(-1, "umpsc", "top", "-d", "100ms");
	SEES(drawn(self));
	/* Of a session's only process group the key would not: it is an orphan. */
	kill(self->pid, SIGSTOP);
	ASSERT_TRUE(UMPSC_UNTIL(stopped(self->pid)));
	kill(self->pid, SIGCONT);
	forget(self);
	SEES(drawn(self));
	type(self, "\032");
	forget(self);
	SEES(drawn(self) && self->screen.alternate);
	type(self, "q");
	ENDS(0);
	EXPECT_TRUE(given_back(self));
}

TEST_LONG(terminal, top_ends_when_the_terminal_goes)
{
	terminal_open(_metadata, self, 24, 100);
	RUN(-1, "umpsc", "top", "-d", "100ms");
	SEES(drawn(self));
	close(self->slave);
	close(self->master);
	self->slave = -1;
	self->master = -1;
	/* By the signal, or as it can read no more. */
	EXPECT_NE(-1, umpsc_wait_child(self->pid));
	self->pid = -1;
}

/* ---- send ----------------------------------------------------------------- */

#define SEND_FIFO "/tmp/terminal.fifo"

/* The line is redrawn in place, and taken away in the end; also where a file is named. */
TEST_LONG(terminal, send_shows_its_progress_when_it_takes_long)
{
	int named, fifo, in, i;

	terminal_open(_metadata, self, 24, 100);
	for (named = 0; named < 2; named++) {
		unlink(SEND_FIFO);
		ASSERT_EQ(0, mkfifo(SEND_FIFO, 0600));
		fifo = open(SEND_FIFO, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fifo);
		in = open(SEND_FIFO, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, in);
		if (named)
			RUN(-1, "umpsc", "send", "terminal00", SEND_FIFO);
		else
			RUN(in, "umpsc", "send", "terminal00");
		close(in);
		for (i = 0; i < 40; i++) {
			EXPECT_WRITE(fifo, "a line of twenty by\n");
			umpsc_nap_ms(50);
			EXPECT_TRUE(terminal_look(self));
		}
		SEES(!screen_find(&self->screen, "terminal00: "));
		EXPECT_NE(NULL,
			  strstr(screen_row(&self->screen, 0), " messages, "));
		EXPECT_EQ(0, self->screen.row);
		close(fifo);
		ENDS(0);
		EXPECT_EQ(0, screen_used_rows(&self->screen));
		EXPECT_TRUE(given_back(self));
	}
	unlink(SEND_FIFO);
}

TEST_LONG(terminal, send_shows_nothing_when_quiet_or_typed_to)
{
	int pipe_fds[2], i;

	terminal_open(_metadata, self, 24, 100);
	ASSERT_EQ(0, pipe2(pipe_fds, O_CLOEXEC));
	RUN(pipe_fds[0], "umpsc", "send", "--quiet", "terminal00");
	close(pipe_fds[0]);
	for (i = 0; i < 20; i++) {
		EXPECT_WRITE(pipe_fds[1], "line\n");
		umpsc_nap_ms(60);
	}
	close(pipe_fds[1]);
	ENDS(0);
	EXPECT_EQ(0, self->screen.other_len);

	/* But for the echo of what is typed. */
	RUN(-1, "umpsc", "send", "terminal00");
	for (i = 0; i < 20; i++) {
		type(self, "line\n");
		umpsc_nap_ms(60);
	}
	type(self, "\004");
	ENDS(0);
	self->screen.other[self->screen.other_len] = '\0';
	EXPECT_EQ(NULL, strstr(self->screen.other, "messages"));
	EXPECT_EQ(20 * strlen("line\r\n"), self->screen.other_len);
}

TEST_HARNESS_MAIN
