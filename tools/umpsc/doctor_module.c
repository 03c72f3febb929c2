// SPDX-License-Identifier: MIT
/*
 * umpsc doctor: the kernel, the module, its installation and signature
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "ko.h"
#include "node.h"
#include "root.h"

#define DKMS "/var/lib/dkms/umpsc"
#define DKMS_KEY "/var/lib/dkms/mok.pub"
#define EFIVARS "/sys/firmware/efi/efivars/"
#define SECURE_BOOT EFIVARS "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define MOK_LIST EFIVARS "MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"

/* An EFI variable has its attributes ahead of its value. */
#define EFIVAR_HEAD 4

/**
 * struct module - what is known of the module
 * @release: of the running kernel
 * @loaded: it is loaded
 * @path: of its file for this kernel, or NULL
 * @image: what is in there, or NULL where it cannot be read
 * @len: bytes of it
 * @dkms: version of the sources that DKMS has, or NULL
 * @dkms_built: these were built for this kernel
 */
struct module {
	char *release;
	bool loaded;
	char *path;
	char *image;
	size_t len;
	char *dkms;
	bool dkms_built;
};

/* ---- Learning ------------------------------------------------------------- */

/* The version that DKMS has the sources of: that of the last in the alphabet. */
static char *dkms_version(void)
{
	DIR *dir = root_opendir(DKMS);
	struct dirent *entry;
	char *last = NULL, *source;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		source = text_format(DKMS "/%s/source", entry->d_name);
		/* Beside versions there are links to what is built. */
		if (entry->d_name[0] != '.' && !root_lstat(source, &st) &&
		    (!last || strverscmp(entry->d_name, last) > 0)) {
			free(last);
			last = text_copy(entry->d_name);
		}
		free(source);
	}
	if (dir)
		closedir(dir);
	return last;
}

static struct module module_learn(void)
{
	struct module m = { .loaded = module_loaded() };
	char *path;

	m.release = root_line("/proc/sys/kernel/osrelease");
	if (!m.release)
		m.release = text_copy("");
	path = text_format("/lib/modules/%s", m.release);
	m.path = ko_find(path);
	free(path);
	if (m.path)
		m.image = ko_read(m.path, &m.len);
	m.dkms = dkms_version();
	if (m.dkms) {
		path = text_format(DKMS "/%s/%s", m.dkms, m.release);
		m.dkms_built = root_exists(path);
		free(path);
	}
	return m;
}

/* ---- The kernel ----------------------------------------------------------- */

static void check_kernel(const struct module *m)
{
	unsigned int major = 0, minor = 0;

	if (sscanf(m->release, "%u.%u", &major, &minor) == 2 &&
	    (major < 6 || (major == 6 && minor < 1))) {
		check_found(PROBLEM, "kernel-too-old",
			    "Linux %s is too old for umpsc", m->release);
		check_remedy("use Linux 6.1 or newer");
		return;
	}
	check_ok("Linux %s", m->release);
}

/* ---- Built and installed --------------------------------------------------- */

static void check_headers(const struct module *m)
{
	char *makefile =
		text_format("/lib/modules/%s/build/Makefile", m->release);
	bool there = root_exists(makefile);

	free(makefile);
	if (there) {
		check_ok("kernel headers are installed");
		return;
	}
	/* Who neither builds it now nor has DKMS build it needs none. */
	if (m->path && !m->dkms)
		return;
	check_found(m->path ? WARNING : PROBLEM, "no-headers",
		    "the headers of Linux %s are missing", m->release);
	check_remedy("nothing is built without them, by DKMS neither:");
	check_remedy("apt install linux-headers-%s", m->release);
	check_remedy("apt install linux-headers-amd64, for later kernels");
}

static void check_dkms(const struct module *m)
{
	char *log;

	if (!m->dkms)
		return;
	if (m->dkms_built) {
		check_ok("DKMS has built version %s for this kernel", m->dkms);
		return;
	}
	log = text_format(DKMS "/%s/build/make.log", m->dkms);
	if (root_exists(log)) {
		check_found(PROBLEM, "dkms-failed",
			    "DKMS could not build version %s", m->dkms);
		check_remedy("see why in %s", log);
	} else {
		check_found(PROBLEM, "dkms-not-built",
			    "DKMS has version %s, but not built for Linux %s",
			    m->dkms, m->release);
	}
	check_remedy("dkms install umpsc/%s -k %s", m->dkms, m->release);
	free(log);
}

/* Does modprobe(8) know of it? */
static bool in_modules_dep(const struct module *m)
{
	char *path = text_format("/lib/modules/%s/modules.dep", m->release);
	char *text = root_read(path, NULL), *line, *rest = text, *name;
	bool found = false;

	free(path);
	while (rest && !found && (line = strsep(&rest, "\n"))) {
		line[strcspn(line, ":")] = '\0';
		name = strrchr(line, '/');
		found = ko_name(name ? name + 1 : line);
	}
	free(text);
	return found;
}

static void check_installed(const struct module *m)
{
	if (!m->path) {
		check_found(m->loaded ? WARNING : PROBLEM, "not-installed",
			    "no umpsc.ko in /lib/modules/%s", m->release);
		check_remedy("make && sudo make modules_install");
		check_remedy("or let DKMS do it, for later kernels too");
	} else if (!in_modules_dep(m)) {
		check_found(PROBLEM, "no-depmod",
			    "modprobe does not know of %s", m->path);
		check_remedy("depmod");
	} else {
		check_ok("installed: %s", m->path);
	}
}

/* ---- Configuration --------------------------------------------------------- */

/* Does @text have a line that begins with these words, NULL behind the last? */
static bool has_line(char *text, const char *const *words)
{
	char *line, *rest, *word;
	size_t i;

	while ((line = strsep(&text, "\n"))) {
		word = strtok_r(line, " \t", &rest);
		for (i = 0; words[i] && word && !strcmp(word, words[i]); i++)
			word = strtok_r(NULL, " \t", &rest);
		if (!words[i])
			return true;
	}
	return false;
}

static bool file_has_line(const char *path, const char *const *words)
{
	char *text = root_read(path, NULL);
	bool has = text && has_line(text, words);

	free(text);
	return has;
}

/* Others in the same directory, as those that dpkg leaves there, nobody reads. */
static bool is_conf(const char *name)
{
	const char *end = strrchr(name, '.');

	return name[0] != '.' && end && !strcmp(end, ".conf");
}

/* The file of the configuration in NAME.d that has such a line, allocated, or NULL. */
static char *configured(const char *name, const char *const *words)
{
	static const char *const places[] = { "/etc", "/run", "/usr/lib",
					      "/lib" };
	char *dir, *path, *found = NULL;
	struct dirent *entry;
	DIR *stream;
	size_t i;

	for (i = 0; i < 4 && !found; i++) {
		dir = text_format("%s/%s.d", places[i], name);
		stream = root_opendir(dir);
		while (stream && !found && (entry = readdir(stream))) {
			path = text_format("%s/%s", dir, entry->d_name);
			if (is_conf(entry->d_name) &&
			    file_has_line(path, words))
				found = path;
			else
				free(path);
		}
		if (stream)
			closedir(stream);
		free(dir);
	}
	return found;
}

static void check_blacklist(void)
{
	static const char *const lines[][4] = {
		{ "blacklist", "umpsc" },
		{ "install", "umpsc", "/bin/false" },
		{ "install", "umpsc", "/bin/true" },
	};
	char *path = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lines) && !path; i++)
		path = configured("modprobe", lines[i]);
	if (path) {
		check_found(PROBLEM, "blacklisted",
			    "%s keeps the module from being loaded%s", path,
			    i == 1 ? " at boot" : "");
		check_remedy("take its line about umpsc out of it");
	}
	free(path);
}

static void check_boot(void)
{
	static const char *const line[] = { "umpsc", NULL };
	char *path = configured("modules-load", line);

	if (!path && file_has_line("/etc/modules", line))
		path = text_copy("/etc/modules");
	if (path) {
		check_ok("loaded at boot: %s", path);
	} else {
		check_found(WARNING, "not-at-boot",
			    "the module is not loaded at boot");
		check_remedy("echo umpsc > /etc/modules-load.d/umpsc.conf");
	}
	free(path);
}

/* ---- Signature -------------------------------------------------------------- */

/* What makes the kernel refuse unsigned modules, or NULL. */
static const char *enforced_by(void)
{
	size_t len = 0;
	char *text = root_read(SECURE_BOOT, &len);
	bool on = text && len > EFIVAR_HEAD && text[EFIVAR_HEAD] == 1;

	free(text);
	if (on)
		return "Secure Boot is on";
	text = root_line("/sys/module/module/parameters/sig_enforce");
	on = text && *text == 'Y';
	free(text);
	if (on)
		return "module.sig_enforce is set";
	text = root_line("/sys/kernel/security/lockdown");
	on = text &&
	     (strstr(text, "[integrity]") || strstr(text, "[confidentiality]"));
	free(text);
	return on ? "the kernel is locked down" : NULL;
}

/* DKMS signs with a key of its own, which the firmware has to be told of. */
static bool dkms_key_unknown(void)
{
	size_t key_len = 0, list_len = 0;
	char *key = root_read(DKMS_KEY, &key_len);
	char *list = root_read(MOK_LIST, &list_len);
	bool unknown;

	unknown = key && key_len &&
		  (!list || !memmem(list, list_len, key, key_len));
	free(list);
	free(key);
	return unknown;
}

static void check_signature(const struct module *m)
{
	const char *why = enforced_by();

	if (!why) {
		check_ok("the kernel takes unsigned modules");
	} else if (m->image && !ko_signed(m->image, m->len)) {
		check_found(PROBLEM, "not-signed", "%s, and %s is not signed",
			    why, m->path);
		if (m->dkms)
			check_remedy("dkms install --force umpsc/%s -k %s",
				     m->dkms, m->release);
		check_remedy("scripts/sign-file sha256 KEY CERTIFICATE %s",
			     m->path);
	} else if (m->image && !m->loaded && dkms_key_unknown()) {
		check_found(PROBLEM, "key-not-enrolled",
			    "%s, and the key of DKMS is not enrolled", why);
		check_remedy("mokutil --import " DKMS_KEY);
		check_remedy("reboot, and choose 'Enroll MOK' ahead of Linux");
	} else if (m->image) {
		check_ok("%s, and the module is signed", why);
	}
}

/* ---- Loaded ------------------------------------------------------------------ */

/* The one that is loaded may be older than the one that is installed. */
static void check_loaded_version(const struct module *m)
{
	char *loaded = root_line("/sys/module/umpsc/srcversion");
	char *version = root_line("/sys/module/umpsc/version");
	char *installed = NULL;

	if (m->image)
		installed = ko_info(m->image, m->len, "srcversion");
	if (loaded && installed && strcmp(loaded, installed)) {
		check_found(WARNING, "other-module-loaded",
			    "the module that is loaded is not that of %s",
			    m->path);
		check_remedy("modprobe -r umpsc && modprobe umpsc");
		check_remedy("'umpsc holders' shows who uses it; or reboot");
	} else {
		check_ok("loaded, version %s", version ? version : "unknown");
	}
	if (version && strcmp(version, VERSION)) {
		check_found(WARNING, "other-command",
			    "the command is %s, the loaded module %s", VERSION,
			    version);
		check_remedy("install both from one source");
	}
	free(installed);
	free(version);
	free(loaded);
}

static void check_loaded(const struct module *m)
{
	if (m->loaded) {
		check_loaded_version(m);
	} else if (m->path) {
		check_found(PROBLEM, "not-loaded", "the module is not loaded");
		check_remedy("modprobe umpsc");
	}
	/* Else it cannot be, as has been said. */
}

void check_module(void)
{
	struct module m = module_learn();

	check_kernel(&m);
	check_headers(&m);
	check_dkms(&m);
	check_installed(&m);
	check_blacklist();
	check_signature(&m);
	check_loaded(&m);
	if (m.path)
		check_boot();
	free(m.dkms);
	free(m.image);
	free(m.path);
	free(m.release);
}
