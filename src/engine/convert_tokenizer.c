/* engine/convert_tokenizer.c - CLIP's vocabulary as the files that Hugging Face's CLIPTokenizer reads. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "engine/convert_target.h"
#include "model/prompt_text.h"

enum { BYTES = 256, FIRST_MERGE = 512, LONGEST = 512 };
static const char START[] = "<|startoftext|>", END[] = "<|endoftext|>", WORD_END[] = "</w>";

static tsr_status append(tsr__growing_text *to, const char *what, tsr_error *err) {
    return tsr__growing_add(to, what, strlen(what), err);
}

/* GPT-2's way to write any byte as a letter: printable ones stand for themselves, the others, in their order, for the code
 * points from 256 on. Writes UTF-8; returns its length. */
static size_t letter_of(char *to, int byte) {
    int code = byte, hidden = 0;
    for (int i = 0; i <= byte; i++) {
        const int printable = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (i == byte && !printable) code = 256 + hidden;
        hidden += !printable;
    }
    if (code < 128) {
        to[0] = (char)code;
        return 1;
    }
    to[0] = (char)(0xc0 | code >> 6);
    to[1] = (char)(0x80 | (code & 63));
    return 2;
}

/* All tokens' texts in one block, token after token. */
static tsr_status make_tokens(tsr__growing_text *all, size_t **starts_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int merges = tsr__vocabulary_merges(), count = FIRST_MERGE + merges;
    size_t *starts = NULL;
    TSR_ALLOC_ZERO(err, starts, (size_t)count + 1);
    for (int id = 0; id < count; id++) {
        char token[LONGEST] = "";
        if (id < FIRST_MERGE) {
            const size_t length = letter_of(token, tsr__vocabulary_byte(id % BYTES));
            if (id >= BYTES) memcpy(token + length, WORD_END, sizeof WORD_END);
        } else {
            size_t used = 0;
            int pair[2];
            tsr__vocabulary_merge(id - FIRST_MERGE, pair);
            for (int k = 0; k < 2; k++) {
                const size_t length = starts[pair[k] + 1] - starts[pair[k]] - 1;
                if (used + length >= LONGEST) TSR_FAIL(err, TSR_TOO_LARGE, "a token of the vocabulary is too long");
                memcpy(token + used, all->data + starts[pair[k]], length);
                used += length;
            }
        }
        starts[id] = all->used;
        TSR_TRY(append(all, token, err));
        TSR_TRY(append(all, "\n", err)); /* ends it; no token holds one */
        starts[id + 1] = all->used;
    }
    *starts_out = starts;
    starts = NULL;
done:
    free(starts);
    return status;
}

static tsr_status append_json(tsr__growing_text *to, const char *token, size_t length, int id, tsr_error *err) {
    tsr_status status = TSR_OK;
    char line[2 * LONGEST + 32];
    size_t used = 0;
    line[used++] = '"';
    for (size_t i = 0; i < length; i++) {
        if (token[i] == '"' || token[i] == '\\') line[used++] = '\\';
        line[used++] = token[i];
    }
    (void)snprintf(line + used, sizeof line - used, "\":%d,", id);
    TSR_TRY(append(to, line, err));
done:
    return status;
}

static tsr_status make_vocabulary(tsr__growing_text *json, tsr__growing_text *list, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__growing_text tokens = { 0 };
    size_t *starts = NULL;
    const int merges = tsr__vocabulary_merges(), count = FIRST_MERGE + merges;
    char last[96];
    TSR_TRY(make_tokens(&tokens, &starts, err));
    const char *all = tokens.data ? tokens.data : ""; /* there are tokens always */
    TSR_TRY(append(json, "{", err));
    TSR_TRY(append(list, "#version: 0.2\n", err));
    for (int id = 0; id < count; id++)
        TSR_TRY(append_json(json, all + starts[id], starts[id + 1] - starts[id] - 1, id, err));
    (void)snprintf(last, sizeof last, "\"%s\":%d,\"%s\":%d}\n", START, count, END, count + 1);
    TSR_TRY(append(json, last, err));
    for (int i = 0; i < merges; i++) {
        char line[2 * LONGEST + 4];
        int pair[2];
        tsr__vocabulary_merge(i, pair);
        (void)snprintf(line, sizeof line, "%.*s %.*s\n", (int)(starts[pair[0] + 1] - starts[pair[0]] - 1),
                       all + starts[pair[0]], (int)(starts[pair[1] + 1] - starts[pair[1]] - 1), all + starts[pair[1]]);
        TSR_TRY(append(list, line, err));
    }
done:
    free(tokens.data);
    free(starts);
    return status;
}

tsr_status tsr__convert_tokenizer(const char *folder, const char *name, int pads_with_end, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__growing_text json = { 0 }, list = { 0 };
    char *inner = tsr__format("%s/%s", folder, name), *special = NULL, *config = NULL;
    const char *pad = pads_with_end ? END : "!";
    special =
        tsr__format("{\"bos_token\": \"%s\", \"eos_token\": \"%s\", \"pad_token\": \"%s\", \"unk_token\": \"%s\"}\n",
                    START, END, pad, END);
    config = tsr__format("{\"add_prefix_space\": false, \"bos_token\": \"%s\", \"do_lower_case\": true, \"eos_token\": "
                         "\"%s\", \"errors\": \"replace\", \"model_max_length\": 77, \"pad_token\": \"%s\", "
                         "\"tokenizer_class\": \"CLIPTokenizer\", \"unk_token\": \"%s\"}\n",
                         START, END, pad, END);
    if (!inner || !special || !config) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(make_vocabulary(&json, &list, err));
    TSR_TRY(tsr__convert_text_file(inner, "vocab.json", json.data, err));
    TSR_TRY(tsr__convert_text_file(inner, "merges.txt", list.data, err));
    TSR_TRY(tsr__convert_text_file(inner, "special_tokens_map.json", special, err));
    TSR_TRY(tsr__convert_text_file(inner, "tokenizer_config.json", config, err));
done:
    free(json.data);
    free(list.data);
    free(inner);
    free(special);
    free(config);
    return status;
}
