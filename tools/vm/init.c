// SPDX-License-Identifier: MIT
/*
 * PID 1 of the test machine: prepares the system, loads the module, runs one
 * command, and reports how it ended.
 *
 * The four serial lines are the machine's only connection: ttyS0 is the kernel
 * log, ttyS1 and ttyS2 carry the command's output byte for byte, ttyS3 the end
 * marker.  The marker carries a nonce, so that output cannot imitate it, and
 * isa-debug-exit repeats the status as QEMU's exit code.
 *
 * /run.conf (written by tools/vm/run) is a list of NUL-terminated strings:
 * KEY=VALUE..., "--", and the command with its arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <net/if.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NORETURN __attribute__((noreturn))

#define DEBUG_EXIT_PORT 0xf4
#define DEBUG_EXIT_FAILED 0x3f

/* For what is left in the pipes of a command once all that it began has ended. */
#define DRAIN_SECONDS 60

struct config {
	const char *nonce;
	const char *params;
	const char *term;
	const char *slow;
	bool load;
	bool interactive;
	struct winsize size;
	char **argv;
};

struct pump {
	pthread_t thread;
	int from;
	int to;
	char data[65536];
};

static int marker_fd = -1;
static struct config conf;

/* Never what QEMU would return by itself. */
static int debug_exit_status(int status)
{
	return 0x40 | (status & 0x3f);
}

/* Nothing may be left in the UART when QEMU is told to exit. */
static void tty_drain(int fd)
{
	unsigned int lsr;

	tcdrain(fd);
	while (!ioctl(fd, TIOCSERGETLSR, &lsr) && !(lsr & TIOCSER_TEMT))
		usleep(1000);
}

static void NORETURN machine_exit(int code)
{
	if (marker_fd >= 0)
		tty_drain(marker_fd);
	if (!ioperm(DEBUG_EXIT_PORT, 1, 1))
		outb(code, DEBUG_EXIT_PORT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void NORETURN __attribute__((format(printf, 1, 2)))
fail(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "init: %s\n", text);
	if (marker_fd >= 0)
		dprintf(marker_fd, "FAIL %s %s\n", conf.nonce, text);
	machine_exit(DEBUG_EXIT_FAILED);
}

/*
 * The line's interrupt as tools/vm/run has wired it: a kernel without ACPI takes the
 * one that was usual.  The file that changed it is of no more use.
 */
static void tty_set_irq(const char *path)
{
	static const int irqs[] = { 4, 3, 6, 7 };
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	int irq = irqs[path[strlen(path) - 1] - '0'];
	struct serial_struct serial;

	if (fd < 0 || ioctl(fd, TIOCGSERIAL, &serial))
		fail("%s: %s", path, strerror(errno));
	if (serial.irq != irq) {
		serial.irq = irq;
		if (ioctl(fd, TIOCSSERIAL, &serial))
			fail("%s: interrupt %d: %s", path, irq,
			     strerror(errno));
	}
	close(fd);
}

static int tty_open(const char *path, bool raw)
{
	struct termios tio;
	int fd;

	tty_set_irq(path);
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	if (tcgetattr(fd, &tio))
		fail("%s: %s", path, strerror(errno));
	if (raw)
		cfmakeraw(&tio);
	tio.c_cflag |= CLOCAL;
	cfsetspeed(&tio, B115200);
	if (tcsetattr(fd, TCSANOW, &tio))
		fail("%s: %s", path, strerror(errno));
	return fd;
}

static void config_read(void)
{
	static char text[65536];
	static char *args[1024];
	char *key, *end, *value;
	ssize_t len;
	int fd, n = 0;

	fd = open("/run.conf", O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (len <= 0 || len == sizeof(text) || text[len - 1])
		fail("/run.conf is missing or too long");
	close(fd);
	unlink("/run.conf");

	end = text + len;
	for (key = text; key < end && strcmp(key, "--");
	     key = value + strlen(value) + 1) {
		value = strchr(key, '=');
		if (!value)
			fail("/run.conf: %s", key);
		*value++ = '\0';
		if (!strcmp(key, "nonce"))
			conf.nonce = value;
		else if (!strcmp(key, "params"))
			conf.params = value;
		else if (!strcmp(key, "term"))
			conf.term = value;
		else if (!strcmp(key, "slow"))
			conf.slow = value;
		else if (!strcmp(key, "load"))
			conf.load = atoi(value);
		else if (!strcmp(key, "interactive"))
			conf.interactive = atoi(value);
		else if (!strcmp(key, "rows"))
			conf.size.ws_row = atoi(value);
		else if (!strcmp(key, "cols"))
			conf.size.ws_col = atoi(value);
		else
			fail("/run.conf: %s", key);
	}
	for (key += 3; key < end && n < 1023; key += strlen(key) + 1)
		args[n++] = key;
	if (!n || key < end)
		fail("no command, or too many arguments");
	conf.argv = args;
}

static void mount_one(const char *type, const char *path, const char *data)
{
	mkdir(path, 0755);
	/* A kernel built without one of them is no failure of this machine. */
	if (mount(type, path, type, MS_NOSUID, data) && errno != ENODEV &&
	    errno != ENOENT)
		fail("mount %s: %s", path, strerror(errno));
}

static void system_prepare(void)
{
	struct ifreq lo = { .ifr_name = "lo",
			    .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd;

	mount_one("proc", "/proc", NULL);
	mount_one("sysfs", "/sys", NULL);
	mount_one("devpts", "/dev/pts", "ptmxmode=0666,mode=0620,gid=5");
	mount_one("tmpfs", "/dev/shm", "mode=1777");
	mount_one("tmpfs", "/tmp", "mode=1777");
	mount_one("tmpfs", "/run", "mode=0755");
	mount_one("mqueue", "/dev/mqueue", NULL);
	mount_one("debugfs", "/sys/kernel/debug", NULL);
	mount_one("tracefs", "/sys/kernel/tracing", NULL);
	mount_one("cgroup2", "/sys/fs/cgroup", NULL);
	if (symlink("/proc/self/fd", "/dev/fd") ||
	    symlink("/proc/self/fd/0", "/dev/stdin") ||
	    symlink("/proc/self/fd/1", "/dev/stdout") ||
	    symlink("/proc/self/fd/2", "/dev/stderr"))
		fail("/dev/fd: %s", strerror(errno));

	if (sethostname("umpsc", 5))
		fail("hostname: %s", strerror(errno));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		ioctl(fd, SIOCSIFFLAGS, &lo);
		close(fd);
	}
}

static void module_load(void)
{
	int fd = open("/umpsc.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0 ||
	    syscall(SYS_finit_module, fd, conf.params ? conf.params : "", 0))
		fail("loading umpsc.ko: %s", strerror(errno));
	close(fd);
}

static void write_all(int fd, const char *data, size_t len)
{
	ssize_t n;

	for (; len; data += n, len -= n) {
		n = write(fd, data, len);
		if (n < 0 && errno != EINTR)
			fail("serial line: %s", strerror(errno));
		if (n < 0)
			n = 0;
	}
}

static void *pump_run(void *arg)
{
	struct pump *pump = arg;
	ssize_t n;

	while ((n = read(pump->from, pump->data, sizeof(pump->data))) > 0)
		write_all(pump->to, pump->data, n);
	tty_drain(pump->to);
	return NULL;
}

static void NORETURN command_exec(int in, int out, int err)
{
	sigset_t none;

	setsid();
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	if (conf.interactive) {
		ioctl(0, TIOCSCTTY, 1);
		if (conf.size.ws_row)
			ioctl(0, TIOCSWINSZ, &conf.size);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(conf.argv[0], conf.argv);
	dprintf(2, "%s: %s\n", conf.argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* The status of @pid; everything else that dies meanwhile is only buried. */
static int reap_until(pid_t pid)
{
	int status;
	pid_t got;

	for (;;) {
		got = wait(&status);
		if (got == pid)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
						     WEXITSTATUS(status);
		if (got < 0 && errno == ECHILD)
			return 0;
	}
}

static int command_run(void)
{
	static struct pump pumps[2];
	int pipes[2][2], status, tty, i;
	struct timespec end;
	pid_t pid;

	if (conf.interactive) {
		tty = tty_open("/dev/ttyS1", false);
		pid = fork();
		if (!pid)
			command_exec(tty, tty, tty);
		if (pid < 0)
			fail("fork: %s", strerror(errno));
		status = reap_until(pid);
		kill(-1, SIGKILL);
		reap_until(0);
		tty_drain(tty);
		return status;
	}

	for (i = 0; i < 2; i++)
		if (pipe2(pipes[i], O_CLOEXEC))
			fail("pipe: %s", strerror(errno));
	pid = fork();
	if (!pid)
		command_exec(open("/dev/null", O_RDONLY | O_CLOEXEC),
			     pipes[0][1], pipes[1][1]);
	if (pid < 0)
		fail("fork: %s", strerror(errno));
	for (i = 0; i < 2; i++) {
		close(pipes[i][1]);
		pumps[i].from = pipes[i][0];
		pumps[i].to = tty_open(i ? "/dev/ttyS2" : "/dev/ttyS1", true);
		if (pthread_create(&pumps[i].thread, NULL, pump_run, &pumps[i]))
			fail("no thread");
	}
	status = reap_until(pid);
	/* What the command left behind would hold the pipes open. */
	kill(-1, SIGKILL);
	reap_until(0);
	/* A kernel that lost a file of theirs holds them open for ever. */
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += DRAIN_SECONDS;
	for (i = 0; i < 2; i++)
		pthread_timedjoin_np(pumps[i].thread, NULL, &end);
	return status;
}

static void kmemleak_scan(int fd)
{
	if (write(fd, "scan", 4) != 4)
		fail("kmemleak: %s", strerror(errno));
}

/*
 * Where the kernel looks for memory that nothing points to any more, it says in its
 * log if there is some, which is a failure of the run; this adds what it is.  It
 * believes two scans, and nothing of what is younger than 5 seconds.
 */
static void leaks_report(void)
{
	int fd = open("/sys/kernel/debug/kmemleak", O_RDWR | O_CLOEXEC);
	char line[512];
	FILE *report;
	int log;

	if (fd < 0)
		return;
	/* What is left of the module would hide what it has lost; unless it is in use. */
	syscall(SYS_delete_module, "umpsc", O_NONBLOCK);
	kmemleak_scan(fd);
	sleep(6);
	kmemleak_scan(fd);
	/* Where the kernel's own log goes; /dev/kmsg would drop most of it. */
	log = tty_open("/dev/ttyS0", false);
	report = fdopen(fd, "r");
	if (!report)
		fail("kmemleak: %s", strerror(errno));
	while (fgets(line, sizeof(line), report))
		dprintf(log, "%s", line);
	fclose(report);
	tty_drain(log);
	close(log);
}

int main(void)
{
	int status;

	mkdir("/dev", 0755);
	/* EBUSY: the kernel has mounted it already (CONFIG_DEVTMPFS_MOUNT). */
	if (mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL) &&
	    errno != EBUSY)
		fail("mount /dev: %s", strerror(errno));
	config_read();
	marker_fd = tty_open("/dev/ttyS3", true);
	umask(022);
	system_prepare();
	setenv("PATH", "/t:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", conf.term ? conf.term : "dumb", 1);
	setenv("UMPSC_SLOW", conf.slow ? conf.slow : "1", 1);
	if (chdir("/t"))
		fail("/t: %s", strerror(errno));
	if (conf.load)
		module_load();

	status = command_run();
	leaks_report();
	dprintf(marker_fd, "END %s %d\n", conf.nonce, status);
	machine_exit(debug_exit_status(status));
}
