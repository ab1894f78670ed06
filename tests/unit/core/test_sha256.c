/* test_sha256.c - the vectors of FIPS 180-4's examples, whole and in pieces of every size around a block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/sha256.h"

static void expect(const char *text, size_t piece, const char *hex) {
    unsigned char out[32];
    char got[65];
    tsr__sha256 sha;
    size_t size = strlen(text);
    tsr__sha256_init(&sha);
    for (size_t at = 0; at < size; at += piece) tsr__sha256_add(&sha, text + at, size - at < piece ? size - at : piece);
    tsr__sha256_end(&sha, out);
    for (size_t i = 0; i < sizeof out; i++) sprintf(got + 2 * i, "%02x", out[i]);
    assert_string_equal(got, hex);
}

static void sha256__gives_the_standard_values(void **state) {
    (void)state;
    expect("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (size_t piece = 1; piece <= 130; piece++) {
        expect("abc", piece, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", piece,
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        expect(
            "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
            "nopqrstu",
            piece, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(sha256__gives_the_standard_values) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
