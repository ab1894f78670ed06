/* Tokens of every golden prompt, exactly as ComfyUI's SD1 tokenizer gives them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "golden_file.h"
#include "model/prompt_text.h"

static void tokenize__equals_the_reference(void **state) {
    (void)state;
    tsr__tokenizer *tokenizer = NULL;
    tsr_error err = TSR_ERROR_INIT;
    json_t *golden = golden_json("tokens.json"), *expected;
    const char *prompt;
    int wrong = 0;
    assert_int_equal(tsr__tokenizer_new(&tokenizer, &err), TSR_OK);
    assert_true(json_object_size(golden) >= 24);
    json_object_foreach(golden, prompt, expected) {
        tsr__token_chunks chunks;
        assert_int_equal(tsr__tokenize(tokenizer, &chunks, prompt, 49407, &err), TSR_OK);
        if (chunks.chunks != (int)json_array_size(expected)) {
            print_error("\"%s\": %d chunks, %zu expected\n", prompt, chunks.chunks, json_array_size(expected));
            wrong++;
        }
        int weighted = 0;
        for (int c = 0; c < chunks.chunks && c < (int)json_array_size(expected); c++) {
            json_t *chunk = json_array_get(expected, (size_t)c);
            assert_int_equal(json_array_size(chunk), TSR__CHUNK);
            for (int i = 0; i < TSR__CHUNK; i++) {
                json_t *pair = json_array_get(chunk, (size_t)i);
                const int id = (int)json_integer_value(json_array_get(pair, 0));
                const double weight = json_number_value(json_array_get(pair, 1));
                if (weight != 1.0) weighted = 1;
                const int at = c * TSR__CHUNK + i;
                if (chunks.ids[at] == id && fabs((double)chunks.weights[at] - weight) <= 1e-6) continue;
                print_error("\"%s\" chunk %d, token %d: %d (%g), expected %d (%g)\n", prompt, c, i, chunks.ids[at],
                            (double)chunks.weights[at], id, weight);
                wrong++;
            }
        }
        assert_int_equal(chunks.weighted, weighted);
        tsr__token_chunks_clear(&chunks);
    }
    assert_int_equal(wrong, 0);
    json_decref(golden);
    tsr__tokenizer_free(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(tokenize__equals_the_reference) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
