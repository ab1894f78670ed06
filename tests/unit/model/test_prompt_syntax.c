/* Weighted pieces: nesting, numbers, escapes, stray parentheses, bad UTF-8, limits. Expected values follow the reference's
 * rules, worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/prompt_syntax.h"
#include "model/prompt_text.h"

typedef struct expectation {
    const char *text;
    double weight;
} expectation;

static void check(const char *prompt, const expectation *expected) {
    tsr__prompt_pieces pieces;
    tsr_error err = TSR_ERROR_INIT;
    size_t count = 0;
    assert_int_equal(tsr__prompt_parse(&pieces, prompt, &err), TSR_OK);
    for (; expected[count].text; count++) {
        if (count == pieces.count) fail_msg("\"%s\": only %zu pieces", prompt, count);
        const tsr__prompt_piece *piece = &pieces.pieces[count];
        if (piece->length != strlen(expected[count].text) || memcmp(piece->text, expected[count].text, piece->length) ||
            !(fabs(piece->weight - expected[count].weight) <= 1e-12 * fabs(piece->weight)))
            fail_msg("\"%s\", piece %zu: \"%.*s\" %.17g, expected \"%s\" %.17g", prompt, count, (int)piece->length,
                     piece->text, piece->weight, expected[count].text, expected[count].weight);
    }
    assert_int_equal(pieces.count, count);
    tsr__prompt_pieces_clear(&pieces);
}

#define CHECK(prompt, ...) check((prompt), (const expectation[]){ __VA_ARGS__, { NULL, 0 } })

static void parse__weights_groups(void **state) {
    (void)state;
    CHECK("a cat", { "a cat", 1 });
    CHECK("", { NULL, 0 });
    CHECK("()", { NULL, 0 });
    CHECK("a (red:1.3) ball", { "a ", 1 }, { "red", 1.3 }, { " ball", 1 });
    CHECK("((x))", { "x", 1.1 * 1.1 });
    CHECK("(a (b:1.2) c:0.8) d", { "a ", 0.8 }, { "b", 1.2 }, { " c", 0.8 }, { " d", 1 });
    CHECK("(a (b) c:0.8)", { "a ", 0.8 }, { "b", 0.8 * 1.1 }, { " c", 0.8 });
    CHECK("[x] {y}", { "[x] {y}", 1 });
}

static void parse__reads_numbers_like_python(void **state) {
    (void)state;
    CHECK("(x: 1.5 )", { "x", 1.5 });
    CHECK("(x:-0.5)", { "x", -0.5 });
    CHECK("(x:+2)", { "x", 2 });
    CHECK("(x:.5)", { "x", 0.5 });
    CHECK("(x:5.)", { "x", 5 });
    CHECK("(x:1e-1)", { "x", 0.1 });
    CHECK("(x:1_0.2_5)", { "x", 10.25 });
    CHECK("(x:0.10000000000000000000000000001)", { "x", 0.1 });
    CHECK("(x:100000000000000000000000)", { "x", 1e23 });
    CHECK("(x:0e999999999999999999999)", { "x", 0 });
    CHECK("(a:b:1.2)", { "a:b", 1.2 });
    CHECK("(x:)", { "x:", 1.1 });
    CHECK("(:1.2)", { ":1.2", 1.1 });
    CHECK("(x:1,5)", { "x:1,5", 1.1 });
    CHECK("(x:1.2.3)", { "x:1.2.3", 1.1 });
    CHECK("(x:1__0)", { "x:1__0", 1.1 });
    CHECK("(x:1_)", { "x:1_", 1.1 });
    CHECK("(x:0x10)", { "x:0x10", 1.1 });
    CHECK("(x:1e)", { "x:1e", 1.1 });
    CHECK("(x:.)", { "x:.", 1.1 });
    CHECK("(x:inf)", { "x:inf", 1.1 });
    CHECK("(x:nan)", { "x:nan", 1.1 });
    CHECK("(x:1e99)", { "x:1e99", 1.1 });
}

static void parse__keeps_escaped_parentheses(void **state) {
    (void)state;
    CHECK("\\(a\\)", { "(a)", 1 });
    CHECK("(a \\(b\\):1.4)", { "a (b)", 1.4 });
    CHECK("a\\b \\\\(c\\)", { "a\\b \\(c)", 1 });
    CHECK("tail\\", { "tail\\", 1 });
}

static void parse__follows_the_reference_on_stray_parentheses(void **state) {
    (void)state;
    CHECK("(unclosed:1.2", { "(unclosed:1.2", 1 });
    CHECK("a (b", { "a ", 1 }, { "(b", 1 });
    CHECK("a) (b)", { "a) (b)", 1 });
    CHECK("a)((b)", { "a)(", 1 }, { "b", 1.1 });
    CHECK("(a (b)", { "a ", 1.1 }, { "(b", 1.1 });
    CHECK(")", { ")", 1 });
}

static void parse__replaces_bad_utf8(void **state) {
    (void)state;
    CHECK("a\xff"
          "b",
          { "a\xef\xbf\xbd"
            "b",
            1 });
    CHECK("\xc3", { "\xef\xbf\xbd", 1 });
    CHECK("\xc0\x80", { "\xef\xbf\xbd\xef\xbf\xbd", 1 });
    CHECK("\xed\xa0\x80", { "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 1 });
    CHECK("(\xfe:1.5)", { "\xef\xbf\xbd", 1.5 });
    CHECK("\xf0\x9f\x99\x82", { "\xf0\x9f\x99\x82", 1 });
}

static void parse__has_limits(void **state) {
    (void)state;
    tsr__prompt_pieces pieces;
    tsr_error length_err = TSR_ERROR_INIT, depth_err = TSR_ERROR_INIT;
    char *prompt = malloc(TSR__PROMPT_MAX_BYTES + 2);
    assert_non_null(prompt);
    memset(prompt, 'a', TSR__PROMPT_MAX_BYTES + 1);
    prompt[TSR__PROMPT_MAX_BYTES + 1] = 0;
    assert_int_equal(tsr__prompt_parse(&pieces, prompt, &length_err), TSR_TOO_LARGE);
    prompt[TSR__PROMPT_MAX_BYTES] = 0;
    assert_int_equal(tsr__prompt_parse(&pieces, prompt, &length_err), TSR_OK);
    tsr__prompt_pieces_clear(&pieces);

    memset(prompt, '(', TSR__PROMPT_MAX_BYTES / 2);
    memset(prompt + TSR__PROMPT_MAX_BYTES / 2, ')', TSR__PROMPT_MAX_BYTES / 2);
    assert_int_equal(tsr__prompt_parse(&pieces, prompt, &depth_err), TSR_TOO_LARGE);
    assert_non_null(strstr(depth_err.message, "nest deeper"));
    assert_null(pieces.text);

    memset(prompt, '(', TSR__PROMPT_MAX_NESTING);
    prompt[TSR__PROMPT_MAX_NESTING] = 'x';
    memset(prompt + TSR__PROMPT_MAX_NESTING + 1, ')', TSR__PROMPT_MAX_NESTING);
    prompt[2 * TSR__PROMPT_MAX_NESTING + 1] = 0;
    assert_int_equal(tsr__prompt_parse(&pieces, prompt, NULL), TSR_OK);
    assert_int_equal(pieces.count, 1);
    tsr__prompt_pieces_clear(&pieces);
    free(prompt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__weights_groups),
        cmocka_unit_test(parse__reads_numbers_like_python),
        cmocka_unit_test(parse__keeps_escaped_parentheses),
        cmocka_unit_test(parse__follows_the_reference_on_stray_parentheses),
        cmocka_unit_test(parse__replaces_bad_utf8),
        cmocka_unit_test(parse__has_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
