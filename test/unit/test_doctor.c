/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor's judgement: what is owned, how grave a report is, what a probe said; and that a probe
 * which hangs is ended. This program is its own probe. */
#include "api/doctor-view.h"
#include "base/clock.h"
#include "sandbox/doctor-internal.h"
#include "sandbox/leaks.h"
#include "template/cache.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sandbox_id id_of(const char *text)
{
	struct sandbox_id id;

	ck_assert_int_eq(id_parse(text, &id), 0);
	return id;
}

#define ID_A "iaaaaaaaaaaaaaaaaaaa"
#define ID_B "ibbbbbbbbbbbbbbbbbbb"

static void add(struct things *list, enum thing_kind kind, const char *name, const char *id)
{
	struct thing t = { .kind = kind, .name = str_dup(name) };

	if (id[0] != '\0')
		t.id = id_of(id);
	things_push(list, t);
}

static bool has(const struct things *list, const char *name)
{
	vec_foreach (t, list) {
		if (streq(t->name, name))
			return true;
	}
	return false;
}

START_TEST(test_owned_things_are_kept)
{
	struct instance_view view = { .served = true };
	struct intents intents = { 0 };
	struct things list = { 0 };

	intents_push(&intents, (struct intent){ .id = id_of(ID_A), .state = DB_RUNNING });
	add(&list, THING_CGROUP, "owned", ID_A);
	add(&list, THING_CGROUP, "orphan", ID_B);
	add(&list, THING_CGROUP, "no id", "");
	add(&list, THING_LINK, "pooled", "");
	list.at[3].of_network = true;
	add(&list, THING_LINK, "bare", "");
	add(&list, THING_TABLE, "table", "");
	leaks_keep(&view, &intents, &list);
	ck_assert_uint_eq(list.n, 3);
	ck_assert(has(&list, "orphan") && has(&list, "no id") && has(&list, "bare"));
	things_free(&list);
	intents_done(&intents);
}
END_TEST

START_TEST(test_shared_things_are_kept_for_any_sandbox)
{
	struct instance_view view = { .served = false };
	struct intents intents = { 0 };
	struct things list = { 0 };

	add(&list, THING_TABLE, "table", "");
	add(&list, THING_CGROUP_ROOT, "root", "");
	leaks_keep(&view, &intents, &list);
	ck_assert_uint_eq(list.n, 2);
	intents_push(&intents, (struct intent){ .id = id_of(ID_A), .state = DB_STOPPED });
	leaks_keep(&view, &intents, &list);
	ck_assert_uint_eq(list.n, 0);
	things_free(&list);
	intents_done(&intents);
}
END_TEST

/* The verdict on one intent, DOCTOR_OK for none. */
static enum doctor_verdict judge(const struct intent *before, const struct intent *after,
				 const struct things *all)
{
	struct doctor_report report = { 0 };
	struct intents one = { 0 };
	struct intents two = { 0 };
	enum doctor_verdict verdict;

	if (before != NULL)
		intents_push(&one, *before);
	intents_push(&two, *after);
	intents_report(&one, &two, all, &report);
	verdict = report.items.n > 0 ? report.items.at[0].verdict : DOCTOR_OK;
	doctor_report_done(&report);
	intents_done(&one);
	intents_done(&two);
	return verdict;
}

START_TEST(test_intents_whose_things_are_gone)
{
	struct intent running = { .id = id_of(ID_A), .state = DB_RUNNING };
	struct intent stopped = { .id = id_of(ID_A), .state = DB_STOPPED };
	struct intent busy = { .id = id_of(ID_A), .state = DB_RUNNING, .busy = true };
	struct intent creating = { .id = id_of(ID_A), .state = DB_CREATING };
	struct intent leaked = { .id = id_of(ID_A), .state = DB_STOPPED, .leaked = true };
	struct things all = { 0 };

	ck_assert_int_eq(judge(&stopped, &stopped, &all), DOCTOR_LEAK);
	/* What changed while the host was looked at is not judged. */
	ck_assert_int_eq(judge(NULL, &stopped, &all), DOCTOR_OK);
	ck_assert_int_eq(judge(&running, &stopped, &all), DOCTOR_OK);
	ck_assert_int_eq(judge(&busy, &running, &all), DOCTOR_OK);
	ck_assert_int_eq(judge(&running, &busy, &all), DOCTOR_OK);
	ck_assert_int_eq(judge(&creating, &creating, &all), DOCTOR_DEGRADED);
	add(&all, THING_DATA, ID_A, ID_A);
	ck_assert_int_eq(judge(&stopped, &stopped, &all), DOCTOR_OK);
	ck_assert_int_eq(judge(&leaked, &leaked, &all), DOCTOR_LEAK);
	ck_assert_int_eq(judge(&running, &running, &all), DOCTOR_DEGRADED);
	add(&all, THING_CGROUP, ID_A, ID_A);
	ck_assert_int_eq(judge(&running, &running, &all), DOCTOR_OK);
	things_free(&all);
}
END_TEST

static void put(struct doctor_report *report, const char *area, enum doctor_verdict verdict)
{
	doctor_add(report, (struct doctor_item){ .area = area,
						 .verdict = verdict,
						 .name = str_dup("name"),
						 .what = str_dup("w\x1bhat") });
}

START_TEST(test_verdicts)
{
	struct doctor_report report = { 0 };

	ck_assert_int_eq(doctor_report_code(&report), 0);
	put(&report, "a", DOCTOR_OK);
	put(&report, "b", DOCTOR_FIXED);
	ck_assert_int_eq(doctor_report_verdict(&report), DOCTOR_OK);
	put(&report, "a", DOCTOR_DEGRADED);
	ck_assert_int_eq(doctor_report_verdict(&report), DOCTOR_DEGRADED);
	ck_assert_int_eq(doctor_report_code(&report), 0);
	put(&report, "c", DOCTOR_LEAK);
	ck_assert_int_eq(doctor_report_code(&report), 3);
	put(&report, "b", DOCTOR_MISSING);
	ck_assert_int_eq(doctor_report_code(&report), 1);
	doctor_report_done(&report);
}
END_TEST

START_TEST(test_areas_are_groups)
{
	static const char *const order[] = { "a", "a", "a", "b", "b", "c" };
	static const char *const given[] = { "a", "b", "a", "c", "b", "a" };
	struct doctor_report report = { 0 };
	auto_free char *text = NULL;
	auto_json *json = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(given); i++)
		put(&report, given[i], i == 5 ? DOCTOR_DEGRADED : DOCTOR_OK);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		ck_assert_str_eq(report.items.at[i].area, order[i]);
	ck_assert_int_eq(report.items.at[2].verdict, DOCTOR_DEGRADED);
	ck_assert_str_eq(report.items.at[0].what, "w?hat"); /* no terminal obeys it */
	text = doctor_text(&report);
	ck_assert_ptr_nonnull(strstr(text, "0 missing, 1 degraded, 0 leaks left"));
	json = doctor_json(&report);
	ck_assert_str_eq(json_string_value(json_object_get(json, "verdict")), "degraded");
	ck_assert_uint_eq(json_array_size(json_object_get(json, "items")), ARRAY_SIZE(order));
	doctor_report_done(&report);
}
END_TEST

START_TEST(test_probe_lines)
{
	static const char *const bad[] = { "", "0", "x y", "-1 z", "99999 y", "123456789 y", " x" };
	struct doctor_probe probe;

	ck_assert_int_eq(doctor_probe_parse("0 all is well\n", &probe), 0);
	ck_assert_int_eq(probe.code, 0);
	ck_assert_str_eq(probe.text, "all is well");
	ck_assert_int_eq(doctor_probe_parse("13 open it", &probe), 0);
	ck_assert_int_eq(probe.code, EACCES);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(doctor_probe_parse(bad[i], &probe), -EBADMSG);
}
END_TEST

START_TEST(test_probe_answers)
{
	struct doctor_probe probe = { .code = -1 };

	doctor_probe("reflink", "/nowhere/at/all", DOCTOR_PROBE_TIMEOUT_MS, &probe);
	ck_assert_int_eq(probe.code, ENOENT);
	ck_assert_ptr_nonnull(strstr(probe.text, "/nowhere/at/all"));
	doctor_probe("no such probe", "", DOCTOR_PROBE_TIMEOUT_MS, &probe);
	ck_assert_int_eq(probe.code, EIO);
}
END_TEST

START_TEST(test_stuck_probe_is_ended)
{
	struct doctor_probe probe = { .code = -1 };
	uint64_t start_ns = clock_now_ns();

	doctor_probe("stuck", "", 200, &probe);
	ck_assert_int_eq(probe.code, ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(probe.text, "ended"));
	ck_assert_uint_ge(clock_now_ns() - start_ns, 200 * NS_PER_MS);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* and nothing is left of it */
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(test_namespace_of_a_probe)
{
	struct instance_tag tag;
	char name[64];

	ck_assert_int_eq(tag_parse("ab12", &tag), 0);
	ck_assert_int_eq(str_fit(name, sizeof(name), "viv-ab12-probe-%d", (int)getpid()), 0);
	ck_assert(doctor_probe_alive(name, &tag));
	ck_assert(!doctor_probe_alive("viv-ab12-probe-2147483646", &tag));
	ck_assert(!doctor_probe_alive("viv-ab12-probe-", &tag));
	ck_assert(!doctor_probe_alive("viv-ab12-7", &tag));
	name[4] = 'x';
	ck_assert(!doctor_probe_alive(name, &tag));
}
END_TEST

START_TEST(test_template_of_a_path)
{
	static const char *const none[] = {
		"",
		"root.img",
		"/root.img",
		"/templates/root.img",
		"base@1/root.img",
		"/x/base@1/root.img",
		"templates/base@1/root.img",
		"/templates//root.img",
		"../base@1/root.img",
		"../../../base@1/root.img",
		"x/../../base@1/root.img",
		"/a-name-that-is-longer/templates/base@12345678/root.img"
	};
	char version[12];

	ck_assert_int_eq(
		cache_template_of("/v/templates/base@1/root.img", version, sizeof(version)), 0);
	ck_assert_str_eq(version, "base@1");
	ck_assert_int_eq(
		cache_template_of("../../../templates/base@2/root.img", version, sizeof(version)),
		0);
	ck_assert_str_eq(version, "base@2");
	ck_assert_int_eq(cache_template_of("../../base@3/root.img", version, sizeof(version)), 0);
	ck_assert_str_eq(version, "base@3");
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		ck_assert_int_eq(cache_template_of(none[i], version, sizeof(version)), -ENOENT);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("doctor");
	TCase *tc = tcase_create("doctor");

	tcase_add_test(tc, test_owned_things_are_kept);
	tcase_add_test(tc, test_shared_things_are_kept_for_any_sandbox);
	tcase_add_test(tc, test_intents_whose_things_are_gone);
	tcase_add_test(tc, test_verdicts);
	tcase_add_test(tc, test_areas_are_groups);
	tcase_add_test(tc, test_probe_lines);
	tcase_add_test(tc, test_probe_answers);
	tcase_add_test(tc, test_stuck_probe_is_ended);
	tcase_add_test(tc, test_namespace_of_a_probe);
	tcase_add_test(tc, test_template_of_a_path);
	suite_add_tcase(s, tc);
	return s;
}

int main(int argc, char **argv)
{
	SRunner *sr;
	int failed;

	if (argc == 4 && streq(argv[1], DOCTOR_PROBE_FLAG) && streq(argv[2], "stuck"))
		return poll(NULL, 0, -1);
	if (argc == 4 && streq(argv[1], DOCTOR_PROBE_FLAG))
		return doctor_probe_main(argc - 2, argv + 2);
	sr = srunner_create(make_suite());
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
