/* Who may ask: names, origins and tokens, right and wrong ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guard.h"
#include "http_text.h"

#define TOKEN "0123456789abcdef-X"

static const srv_guard local = { .loopback = 1, .port = 8188 };
static const srv_guard locked = { .loopback = 0, .port = 8188, .token = TOKEN };

static srv_verdict host(const srv_guard *guard, const char *name) {
    const srv_visitor visitor = { .method = "GET", .host = name };
    return srv_guard_check(guard, &visitor);
}

static void guard__loopback_is_reached_by_its_names_only(void **state) {
    static const char *const good[] = { "127.0.0.1:8188",  "localhost:8188", "LocalHost:8188",
                                        "localhost.:8188", "[::1]:8188",     "127.9.9.9:8188" };
    static const char *const bad[] = { "evil.example:8188",
                                       "localhost",
                                       "localhost:80",
                                       "127.0.0.1.evil.com",
                                       "127.0.0.1:8189",
                                       "localhost:8188:8188",
                                       "localhost.evil:8188",
                                       "localhost:8188@evil",
                                       "[::1:8188",
                                       "evil.example",
                                       "",
                                       "127.0.0.256:8188",
                                       "localhost:08188888",
                                       "localhost:-1",
                                       "0.0.0.0:8188",
                                       "127.0.0.1:8188 evil",
                                       "evil/localhost:8188",
                                       "localhost:" };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_int_equal(host(&local, good[i]), SRV_ADMITTED);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(host(&local, bad[i]), SRV_WRONG_HOST);
    assert_int_equal(host(&local, NULL), SRV_WRONG_HOST);
}

static void guard__owners_name_further_hosts(void **state) {
    static const char *const names[] = { "studio.example", "tunnel.example:9000" };
    const srv_guard guard = { .loopback = 1, .port = 8188, .allowed_hosts = names, .n_allowed_hosts = 2 };
    const srv_guard open_guard = { .port = 8188, .allowed_hosts = names, .n_allowed_hosts = 2 };
    (void)state;
    assert_int_equal(host(&guard, "studio.example"), SRV_ADMITTED);
    assert_int_equal(host(&guard, "Studio.Example:1"), SRV_ADMITTED);
    assert_int_equal(host(&guard, "tunnel.example:9000"), SRV_ADMITTED);
    assert_int_equal(host(&guard, "tunnel.example:9001"), SRV_WRONG_HOST);
    assert_int_equal(host(&guard, "localhost:8188"), SRV_ADMITTED);
    /* Named hosts narrow a server that listens to the world. */
    assert_int_equal(host(&open_guard, "studio.example"), SRV_ADMITTED);
    assert_int_equal(host(&open_guard, "other.example"), SRV_WRONG_HOST);
}

static srv_verdict from(const char *method, const char *name, const char *origin, const char *site) {
    const srv_visitor visitor = { .method = method, .host = name, .origin = origin, .fetch_site = site };
    return srv_guard_check(&local, &visitor);
}

static void guard__pages_of_other_sites_are_refused(void **state) {
    static const char *const bad[] = { "http://evil.example",    "null",
                                       "http://localhost:8189",  "http://127.0.0.1:8188",
                                       "localhost:8188",         "file://",
                                       "http://localhost:8188/", "" };
    (void)state;
    assert_int_equal(from("POST", "localhost:8188", "http://localhost:8188", "same-origin"), SRV_ADMITTED);
    assert_int_equal(from("POST", "localhost:8188", NULL, NULL), SRV_ADMITTED);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(from("GET", "localhost:8188", bad[i], NULL), SRV_WRONG_ORIGIN);
    assert_int_equal(from("POST", "localhost:8188", NULL, "cross-site"), SRV_WRONG_ORIGIN);
    assert_int_equal(from("GET", "localhost:8188", NULL, "cross-site"), SRV_ADMITTED);
    const srv_visitor upgrade = { .method = "GET", .host = "localhost:8188", .fetch_site = "cross-site", .upgrade = 1 };
    assert_int_equal(srv_guard_check(&local, &upgrade), SRV_WRONG_ORIGIN);
}

static void guard__a_proxy_may_end_tls(void **state) {
    static const char *const names[] = { "studio.example" };
    const srv_guard guard = { .loopback = 1, .port = 8188, .allowed_hosts = names, .n_allowed_hosts = 1 };
    srv_visitor visitor = { .method = "POST", .host = "studio.example", .origin = "https://studio.example" };
    (void)state;
    assert_int_equal(srv_guard_check(&guard, &visitor), SRV_ADMITTED);
    visitor.origin = "https://studio.example:444";
    assert_int_equal(srv_guard_check(&guard, &visitor), SRV_WRONG_ORIGIN);
}

static srv_verdict with(const char *bearer, const char *cookie, const char *query, int open_route) {
    const srv_visitor visitor = { .method = "GET",
                                  .host = "a.example:8188",
                                  .authorization = bearer,
                                  .cookie = cookie,
                                  .query = query,
                                  .open = open_route };
    return srv_guard_check(&locked, &visitor);
}

static void guard__the_token_opens_in_three_ways(void **state) {
    (void)state;
    assert_int_equal(with(NULL, NULL, NULL, 0), SRV_WRONG_TOKEN);
    assert_int_equal(with(NULL, NULL, NULL, 1), SRV_ADMITTED);
    assert_int_equal(with("Bearer " TOKEN, NULL, NULL, 0), SRV_ADMITTED);
    assert_int_equal(with("bearer  " TOKEN, NULL, NULL, 0), SRV_ADMITTED);
    assert_int_equal(with(TOKEN, NULL, NULL, 0), SRV_WRONG_TOKEN);
    assert_int_equal(with("Bearer " TOKEN "x", NULL, NULL, 0), SRV_WRONG_TOKEN);
    assert_int_equal(with("Bearer 0123456789abcdef-", NULL, NULL, 0), SRV_WRONG_TOKEN);
    assert_int_equal(with("Bearer ", NULL, NULL, 0), SRV_WRONG_TOKEN);
    assert_int_equal(with(NULL, NULL, "a=1&token=" TOKEN, 0), SRV_ADMITTED);
    assert_int_equal(with(NULL, NULL, "token=0123456789abcdef%2DX", 0), SRV_ADMITTED);
    assert_int_equal(with(NULL, NULL, "token=", 0), SRV_WRONG_TOKEN);
    assert_int_equal(with(NULL, "a=b; tessera_token=" TOKEN "; c=d", NULL, 0), SRV_ADMITTED);
    assert_int_equal(with(NULL, "tessera_tokens=" TOKEN, NULL, 0), SRV_WRONG_TOKEN);
    assert_int_equal(with(NULL, "tessera_token=no", NULL, 0), SRV_WRONG_TOKEN);
}

static void guard__secrets_are_compared_whole(void **state) {
    (void)state;
    assert_true(srv_same_secret("abc", "abc"));
    assert_false(srv_same_secret("abc", "abcabc"));
    assert_false(srv_same_secret("abcabc", "abc"));
    assert_false(srv_same_secret("", "abc"));
    assert_false(srv_same_secret("abc", ""));
    assert_false(srv_same_secret("abd", "abc"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard__loopback_is_reached_by_its_names_only),
        cmocka_unit_test(guard__owners_name_further_hosts),
        cmocka_unit_test(guard__pages_of_other_sites_are_refused),
        cmocka_unit_test(guard__a_proxy_may_end_tls),
        cmocka_unit_test(guard__the_token_opens_in_three_ways),
        cmocka_unit_test(guard__secrets_are_compared_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
