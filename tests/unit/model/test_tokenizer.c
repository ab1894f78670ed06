/* Tokens: words, chunk packing, padding, special tokens, limits. Ids of single words come from CLIP's public vocabulary and
 * the golden prompts (test_golden_tokens.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/prompt_text.h"
#include "model/unicode_text.h"

enum { START = 49406, END = 49407, TREE = 2677, CAT = 2368 };

static tsr__tokenizer *tokenizer;

static int make_tokenizer(void **state) {
    (void)state;
    return tsr__tokenizer_new(&tokenizer, NULL) != TSR_OK;
}

static int free_tokenizer(void **state) {
    (void)state;
    tsr__tokenizer_free(tokenizer);
    tsr__tokenizer_free(NULL);
    return 0;
}

static tsr__token_chunks tokenize(const char *prompt, int pad) {
    tsr__token_chunks chunks;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__tokenize(tokenizer, &chunks, prompt, pad, &err) != TSR_OK) fail_msg("%s", err.message);
    return chunks;
}

/* count copies of "tree " with an opening and a closing text. */
static char *repeat(const char *before, int count, const char *after) {
    char *text = malloc(strlen(before) + 5 * (size_t)count + strlen(after) + 1);
    assert_non_null(text);
    strcpy(text, before);
    for (int i = 0; i < count; i++) strcat(text, "tree ");
    strcat(text, after);
    return text;
}

static void tokenize__pads_with_the_given_id(void **state) {
    (void)state;
    tsr__token_chunks chunks = tokenize("cat", 0);
    assert_int_equal(chunks.chunks, 1);
    assert_int_equal(chunks.weighted, 0);
    assert_int_equal(chunks.ids[0], START);
    assert_int_equal(chunks.ids[1], CAT);
    assert_int_equal(chunks.ids[2], END);
    for (int i = 3; i < TSR__CHUNK; i++) assert_int_equal(chunks.ids[i], 0);
    tsr__token_chunks_clear(&chunks);
    assert_null(chunks.ids);
}

static void tokenize__fills_75_tokens_before_a_new_chunk(void **state) {
    (void)state;
    char *full = repeat("", 75, ""), *over = repeat("", 76, "");
    tsr__token_chunks chunks = tokenize(full, END);
    assert_int_equal(chunks.chunks, 1);
    assert_int_equal(chunks.ids[75], TREE);
    assert_int_equal(chunks.ids[76], END);
    tsr__token_chunks_clear(&chunks);
    chunks = tokenize(over, END);
    assert_int_equal(chunks.chunks, 2);
    assert_int_equal(chunks.ids[76], END);
    assert_int_equal(chunks.ids[77], START);
    assert_int_equal(chunks.ids[78], TREE);
    assert_int_equal(chunks.ids[79], END);
    tsr__token_chunks_clear(&chunks);
    free(full);
    free(over);
}

static void tokenize__moves_short_pieces_whole_and_cuts_long_ones(void **state) {
    (void)state;
    char *short_piece = repeat("", 70, "(tree tree tree tree tree tree tree:1.5)"); /* 7 tokens do not fit in 5 */
    tsr__token_chunks chunks = tokenize(short_piece, 0);
    assert_int_equal(chunks.chunks, 2);
    assert_int_equal(chunks.weighted, 1);
    assert_int_equal(chunks.ids[70], TREE);
    assert_int_equal(chunks.ids[71], END);
    assert_int_equal(chunks.ids[72], 0);
    assert_int_equal(chunks.ids[77 + 7], TREE);
    assert_int_equal(chunks.ids[77 + 8], END);
    assert_true(chunks.weights[77] == 1.0f && chunks.weights[78] == 1.5f && chunks.weights[85] == 1.0f);
    tsr__token_chunks_clear(&chunks);
    free(short_piece);

    char *long_piece = repeat("", 70, "(tree tree tree tree tree tree tree tree:1.5)"); /* 8 tokens: 5 and 3 */
    chunks = tokenize(long_piece, 0);
    assert_int_equal(chunks.chunks, 2);
    assert_int_equal(chunks.ids[75], TREE);
    assert_int_equal(chunks.ids[76], END);
    assert_int_equal(chunks.ids[77 + 3], TREE);
    assert_int_equal(chunks.ids[77 + 4], END);
    tsr__token_chunks_clear(&chunks);
    free(long_piece);
}

/* The most chunks for the tokens: pieces of 7 tokens, of which ten fill a chunk to 70. */
static void tokenize__packs_many_short_pieces(void **state) {
    (void)state;
    enum { PIECES = 400 };
    static const char piece[] = "(tree tree tree tree tree tree tree:2)";
    char *prompt = malloc(PIECES * (sizeof piece - 1) + 1);
    assert_non_null(prompt);
    for (int i = 0; i < PIECES; i++) strcpy(prompt + (size_t)i * (sizeof piece - 1), piece);
    tsr__token_chunks chunks = tokenize(prompt, END);
    assert_int_equal(chunks.chunks, PIECES / 10);
    for (int c = 0; c < chunks.chunks; c++) assert_int_equal(chunks.ids[c * TSR__CHUNK + 71], END);
    tsr__token_chunks_clear(&chunks);
    free(prompt);
}

static void tokenize__knows_special_tokens_inside_words(void **state) {
    (void)state;
    tsr__token_chunks chunks = tokenize("cat!<|endoftext|>cat<|startoftext|>", 0);
    const int expected[] = { START, CAT, 256, END, CAT, START, END, 0 };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) assert_int_equal(chunks.ids[i], expected[i]);
    tsr__token_chunks_clear(&chunks);
}

static void tokenize__ignores_case_and_white_space(void **state) {
    (void)state;
    tsr__token_chunks a = tokenize("a CAT \xc3\x89t\xc3\xa9", END);
    tsr__token_chunks b = tokenize("\t a\xe3\x80\x80"
                                   "cat\n\n\xc3\xa9t\xc3\xa9\xc2\xa0",
                                   END);
    assert_memory_equal(a.ids, b.ids, TSR__CHUNK * sizeof(int));
    tsr__token_chunks_clear(&a);
    tsr__token_chunks_clear(&b);
}

static void tokenize__survives_every_byte(void **state) {
    (void)state;
    for (int first = 1; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            const char prompt[] = { (char)first, (char)second, 0 };
            tsr__token_chunks chunks = tokenize(prompt, END);
            assert_int_equal(chunks.ids[0], START);
            for (int i = 0; i < TSR__CHUNK; i++) assert_true(chunks.ids[i] >= 0 && chunks.ids[i] <= END);
            tsr__token_chunks_clear(&chunks);
        }
    }
}

/* One word as long as a prompt may be, and letters whose lower case takes more bytes. */
static void tokenize__handles_the_longest_word(void **state) {
    (void)state;
    char *prompt = malloc(TSR__PROMPT_MAX_BYTES + 1);
    assert_non_null(prompt);
    for (int i = 0; i < TSR__PROMPT_MAX_BYTES; i++) prompt[i] = (char)('a' + i * 7919 % 26);
    prompt[TSR__PROMPT_MAX_BYTES] = 0;
    tsr__token_chunks chunks = tokenize(prompt, END);
    assert_true(chunks.chunks > 100);
    tsr__token_chunks_clear(&chunks);
    for (int i = 0; i < TSR__PROMPT_MAX_BYTES; i += 2) memcpy(prompt + i, "\xc8\xba", 2); /* U+023A becomes U+2C65 */
    chunks = tokenize(prompt, END);
    tsr__token_chunks_clear(&chunks);
    for (int i = 0; i < TSR__PROMPT_MAX_BYTES; i += 2)
        memcpy(prompt + i, "\xc4\xb0", 2); /* U+0130 becomes i + U+0307 */
    chunks = tokenize(prompt, END);
    tsr__token_chunks_clear(&chunks);
    memset(prompt, 0xff, TSR__PROMPT_MAX_BYTES);
    chunks = tokenize(prompt, END);
    tsr__token_chunks_clear(&chunks);
    free(prompt);
}

static void tokenize__refuses_embeddings_and_long_prompts(void **state) {
    (void)state;
    tsr__token_chunks chunks;
    tsr_error err = TSR_ERROR_INIT;
    assert_int_equal(tsr__tokenize(tokenizer, &chunks, "a (embedding:bad-hands:1.2)", END, &err), TSR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "embedding:bad-hands"));
    assert_null(chunks.ids);
    chunks = tokenize("word embedding", END);
    tsr__token_chunks_clear(&chunks);
    char *prompt = repeat("", TSR__PROMPT_MAX_BYTES / 5 + 1, "");
    assert_int_equal(tsr__tokenize(tokenizer, &chunks, prompt, END, NULL), TSR_TOO_LARGE);
    free(prompt);
}

/* --- embeddings: "two" is rows 5 and 6, "ten" ten rows from 20 on --- */
static tsr_status find_test_rows(void *user, const char *name, size_t length, int *found, int *first, int *count,
                                 tsr_error *err) {
    (void)user;
    (void)err;
    *found = length == 3 && (memcmp(name, "two", 3) == 0 || memcmp(name, "ten", 3) == 0);
    *first = *name == 't' && name[1] == 'w' ? 5 : 20;
    *count = *first == 5 ? 2 : 10;
    return TSR_OK;
}

static const tsr__embedding_source SOURCE = { NULL, find_test_rows };

static tsr__token_chunks tokenize_extra(const char *prompt) {
    tsr__token_chunks chunks;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__tokenize_with(tokenizer, &chunks, prompt, END, &SOURCE, &err) != TSR_OK) fail_msg("%s", err.message);
    return chunks;
}

static void expect_ids(const char *prompt, int count, const int *ids) {
    tsr__token_chunks chunks = tokenize_extra(prompt);
    for (int i = 0; i < count; i++)
        if (chunks.ids[1 + i] != ids[i]) fail_msg("%s: [%d] %d, not %d", prompt, i, chunks.ids[1 + i], ids[i]);
    assert_int_equal(chunks.ids[1 + count], END);
    tsr__token_chunks_clear(&chunks);
}

static void embedding__rows_stand_for_words(void **state) {
    enum { FIVE = TSR__EXTRA_TOKEN + 5, SIX = TSR__EXTRA_TOKEN + 6, COMMA = 267 };
    (void)state;
    expect_ids("embedding:two", 2, (const int[]){ FIVE, SIX });
    expect_ids("cat embedding:two tree", 4, (const int[]){ CAT, FIVE, SIX, TREE });
    expect_ids("cat\nembedding:two, tree", 5, (const int[]){ CAT, FIVE, SIX, COMMA, TREE });
    expect_ids("embedding:two embedding:two", 4, (const int[]){ FIVE, SIX, FIVE, SIX });
    tsr__token_chunks chunks = tokenize_extra("cat (embedding:two:1.5)");
    assert_true(chunks.weighted && chunks.weights[1] == 1.0f && chunks.weights[2] == 1.5f && chunks.weights[3] == 1.5f);
    tsr__token_chunks_clear(&chunks);
}

static void embedding__is_cut_between_chunks_like_a_long_word(void **state) {
    (void)state;
    char *prompt = repeat("", 74, "embedding:two"); /* 74 words: one place is left */
    tsr__token_chunks chunks = tokenize_extra(prompt);
    assert_int_equal(chunks.chunks, 2);
    assert_int_equal(chunks.ids[75], END); /* short: moves whole */
    assert_int_equal(chunks.ids[TSR__CHUNK + 1], TSR__EXTRA_TOKEN + 5);
    tsr__token_chunks_clear(&chunks);
    free(prompt);
    prompt = repeat("", 74, "embedding:ten");
    chunks = tokenize_extra(prompt);
    assert_int_equal(chunks.ids[75], TSR__EXTRA_TOKEN + 20); /* long: cut */
    assert_int_equal(chunks.ids[TSR__CHUNK + 1], TSR__EXTRA_TOKEN + 21);
    tsr__token_chunks_clear(&chunks);
    free(prompt);
}

static void embedding__missing_ones_are_named(void **state) {
    static const char *const prompts[] = { "a embedding:none b", "embedding:two:1.2", "embedding: two",
                                           "embedding:,,," };
    (void)state;
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
        tsr__token_chunks chunks;
        tsr_error err = TSR_ERROR_INIT;
        assert_int_equal(tsr__tokenize_with(tokenizer, &chunks, prompts[i], END, &SOURCE, &err), TSR_NOT_FOUND);
        assert_non_null(strstr(err.message, "\"embedding:"));
        assert_null(chunks.ids);
    }
}

static void unicode__classes_and_lower_case(void **state) {
    (void)state;
    uint32_t lower[2];
    assert_true(tsr__unicode_is_letter('a') && tsr__unicode_is_letter(0x65e5) && !tsr__unicode_is_letter(0x301));
    assert_true(tsr__unicode_is_number('7') && tsr__unicode_is_number(0xbd) && !tsr__unicode_is_number('a'));
    assert_true(tsr__unicode_is_space(0x3000) && !tsr__unicode_is_space(0x200d));
    assert_int_equal(tsr__unicode_lower(lower, 0x100), 1);
    assert_int_equal(lower[0], 0x101);
    assert_int_equal(tsr__unicode_lower(lower, 0x101), 1);
    assert_int_equal(lower[0], 0x101);
    assert_int_equal(tsr__unicode_lower(lower, 0x2167), 1);
    assert_int_equal(lower[0], 0x2177);
    assert_int_equal(tsr__unicode_lower(lower, 0x130), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokenize__pads_with_the_given_id),
        cmocka_unit_test(tokenize__fills_75_tokens_before_a_new_chunk),
        cmocka_unit_test(tokenize__moves_short_pieces_whole_and_cuts_long_ones),
        cmocka_unit_test(tokenize__packs_many_short_pieces),
        cmocka_unit_test(tokenize__knows_special_tokens_inside_words),
        cmocka_unit_test(tokenize__ignores_case_and_white_space),
        cmocka_unit_test(tokenize__survives_every_byte),
        cmocka_unit_test(tokenize__handles_the_longest_word),
        cmocka_unit_test(tokenize__refuses_embeddings_and_long_prompts),
        cmocka_unit_test(embedding__rows_stand_for_words),
        cmocka_unit_test(embedding__is_cut_between_chunks_like_a_long_word),
        cmocka_unit_test(embedding__missing_ones_are_named),
        cmocka_unit_test(unicode__classes_and_lower_case),
    };
    return cmocka_run_group_tests(tests, make_tokenizer, free_tokenizer);
}
