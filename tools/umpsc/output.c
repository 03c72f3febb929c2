// SPDX-License-Identifier: MIT
/*
 * Received messages, on their way to standard output
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "human.h"
#include "json.h"
#include "output.h"
#include "root.h"

/* A clock on the wall that goes another way by so much was set. */
#define WALL_MOVED_NS ((int64_t)NSEC_PER_SEC)

bool output_is_stream(void)
{
	struct stat st;

	return fstat(STDOUT_FILENO, &st) || !S_ISREG(st.st_mode);
}

/* ---- JSON ---------------------------------------------------------------- */

/* What this time namespace has added to CLOCK_MONOTONIC, in ns; it never changes. */
static int64_t monotonic_offset(void)
{
	static int64_t offset;
	static bool known;
	long long s = 0, ns = 0;
	char *text, *line;

	if (known)
		return offset;
	known = true;
	text = root_read("/proc/self/timens_offsets", NULL);
	line = text ? strstr(text, "monotonic") : NULL;
	if (line && sscanf(line, "monotonic %lld %lld", &s, &ns) == 2)
		offset = s * (int64_t)NSEC_PER_SEC + ns;
	free(text);
	return offset;
}

/*
 * What is to be added to a message's time for the clock on the wall.  The same for
 * all messages, unless somebody sets that clock.
 */
static int64_t wall_offset(void)
{
	static int64_t offset;
	int64_t now = clock_ns(CLOCK_REALTIME) - now_ns() + monotonic_offset();
	int64_t moved = now - offset;

	if (moved > WALL_MOVED_NS || moved < -WALL_MOVED_NS)
		offset = now;
	return offset;
}

/* When it was sent: RFC 3339. */
static void add_time(struct json *json, uint64_t time_ns)
{
	struct timespec ts = ns_timespec(time_ns + wall_offset());
	char date[64], text[80];
	struct tm tm;

	gmtime_r(&ts.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%09ldZ", date, ts.tv_nsec);
	json_text(json, "time", text);
	json_number(json, "time_ns", time_ns);
}

static void add_json(const struct output *output, FILE *out,
		     const struct umpsc_message *m)
{
	struct json json = { .out = out };

	json_open(&json, NULL, '{');
	json_number(&json, "generation", output->generation);
	json_number(&json, "seq", m->seq);
	json_number(&json, "sender", m->sender);
	if (output->flags & UMPSC_TIMESTAMP)
		add_time(&json, m->time_ns);
	if (output->flags & UMPSC_CREDS) {
		json_number(&json, "pid", m->creds.pid);
		json_number(&json, "uid", m->creds.uid);
		json_number(&json, "gid", m->creds.gid);
	}
	if (m->flags & UMPSC_REST)
		json_bool(&json, "rest", true);
	json_bytes(&json, "data", "data_base64", m->data, m->len);
	json_close(&json, '}');
	fputc('\n', out);
}

/* ---- What is to be written ----------------------------------------------- */

static void add_framed(const struct output *output, FILE *out,
		       const struct umpsc_message *m)
{
	const char *data = m->data;
	unsigned char prefix[FRAMING_PREFIX] = {
		m->len >> 24,
		m->len >> 16,
		m->len >> 8,
		m->len,
	};

	if (output->framing == FRAMING_PREFIXED)
		fwrite(prefix, 1, sizeof(prefix), out);
	fwrite(data, 1, m->len, out);
	if (output->framing == FRAMING_NUL)
		fputc('\0', out);
	if (output->framing == FRAMING_LINES &&
	    (!m->len || data[m->len - 1] != '\n'))
		fputc('\n', out);
}

void output_add(struct output *output, const struct umpsc_message *m)
{
	if (!output->stream)
		output->stream = open_memstream(&output->text, &output->len);
	if (!output->stream)
		die(STATUS_FAILED, "no memory");
	if (output->framing == FRAMING_JSON)
		add_json(output, output->stream, m);
	else
		add_framed(output, output->stream, m);
	if (fflush(output->stream))
		die(STATUS_FAILED, "no memory");
	output->ends =
		array_grow(output->ends, output->count, sizeof(*output->ends));
	output->ends[output->count++] = output->len;
}

/* ---- Writing ------------------------------------------------------------- */

static bool write_all(int fd, const char *text, size_t len)
{
	ssize_t n;

	for (; len; text += n, len -= n) {
		n = write(fd, text, len);
		if (n < 0 && errno != EINTR)
			return false;
		if (n < 0)
			n = 0;
	}
	return true;
}

void output_save(struct output *output, size_t from, const char *why)
{
	size_t start = from ? output->ends[from - 1] : 0;
	unsigned long left = output->count - from;
	const char *dir = getenv("TMPDIR");
	char *path;
	int fd;

	path = text_format("%s/umpsc-recv.XXXXXX", dir ? dir : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0 &&
	    write_all(fd, output->text + start, output->len - start) &&
	    !close(fd))
		say("%lu received %s not written (%s), but saved in %s", left,
		    human_plural(left, "message was", "messages were"), why,
		    path);
	else
		say("%lu received %s lost: not written (%s), and not saved in %s (%s)",
		    left, human_plural(left, "message is", "messages are"), why,
		    path, strerror(errno));
	free(path);
}

static void output_clear(struct output *output)
{
	output->count = 0;
	output->len = 0;
	if (output->stream)
		rewind(output->stream);
}

/* Write what has room; it waits only until there is some, or @signals is readable. */
static ssize_t write_some(const char *text, size_t len, int signals)
{
	struct pollfd fds[] = {
		{ .fd = STDOUT_FILENO, .events = POLLOUT },
		{ .fd = signals, .events = POLLIN },
	};

	if (output_is_stream()) {
		if (poll(fds, 2, -1) < 0)
			return -1;
		if (!fds[0].revents) {
			errno = EINTR;
			return -1;
		}
		/* So much a pipe takes at once, if it takes anything. */
		if (len > PIPE_BUF)
			len = PIPE_BUF;
	}
	return write(STDOUT_FILENO, text, len);
}

int output_write(struct output *output, int signals)
{
	size_t written = 0, whole = 0;
	int error = 0;
	ssize_t n;

	while (written < output->len && !error) {
		n = write_some(output->text + written, output->len - written,
			       signals);
		if (n >= 0)
			written += n;
		else if (errno != EAGAIN)
			error = errno;
	}
	while (whole < output->count && output->ends[whole] <= written)
		whole++;
	if (whole < output->count)
		output_save(output, whole, strerror(error));
	output_clear(output);
	return error;
}
