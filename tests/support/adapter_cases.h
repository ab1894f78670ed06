/* adapter_cases.h - the cases of tests/golden/data/adapters: "lora:0.6+dora_out:1" as files with strengths, and the rule by which
 * make_adapter_numbers.py tells a weight in few numbers. */
#ifndef ADAPTER_CASES_H
#define ADAPTER_CASES_H

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/lora_merge.h"

enum { CASE_ADAPTERS = 4, CASE_SIZE = 256 };

typedef struct adapter_case {
    tsr__merge_adapter items[CASE_ADAPTERS];
    char paths[CASE_ADAPTERS][CASE_SIZE];
    int count;
} adapter_case;

/* text up to its end or a '|'. */
static inline void read_case(adapter_case *out, const char *family, const char *text) {
    out->count = 0;
    while (*text && *text != '|') {
        const size_t name = strcspn(text, ":"), all = strcspn(text, "+|");
        assert_true(out->count < CASE_ADAPTERS && name < all);
        char *path = out->paths[out->count];
        (void)snprintf(path, CASE_SIZE, "%s/adapters/%s-%.*s.safetensors", TSR_GOLDEN_DIR, family, (int)name, text);
        const float strength = strtof(text + name + 1, NULL);
        out->items[out->count++] = (tsr__merge_adapter){ path, strength, strength };
        text += all + (text[all] == '+');
    }
}

/* Whether two "CASE|KEY" are of one case. */
static inline int same_case(const char *a, const char *b) {
    const size_t length = strcspn(a, "|");
    return strncmp(a, b, length) == 0 && b[length] == '|';
}

/* X [columns, 2] */
static inline double probe(size_t row, size_t column) {
    return (double)((int64_t)((2 * row + column) * 7919 % 2003) - 1001) / 1001.0;
}

#endif /* ADAPTER_CASES_H */
