/* The small languages of HTTP: what is decoded, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http_text.h"

static void http_text__paths_are_decoded_and_lose_api(void **state) {
    static const struct {
        const char *raw, *path;
        int api;
    } rows[] = {
        { "/", "/", 0 },
        { "/queue", "/queue", 0 },
        { "/api/queue", "/queue", 1 },
        { "/api", "/", 1 },
        { "/api/", "/", 1 },
        { "/apicture", "/apicture", 0 },
        { "/a%20b", "/a b", 0 },
        { "/a+b", "/a+b", 0 },
        { "/%c3%a4", "/\xc3\xa4", 0 },
        { "/history/", "/history/", 0 },
    };
    char out[64];
    int api = 0;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(srv_path_decode(out, sizeof out, &api, rows[i].raw), 0);
        assert_string_equal(out, rows[i].path);
        assert_int_equal(api, rows[i].api);
    }
}

static void http_text__tricks_with_paths_are_refused(void **state) {
    static const char *const bad[] = { "",           "queue",        "/../etc", "/a/../b", "/%2e%2e/b",
                                       "/a/%2E./b",  "//a",          "/a//b",   "/.",      "/a/./b",
                                       "/a%00b",     "/a%0",         "/a%",     "/a%zz",   "/a%5cb",
                                       "/a\\b",      "/..%2fetc",    "/%ff",    "/a%0ab",  "/%c0%ae%c0%ae/",
                                       "/%ed%a0%80", "/%2e%2e%2fetc" };
    char out[64], small[4];
    int api = 0;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(srv_path_decode(out, sizeof out, &api, bad[i]), -1);
    assert_int_equal(srv_path_decode(small, sizeof small, &api, "/abc"), -1);
    assert_int_equal(srv_path_decode(small, sizeof small, &api, "/ab"), 0);
}

static void http_text__queries(void **state) {
    char out[16];
    (void)state;
    assert_int_equal(srv_query_get(out, sizeof out, "a=1&filename=x+y%2Bz&b", "filename"), 1);
    assert_string_equal(out, "x y+z");
    assert_int_equal(srv_query_get(out, sizeof out, "a=1&b", "b"), 1);
    assert_string_equal(out, "");
    assert_int_equal(srv_query_get(out, sizeof out, "file%6eame=1", "filename"), 1);
    assert_int_equal(srv_query_get(out, sizeof out, "aa=1&=2&&", "a"), 0);
    assert_int_equal(srv_query_get(out, sizeof out, NULL, "a"), 0);
    assert_int_equal(srv_query_get(out, sizeof out, "a=%00", "a"), -1);
    assert_int_equal(srv_query_get(out, sizeof out, "a=%4", "a"), -1);
    assert_int_equal(srv_query_get(out, sizeof out, "a=0123456789abcdef", "a"), -1);
    assert_int_equal(srv_query_get(out, sizeof out, "a=1&a=2", "a"), 1);
    assert_string_equal(out, "1");
}

static void http_text__parameters_of_headers(void **state) {
    static const char header[] = "form-data; name=\"im\\\"age\"; filename=a.png ;other=\"x;y\"; last=z";
    char out[16];
    (void)state;
    assert_int_equal(srv_parameter_get(out, sizeof out, header, strlen(header), "name"), 1);
    assert_string_equal(out, "im\"age");
    assert_int_equal(srv_parameter_get(out, sizeof out, header, strlen(header), "FileName"), 1);
    assert_string_equal(out, "a.png");
    assert_int_equal(srv_parameter_get(out, sizeof out, header, strlen(header), "last"), 1);
    assert_string_equal(out, "z");
    assert_int_equal(srv_parameter_get(out, sizeof out, header, strlen(header), "y\""), 0);
    assert_int_equal(srv_parameter_get(out, sizeof out, "a; b=\"unfinished", 16, "b"), -1);
    assert_int_equal(srv_parameter_get(out, sizeof out, "a; b=0123456789abcdef", 21, "b"), -1);
    assert_int_equal(srv_parameter_get(out, sizeof out, header, 9, "filename"), 0); /* the size is kept to */
}

static void http_text__lists_and_cookies(void **state) {
    char out[8];
    (void)state;
    assert_true(srv_list_has("keep-alive, Upgrade", "upgrade"));
    assert_false(srv_list_has("keep-alive, Upgraded", "upgrade"));
    assert_false(srv_list_has(NULL, "upgrade"));
    assert_true(srv_cookie_get(out, sizeof out, "x=1; t=\"ab\" ;y=2", "t"));
    assert_string_equal(out, "ab");
    assert_false(srv_cookie_get(out, sizeof out, "t=12345678", "t"));
    assert_false(srv_cookie_get(out, sizeof out, NULL, "t"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(http_text__paths_are_decoded_and_lose_api),
        cmocka_unit_test(http_text__tricks_with_paths_are_refused),
        cmocka_unit_test(http_text__queries),
        cmocka_unit_test(http_text__parameters_of_headers),
        cmocka_unit_test(http_text__lists_and_cookies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
