/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings, and what follows from it: parsing, checking, printing and help. */
#include "daemon/config.h"

#include "base/ipv4.h"
#include "base/parse.h"
#include "base/str.h"
#include "daemon/address.h"
#include "daemon/program.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	CONFIG_PATH_MAX = 255,
	DOMAIN_MAX = 200, /* a label of a port and an id comes before it */
	/* A range holds at least one instance's block of 1024 addresses, and is no whole class A.
	 */
	PREFIX_MIN = 8,
	PREFIX_MAX = 22,
	TIB_IN_MIB = 1024 * 1024,
};

enum setting_type {
	SETTING_TEXT,
	SETTING_PATH,
	SETTING_CHOICE,
	SETTING_LOG_LEVEL,
	SETTING_NUMBER,
	SETTING_SIZE,
	SETTING_NETWORK,
	SETTING_ADDRESS,
	SETTING_DOMAIN,
};

struct setting {
	const char *key;
	enum setting_type type;
	const char *def; /* "" = may be left empty */
	const char *help;
	size_t offset;
	uint64_t min; /* of numbers, and of sizes in MiB */
	uint64_t max;
	const char *choices; /* "a|b" */
	bool hidden;
};

#define FIELD(name) .offset = offsetof(struct config, name)

static const struct setting settings[] = {
	{ "state_dir", SETTING_PATH, "/var/lib/vivarium",
	  "where sandboxes, templates, kernels and the store are kept", FIELD(state_dir) },
	{ "run_dir", SETTING_PATH, "/run/vivarium",
	  "what does not outlive a boot: sockets, logs and handles of running VMs",
	  FIELD(run_dir) },
	{ "socket", SETTING_PATH, "", "unix socket of the API; empty: vivd.sock in run_dir",
	  FIELD(socket) },
	{ "log_level", SETTING_LOG_LEVEL, "info", "the least urgent messages that are logged",
	  FIELD(log_level), .choices = "error|warning|info|debug" },
	{ "vmm", SETTING_CHOICE, "qemu", "virtual machine monitor", FIELD(vmm), .choices = "qemu" },
	{ "vmm_binary", SETTING_PATH, "", "its program; empty: found by its name",
	  FIELD(vmm_binary) },
	{ "acceleration", SETTING_CHOICE, "auto",
	  "auto: kvm once a probe VM has reached userspace under it, else tcg", FIELD(acceleration),
	  .choices = "auto|tcg|kvm" },
	{ "disk", SETTING_CHOICE, "qcow2", "how disks are layered over their template", FIELD(disk),
	  .choices = "qcow2" },
	{ "default_cpus", SETTING_NUMBER, "1", "CPUs of a sandbox that does not say",
	  FIELD(default_cpus), .min = 1, .max = 255 },
	{ "max_cpus", SETTING_NUMBER, "64", "most CPUs of a sandbox", FIELD(max_cpus), .min = 1,
	  .max = 255 },
	{ "default_memory", SETTING_SIZE, "512M", "memory of a sandbox that does not say",
	  FIELD(default_memory_mib), .min = 64, .max = 64 * (uint64_t)TIB_IN_MIB },
	{ "max_memory", SETTING_SIZE, "0", "most memory of a sandbox; 0: what the host has",
	  FIELD(max_memory_mib), .max = 64 * (uint64_t)TIB_IN_MIB },
	{ "default_disk", SETTING_SIZE, "5G", "disk of a sandbox that does not say",
	  FIELD(default_disk_mib), .min = 64, .max = 16 * (uint64_t)TIB_IN_MIB },
	{ "agent_start_timeout_s", SETTING_NUMBER, "30",
	  "seconds until a guest that does not answer counts as failed",
	  FIELD(agent_start_timeout_s), .min = 1, .max = 3600 },
	{ "tcg_timeout_factor", SETTING_NUMBER, "3", "that much longer without KVM",
	  FIELD(tcg_timeout_factor), .min = 1, .max = 100 },
	{ "agent_probe_s", SETTING_NUMBER, "30",
	  "seconds after which the agent of a sandbox that runs is asked whether it is well; 0: "
	  "never",
	  FIELD(agent_probe_s), .max = 3600 },
	{ "agent_probe_timeout_s", SETTING_NUMBER, "10",
	  "seconds that it has to answer; the third time that it does not, it counts as hung",
	  FIELD(agent_probe_timeout_s), .min = 1, .max = 3600 },
	{ "kvm_probe_timeout_s", SETTING_NUMBER, "8",
	  "seconds in which a probe VM has to reach userspace under kvm",
	  FIELD(kvm_probe_timeout_s), .min = 1, .max = 3600 },
	{ "pause_drain_ms", SETTING_NUMBER, "5000",
	  "milliseconds that requests into a sandbox get to end before it is paused; 0: none",
	  FIELD(pause_drain_ms), .max = 60000 },
	{ "pause_parallel", SETTING_NUMBER, "4",
	  "pauses at the same time, of those at deadlines and of all sandboxes at once",
	  FIELD(pause_parallel), .min = 1, .max = 128 },
	{ "network_range", SETTING_NETWORK, "10.11.0.0/16",
	  "IPv4 range of the host-side addresses of sandboxes", FIELD(network_addr) },
	{ "slot_pool", SETTING_NUMBER, "4",
	  "network slots that are kept ready for the next sandboxes; 0: none", FIELD(slot_pool),
	  .max = 64 },
	{ "warm_images", SETTING_NUMBER, "4",
	  "images of a booted VM that are kept of each template, so that creates need not boot; 0: "
	  "none",
	  FIELD(warm_images), .max = 64 },
	{ "warm_behind", SETTING_CHOICE, "on",
	  "whether an image is made in the background after a create that had to boot",
	  FIELD(warm_behind), .choices = "on|off" },
	{ "pool_memory", SETTING_SIZE, "0",
	  "most memory of all sandboxes that are kept ready (viv template pool); 0: a quarter of "
	  "the host's",
	  FIELD(pool_memory_mib), .max = 64 * (uint64_t)TIB_IN_MIB },
	{ "memory_overcommit", SETTING_NUMBER, "4",
	  "a sandbox is counted as what it takes, and at least that part of its memory; 1: all of "
	  "it",
	  FIELD(memory_overcommit), .min = 1, .max = 100 },
	{ "memory_reserve", SETTING_SIZE, "0",
	  "memory that is left to the host; 0: a twentieth of what it has, at most 512M",
	  FIELD(memory_reserve_mib), .max = 64 * (uint64_t)TIB_IN_MIB },
	{ "disk_reserve", SETTING_SIZE, "0",
	  "room on the disk below which nothing is made; 0: a twentieth of it, at most 1G",
	  FIELD(disk_reserve_mib), .max = 64 * (uint64_t)TIB_IN_MIB },
	{ "vmm_uid_base", SETTING_NUMBER, "1879048192",
	  "first of the user ids that VMMs run as; nobody else may use those that follow",
	  FIELD(vmm_uid_base), .min = 65536, .max = 0xf0000000 },
	{ "worker_threads", SETTING_NUMBER, "16", "operations on sandboxes at the same time",
	  FIELD(worker_threads), .min = 1, .max = 128 },
	{ "agent", SETTING_PATH, "", "the guest agent's program; empty: the one of this vivd",
	  FIELD(agent) },
	{ "root_free_mib", SETTING_SIZE, "512",
	  "room that prepare leaves in the base template, MiB", FIELD(root_free_mib), .min = 16,
	  .max = TIB_IN_MIB },
	{ "listen", SETTING_ADDRESS, "",
	  "TCP address that serves API and sandboxes beside the socket, to who has an API key; "
	  "empty: none",
	  FIELD(listen) },
	{ "listen_public", SETTING_CHOICE, "off",
	  "whether listen and proxy_listen may be addresses that other machines reach, without TLS",
	  FIELD(listen_public), .choices = "off|on" },
	{ "proxy_listen", SETTING_ADDRESS, "",
	  "TCP address that serves sandboxes only, not the API; empty: none", FIELD(proxy_listen) },
	{ "tls_listen", SETTING_ADDRESS, "",
	  "TCP address that serves API and sandboxes by TLS, to who has an API key; empty: none",
	  FIELD(tls_listen) },
	{ "tls_cert", SETTING_PATH, "",
	  "its certificate and those up to its root, PEM; empty: tls/cert.pem in state_dir, which "
	  "vivd cert makes",
	  FIELD(tls_cert) },
	{ "tls_key", SETTING_PATH, "",
	  "the key of tls_cert, PEM without a password; empty: tls/key.pem in state_dir",
	  FIELD(tls_key) },
	{ "domain", SETTING_DOMAIN, "",
	  "ports of sandboxes have names PORT-ID.DOMAIN; with the port that clients use, if that "
	  "is another; empty: only PORT-ID.localhost",
	  FIELD(domain) },
	{ "webhook_private", SETTING_CHOICE, "off",
	  "whether webhooks may be at loopback and private addresses", FIELD(webhook_private),
	  .choices = "off|on" },
	{ "kvm_stand_in", SETTING_CHOICE, "kvm", "what does the work of kvm, for tests",
	  FIELD(kvm_stand_in), .choices = "kvm|tcg", .hidden = true },
	{ "fault", SETTING_TEXT, "", "fault point, for tests", FIELD(fault), .hidden = true },
};
static_assert(ARRAY_SIZE(settings) <= CONFIG_SETTINGS_MAX, "each has a place in values[]");

int config_find(const char *key, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (strlen(settings[i].key) == n && memcmp(settings[i].key, key, n) == 0)
			return (int)i;
	}
	return -1;
}

const char *config_key(size_t setting)
{
	return setting < ARRAY_SIZE(settings) ? settings[setting].key : NULL;
}

char *config_env_name(size_t setting)
{
	char *name = str_printf("VIVARIUM_%s", settings[setting].key);

	for (char *p = name; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	return name;
}

char *config_flag_name(size_t setting)
{
	char *name = str_printf("--%s", settings[setting].key);

	for (char *p = strchr(name, '_'); p != NULL; p = strchr(p, '_'))
		*p = '-';
	return name;
}

void config_origin(const struct config *c, size_t setting, const struct config_value *from,
		   char out[CONFIG_ORIGIN_SIZE])
{
	auto_free char *name = NULL;

	switch (from->source) {
	case CONFIG_DEFAULT:
		str_copy(out, CONFIG_ORIGIN_SIZE, "default");
		return;
	case CONFIG_FILE:
		snprintf(out, CONFIG_ORIGIN_SIZE, "%.*s:%u", CONFIG_PATH_MAX, c->file, from->line);
		return;
	case CONFIG_ENV:
		name = config_env_name(setting);
		break;
	case CONFIG_FLAG:
		name = config_flag_name(setting);
		break;
	}
	str_copy(out, CONFIG_ORIGIN_SIZE, name);
}

int config_unknown(const char *where, const char *what, struct err *e)
{
	char keys[400] = "";
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(settings) && used < sizeof(keys); i++) {
		if (!settings[i].hidden)
			used += (size_t)snprintf(keys + used, sizeof(keys) - used, "%s%s",
						 used > 0 ? " " : "", settings[i].key);
	}
	return err_set(e, ERR_INVALID, "%s: no setting '%.40s'; settings: %s", where, what, keys);
}

/* Whether @text is one of the words of "a|b|c". */
static bool is_choice(const char *choices, const char *text)
{
	for (const char *p = choices; *p != '\0';) {
		size_t n = strcspn(p, "|");

		if (strlen(text) == n && memcmp(p, text, n) == 0)
			return true;
		p += n + (p[n] == '|');
	}
	return false;
}

/* "10.11.0.0/16", no bits set behind the prefix, and nothing that hosts use otherwise. */
static int parse_network(const char *text, uint32_t *out_addr, unsigned *out_prefix)
{
	static const uint8_t reserved[] = { 0, 127 };
	struct ipv4_net net;

	if (strchr(text, '/') == NULL || ipv4_net_parse(text, &net) < 0 ||
	    net.prefix_len < PREFIX_MIN || net.prefix_len > PREFIX_MAX)
		return -EINVAL;
	if ((net.addr & ~ipv4_net_mask(net.prefix_len)) != 0 || net.addr >> 24 >= 224 ||
	    net.addr >> 16 == 0xa9fe)
		return -EINVAL;
	if (memchr(reserved, (int)(net.addr >> 24), sizeof(reserved)) != NULL)
		return -EINVAL;
	*out_addr = net.addr;
	*out_prefix = net.prefix_len;
	return 0;
}

static int parse_path(const struct setting *s, const char *text)
{
	if (text[0] == '\0')
		return s->def[0] == '\0' ? 0 : -EINVAL;
	return text[0] == '/' && strlen(text) <= CONFIG_PATH_MAX ? 0 : -EINVAL;
}

/* Host names, lower case, as they are compared; maybe with a port. */
static int check_domain(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-");
	uint64_t port;

	if (text[0] == '\0')
		return 0;
	if (n == 0 || n > DOMAIN_MAX || text[0] == '.' || text[n - 1] == '.' ||
	    strstr(text, "..") != NULL)
		return -EINVAL;
	if (text[n] == ':')
		return parse_u64(text + n + 1, 1, UINT16_MAX, &port);
	return text[n] == '\0' ? 0 : -EINVAL;
}

static int parse_into(const struct setting *s, const char *text, struct config *c)
{
	void *field = (char *)c + s->offset;
	struct address address;
	uint64_t n = 0;
	int r = -EINVAL;

	switch (s->type) {
	case SETTING_TEXT:
		return 0;
	case SETTING_PATH:
		return parse_path(s, text);
	case SETTING_CHOICE:
		return is_choice(s->choices, text) ? 0 : -EINVAL;
	case SETTING_LOG_LEVEL:
		return log_level_parse(text, field);
	case SETTING_NUMBER:
		r = parse_u64(text, s->min, s->max, &n);
		if (r == 0)
			*(unsigned *)field = (unsigned)n;
		return r;
	case SETTING_SIZE:
		r = parse_size_mib(text, &n);
		if (r == 0 && (n < s->min || n > s->max))
			r = -ERANGE;
		if (r == 0)
			*(uint64_t *)field = n;
		return r;
	case SETTING_NETWORK:
		return parse_network(text, &c->network_addr, &c->network_prefix);
	case SETTING_ADDRESS:
		return text[0] == '\0' ? 0 : address_parse(text, &address);
	case SETTING_DOMAIN:
		return check_domain(text);
	}
	return r;
}

/* What a setting may be, as its message says it. */
static char *allowed(const struct setting *s)
{
	switch (s->type) {
	case SETTING_TEXT:
		return str_dup("any text");
	case SETTING_PATH:
		return str_printf("an absolute path of at most %d bytes%s", CONFIG_PATH_MAX,
				  s->def[0] == '\0' ? ", or nothing" : "");
	case SETTING_CHOICE:
	case SETTING_LOG_LEVEL:
		return str_dup(s->choices);
	case SETTING_NUMBER:
		return str_printf("a number from %llu to %llu", (unsigned long long)s->min,
				  (unsigned long long)s->max);
	case SETTING_SIZE:
		return str_printf("a size from %lluM to %lluM, such as 512M or 2G",
				  (unsigned long long)s->min, (unsigned long long)s->max);
	case SETTING_ADDRESS:
		return str_dup("an IPv4 or IPv6 address with a port such as 127.0.0.1:3999 or "
			       "[::1]:3999 (port 0: any that is free), or nothing");
	case SETTING_DOMAIN:
		return str_dup("a name of a domain in lower case such as box.example.org or "
			       "box.example.org:8443, or nothing");
	case SETTING_NETWORK:
		break;
	}
	return str_printf(
		"an IPv4 network such as 10.11.0.0/16, with a prefix length from %d to %d, "
		"that is not loopback, link-local or multicast",
		PREFIX_MIN, PREFIX_MAX);
}

static bool is_text(const struct setting *s)
{
	return s->type == SETTING_TEXT || s->type == SETTING_PATH || s->type == SETTING_CHOICE ||
	       s->type == SETTING_ADDRESS || s->type == SETTING_DOMAIN;
}

/* Keeps the text of a setting; its field points there if it is a string. */
static void keep(struct config *c, size_t setting, const char *text,
		 const struct config_value *from)
{
	const struct setting *s = &settings[setting];
	struct config_value *v = &c->values[setting];
	char *copy = str_dup(text);

	free(v->text);
	*v = *from;
	v->text = copy;
	if (is_text(s))
		*(const char **)(void *)((char *)c + s->offset) = copy[0] != '\0' ? copy : NULL;
}

static bool has_control(const char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return true;
	}
	return false;
}

int config_set(struct config *c, size_t setting, const char *text, const struct config_value *from,
	       struct err *e)
{
	const struct setting *s = &settings[setting];
	auto_free char *what = NULL;
	char where[CONFIG_ORIGIN_SIZE];

	if (!has_control(text) && parse_into(s, text, c) == 0) {
		keep(c, setting, text, from);
		return 0;
	}
	config_origin(c, setting, from, where);
	what = allowed(s);
	return err_set(e, ERR_INVALID, "%s: %s cannot be '%.80s'; it is %s", where, s->key,
		       has_control(text) ? "(control characters)" : text, what);
}

void config_init(struct config *c)
{
	*c = (struct config){ .command = "serve", .ready_fd = -1 };
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		struct config_value from = { .source = CONFIG_DEFAULT };
		int r = config_set(c, i, settings[i].def, &from, NULL);

		assert(r == 0);
	}
}

void config_done(struct config *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		free(take_ptr(&c->values[i].text));
	free(take_ptr(&c->file));
}

static void set_default(struct config *c, const char *key, const char *text)
{
	struct config_value from = { .source = CONFIG_DEFAULT };

	keep(c, (size_t)config_find(key, strlen(key)), text, &from);
}

static int refuse(const struct config *c, const char *key, const char *why, struct err *e)
{
	size_t setting = (size_t)config_find(key, strlen(key));
	char where[CONFIG_ORIGIN_SIZE];

	config_origin(c, setting, &c->values[setting], where);
	return err_set(e, ERR_INVALID, "%s: %s cannot be '%.80s'; %s", where, key,
		       c->values[setting].text, why);
}

static const char in_clear_and_public[] =
	"other machines reach it, and keys and data would cross the network in the clear: use "
	"127.0.0.1 or [::1] behind a proxy that has TLS, or set listen_public to on";

static bool is_in_clear_and_public(const struct config *c, const char *listen)
{
	struct address a;

	return listen != NULL && streq(c->listen_public, "off") &&
	       (address_parse(listen, &a) < 0 || !address_is_loopback(&a));
}

/* Also those that follow from others, which nobody wrote. */
static int check_paths(const struct config *c, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (settings[i].type == SETTING_PATH && strlen(c->values[i].text) > CONFIG_PATH_MAX)
			return refuse(c, settings[i].key, "a path has at most 255 bytes", e);
	}
	return 0;
}

int config_check(struct config *c, struct err *e)
{
	auto_free char *socket = str_printf("%s/vivd.sock", c->run_dir);
	auto_free char *agent = program_find("viv-agent");
	auto_free char *cert = str_printf("%s/tls/cert.pem", c->state_dir);
	auto_free char *key = str_printf("%s/tls/key.pem", c->state_dir);

	if (c->socket == NULL)
		set_default(c, "socket", socket);
	if (c->agent == NULL)
		set_default(c, "agent", agent);
	if (c->tls_cert == NULL)
		set_default(c, "tls_cert", cert);
	if (c->tls_key == NULL)
		set_default(c, "tls_key", key);
	if (strlen(c->socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return refuse(c, "socket", "a unix socket's path has at most 107 bytes", e);
	if (is_in_clear_and_public(c, c->listen))
		return refuse(c, "listen", in_clear_and_public, e);
	if (is_in_clear_and_public(c, c->proxy_listen))
		return refuse(c, "proxy_listen", in_clear_and_public, e);
	if (c->default_cpus > c->max_cpus)
		return refuse(c, "default_cpus", "it is more than max_cpus", e);
	if (c->max_memory_mib != 0 && c->default_memory_mib > c->max_memory_mib)
		return refuse(c, "default_memory", "it is more than max_memory", e);
	return check_paths(c, e);
}

int config_print(const struct config *c, FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const struct config_value *v = &c->values[i];
		char where[CONFIG_ORIGIN_SIZE];
		int width;

		if (settings[i].hidden && v->source == CONFIG_DEFAULT)
			continue;
		config_origin(c, i, v, where);
		width = fprintf(out, "%s = %s", settings[i].key, v->text);
		fprintf(out, "%*s # %s\n", MAX(48 - width, 0), "", where);
	}
	return fflush(out) != 0 || ferror(out) ? -EIO : 0;
}

/* What stands for the value in the help. */
static const char *value_word(const struct setting *s)
{
	static const char *const words[] = {
		[SETTING_TEXT] = "TEXT",       [SETTING_PATH] = "PATH",
		[SETTING_NUMBER] = "NUMBER",   [SETTING_SIZE] = "SIZE",
		[SETTING_NETWORK] = "NETWORK", [SETTING_CHOICE] = NULL,
		[SETTING_LOG_LEVEL] = NULL,    [SETTING_ADDRESS] = "ADDRESS",
		[SETTING_DOMAIN] = "DOMAIN",
	};

	return s->choices != NULL ? s->choices : words[s->type];
}

void config_help(FILE *out)
{
	fputs("Usage:\n"
	      "  vivd [--SETTING=VALUE]...    run the daemon\n"
	      "  vivd prepare [--force]       get the guest kernel and make the template 'base'\n"
	      "  vivd cert [--force]          make a certificate for the domain, for use on this "
	      "host\n"
	      "  vivd --stop-all\n"
	      "  vivd doctor [--json] [--fix [--delete]]\n"
	      "                               what this host has and lacks, what is left on it\n"
	      "  vivd config                  print the settings and where each came from\n"
	      "\n"
	      "  --config=FILE    read settings from FILE; else from " CONFIG_DEFAULT_FILE "\n"
	      "                   if there is one\n"
	      "  --help           print this\n"
	      "  --version        print the version\n"
	      "\n"
	      "Settings; each may also be a line 'key = value' of the file, or VIVARIUM_KEY in "
	      "the\n"
	      "environment, with _ for - in its name. A flag wins over the environment, and that "
	      "over\n"
	      "the file.\n\n",
	      out);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		auto_free char *flag = config_flag_name(i);

		if (settings[i].hidden)
			continue;
		fprintf(out, "  %s=%s\n      %s", flag, value_word(&settings[i]), settings[i].help);
		if (settings[i].def[0] != '\0')
			fprintf(out, " (default %s)", settings[i].def);
		fputs("\n", out);
	}
}
