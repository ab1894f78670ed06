/* multipart/form-data: parts found, and malformed bodies refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "multipart.h"

#define TYPE "multipart/form-data; boundary=xyz"

static const char *parse(srv_form *form, const char *type, const char *body) {
    return srv_form_parse(form, type, body, strlen(body));
}

static void multipart__parts_are_found(void **state) {
    static const char body[] = "--xyz\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a b.png\"\r\n"
                               "Content-Type: image/png\r\n\r\n\x89PNG\r\n--xy\r\n\r\n--xyz\r\n"
                               "content-disposition: form-data; name=type\r\n\r\ninput\r\n--xyz \r\n"
                               "Content-Disposition: form-data; name=empty\r\n\r\n\r\n--xyz--\r\nepilogue";
    srv_form form;
    char text[16];
    (void)state;
    assert_null(parse(&form, TYPE, body));
    assert_int_equal(form.count, 3);
    const srv_part *image = srv_form_part(&form, "image");
    assert_non_null(image);
    assert_string_equal(image->filename, "a b.png");
    assert_int_equal(image->size, 12);
    assert_memory_equal(image->data, "\x89PNG\r\n--xy\r\n", 12);
    assert_int_equal(srv_form_text(text, sizeof text, &form, "type"), 1);
    assert_string_equal(text, "input");
    assert_int_equal(srv_form_text(text, sizeof text, &form, "empty"), 1);
    assert_string_equal(text, "");
    assert_int_equal(srv_form_text(text, sizeof text, &form, "absent"), 0);
    assert_int_equal(srv_form_text(text, 5, &form, "type"), -1);
    /* A client that sends no Content-Type is understood too. */
    assert_null(parse(&form, NULL, body));
    assert_int_equal(form.count, 3);
    assert_null(parse(&form, "multipart/form-data; boundary=\"xyz\"", body));
}

static void multipart__preambles_are_skipped(void **state) {
    srv_form form;
    (void)state;
    assert_null(parse(&form, TYPE, "hello\r\n--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--xyz--"));
    assert_int_equal(form.count, 1);
    assert_null(parse(&form, TYPE, "--xyz--\r\n"));
    assert_int_equal(form.count, 0);
}

static void multipart__malformed_bodies_are_refused(void **state) {
    static const char *const bad[] = {
        "",
        "nothing",
        "--xyz",
        "--xyz\r\n",
        "--xyzContent-Disposition: form-data; name=a\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n1",
        "--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--xyz",
        "--xyz\r\nContent-Disposition: form-data; name=a\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Type: text/plain\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data; name=a; filename=\"\xff\"\r\n\r\n1\r\n--xyz--",
    };
    srv_form form;
    char many[4096] = "";
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_non_null(parse(&form, TYPE, bad[i]));
    assert_non_null(parse(&form, "multipart/form-data", bad[5]));
    assert_non_null(parse(&form, "text/plain", "a=b"));
    for (int i = 0; i <= SRV_FORM_PARTS; i++)
        strcat(many, "--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n");
    strcat(many, "--xyz--");
    assert_string_equal(parse(&form, TYPE, many), "the form has too many parts");
}

static void multipart__names_have_limits(void **state) {
    char body[1024];
    srv_form form;
    (void)state;
    snprintf(body, sizeof body,
             "--xyz\r\nContent-Disposition: form-data; name=a; filename=\"%0300d\"\r\n\r\n1\r\n--xyz--", 1);
    assert_non_null(parse(&form, TYPE, body));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multipart__parts_are_found),
        cmocka_unit_test(multipart__preambles_are_skipped),
        cmocka_unit_test(multipart__malformed_bodies_are_refused),
        cmocka_unit_test(multipart__names_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
