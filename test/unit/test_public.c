/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses are of the internet, at and beside the borders of each network. */
#include "base/public.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <sys/un.h>

static const char *const internal[] = {
	"0.0.0.0",
	"0.255.255.255",
	"10.0.0.0",
	"10.255.255.255",
	"100.64.0.0",
	"100.127.255.255",
	"127.0.0.1",
	"127.255.255.255",
	"169.254.169.254",
	"172.16.0.0",
	"172.31.255.255",
	"192.0.0.8",
	"192.0.2.1",
	"192.88.99.1",
	"192.168.0.0",
	"192.168.255.255",
	"198.18.0.0",
	"198.19.255.255",
	"198.51.100.7",
	"203.0.113.255",
	"224.0.0.1",
	"239.255.255.255",
	"240.0.0.0",
	"255.255.255.255",
	"::",
	"::1",
	"::ffff:127.0.0.1",
	"::ffff:10.1.2.3",
	"::ffff:169.254.169.254",
	"::7f00:1",        /* v4-compatible */
	"::ffff:0:7f00:1", /* v4-translated */
	"64:ff9b::7f00:1", /* NAT64 of 127.0.0.1 */
	"64:ff9b::a9fe:a9fe",
	"64:ff9b:1::1",     /* its local networks */
	"100::1",           /* discard */
	"2001::1",          /* Teredo */
	"2001:1ff:ffff::1", /* protocols */
	"2001:db8::1",
	"2002:7f00:1::1", /* 6to4 */
	"2002:0808:0808::1",
	"3fff::1",
	"3fff:fff:ffff::1",
	"5f00::1",
	"fc00::1",
	"fdff::1",
	"fe80::1",
	"fec0::1",
	"ff02::1",
};

static const char *const public[] = {
	"1.1.1.1",     "9.255.255.255",        "11.0.0.0",       "100.63.255.255",
	"100.128.0.0", "126.255.255.255",      "128.0.0.0",      "169.253.255.255",
	"169.255.0.0", "172.15.255.255",       "172.32.0.0",     "192.0.1.0",
	"192.0.3.0",   "192.167.255.255",      "192.169.0.0",    "198.17.255.255",
	"198.20.0.0",  "223.255.255.255",      "::ffff:8.8.8.8", "64:ff9b::808:808",
	"2000::1",     "2001:200::1",          "2001:db7::1",    "2001:db9::1",
	"2003::1",     "2606:4700:4700::1111", "3ffe:ffff::1",   "3fff:1000::1",
};

static bool is_public(const char *text)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &in4.sin_addr) == 1)
		return address_is_public((const struct sockaddr *)&in4, sizeof(in4));
	ck_assert_msg(inet_pton(AF_INET6, text, &in6.sin6_addr) == 1, "%s", text);
	return address_is_public((const struct sockaddr *)&in6, sizeof(in6));
}

START_TEST(test_addresses)
{
	for (size_t i = 0; i < ARRAY_SIZE(internal); i++) {
		ck_assert_msg(!is_public(internal[i]), "%s", internal[i]);
		ck_assert_msg(!address_text_is_public(internal[i]), "%s", internal[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(public); i++) {
		ck_assert_msg(is_public(public[i]), "%s", public[i]);
		ck_assert_msg(address_text_is_public(public[i]), "%s", public[i]);
	}
}
END_TEST

START_TEST(test_others_are_not)
{
	const struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_addr = { htonl(0x08080808) } };

	ck_assert(!address_is_public((const struct sockaddr *)&un, sizeof(un)));
	ck_assert(address_is_public((const struct sockaddr *)&in4, sizeof(in4)));
	ck_assert(!address_is_public((const struct sockaddr *)&in4, sizeof(in4) - 1));
	in4.sin_family = AF_INET6; /* and too short for it */
	ck_assert(!address_is_public((const struct sockaddr *)&in4, sizeof(in4)));
}
END_TEST

START_TEST(test_texts)
{
	static const char *const inside[] = { "127.1",        "0x7f000001", "2130706433",
					      "017700000001", "localhost",  "LocalHost",
					      "localhost." };
	static const char *const names[] = { "example.org", "127.0.0.1.example.org", "1.2.3.4.5" };

	for (size_t i = 0; i < ARRAY_SIZE(inside); i++)
		ck_assert_msg(!address_text_is_public(inside[i]), "%s", inside[i]);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ck_assert_msg(address_text_is_public(names[i]), "%s", names[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("public");
	TCase *tc = tcase_create("public");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_addresses);
	tcase_add_test(tc, test_others_are_not);
	tcase_add_test(tc, test_texts);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
