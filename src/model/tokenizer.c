/* model/tokenizer.c - CLIP's byte-pair tokenizer and the packing into chunks of 77.
 *
 * Text is lower-cased and cut into words by CLIP's pattern (contractions, runs of letters, single numbers, runs of anything
 * else), each word's UTF-8 bytes are merged pair by pair, most frequent pair first, and the tokens of all pieces are packed
 * as ComfyUI packs them. No Unicode normalisation takes place: the reference does none.
 *
 * Ids: 0..255 a byte, 256..511 a byte that ends a word, 512 + i merge i, then the start and the end token. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "model/prompt_syntax.h"
#include "model/prompt_text.h"
#include "model/unicode_text.h"

#include "model/clip_vocabulary.inc"

enum {
    MERGE_COUNT = sizeof MERGES / sizeof *MERGES,
    START_TOKEN = 49406,
    END_TOKEN = 49407,
    CHUNK_TOKENS = TSR__CHUNK - 2, /* between start and end */
    LONG_WORD = 8,                 /* pieces of so many tokens may be cut between chunks */
    SLOT_BITS = 17,
    SLOTS = 1 << SLOT_BITS,
    NO_MERGE = 0x10000 /* above every rank */
};

struct tsr__tokenizer {
    int token_of_byte[256];
    struct {
        uint32_t pair; /* left id << 16 | right id */
        int rank;      /* NO_MERGE: the slot is free */
    } slots[SLOTS];    /* open addressing, a little over a third full */
};

static size_t hash_pair(uint32_t pair) {
    return pair * 2654435769u >> (32 - SLOT_BITS);
}

/* The merge that joins left and right, or NO_MERGE. */
static int find_rank(const tsr__tokenizer *tokenizer, int left, int right) {
    const uint32_t pair = (uint32_t)left << 16 | (uint32_t)right;
    size_t slot = hash_pair(pair);
    while (tokenizer->slots[slot].rank != NO_MERGE && tokenizer->slots[slot].pair != pair) slot = (slot + 1) % SLOTS;
    return tokenizer->slots[slot].rank;
}

tsr_status tsr__tokenizer_new(tsr__tokenizer **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tokenizer *tokenizer = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, tokenizer, 1);
    for (int i = 0; i < 256; i++) tokenizer->token_of_byte[BYTE_OF_TOKEN[i]] = i;
    for (size_t i = 0; i < SLOTS; i++) tokenizer->slots[i].rank = NO_MERGE;
    for (int i = 0; i < MERGE_COUNT; i++) {
        const uint32_t pair = (uint32_t)MERGES[i][0] << 16 | MERGES[i][1];
        size_t slot = hash_pair(pair);
        while (tokenizer->slots[slot].rank != NO_MERGE) slot = (slot + 1) % SLOTS;
        tokenizer->slots[slot].pair = pair;
        tokenizer->slots[slot].rank = i;
    }
    *out = tokenizer;
done:
    return status;
}

void tsr__tokenizer_free(tsr__tokenizer *tokenizer) {
    free(tokenizer);
}

int tsr__vocabulary_merges(void) {
    return MERGE_COUNT;
}

void tsr__vocabulary_merge(int index, int pair[2]) {
    pair[0] = MERGES[index][0];
    pair[1] = MERGES[index][1];
}

int tsr__vocabulary_byte(int id) {
    return BYTE_OF_TOKEN[id];
}

/* Does code[0..count) start with the ASCII word? */
static int starts_with(const uint32_t *code, size_t count, const char *word) {
    size_t i = 0;
    while (word[i] && i < count && code[i] == (unsigned char)word[i]) i++;
    return !word[i];
}

/* The special token that code starts with: its id, and its length; 0 when there is none. */
static int find_special(size_t *length, const uint32_t *code, size_t count) {
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    if (code[0] != '<') return 0;
    if (starts_with(code, count, start)) {
        *length = sizeof start - 1;
        return START_TOKEN;
    }
    if (starts_with(code, count, end)) {
        *length = sizeof end - 1;
        return END_TOKEN;
    }
    return 0;
}

/* How many code points the next word takes, by CLIP's pattern without its special tokens:
 * 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+. code[0] is no white space. */
static size_t match_word(const uint32_t *code, size_t count) {
    static const char *const contractions[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    size_t length = 1, special = 0;
    for (size_t i = 0; i < sizeof contractions / sizeof *contractions; i++) {
        if (starts_with(code, count, contractions[i])) return strlen(contractions[i]);
    }
    if (tsr__unicode_is_letter(code[0])) {
        while (length < count && tsr__unicode_is_letter(code[length])) length++;
    } else if (!tsr__unicode_is_number(code[0])) {
        while (length < count && !tsr__unicode_is_space(code[length]) && !tsr__unicode_is_letter(code[length]) &&
               !tsr__unicode_is_number(code[length]) && !find_special(&special, code + length, count - length))
            length++;
    }
    return length;
}

/* Merges the word in tokens[0..count) in place and returns the new count. ranks is working room of the same size:
 * ranks[i] belongs to the pair (i, i + 1). Each round joins every occurrence of the best pair from left to right. */
static size_t merge_word(const tsr__tokenizer *tokenizer, int *tokens, int *ranks, size_t count) {
    for (size_t i = 0; i + 1 < count; i++) ranks[i] = find_rank(tokenizer, tokens[i], tokens[i + 1]);
    while (count > 1) {
        int best = NO_MERGE;
        for (size_t i = 0; i + 1 < count; i++) best = ranks[i] < best ? ranks[i] : best;
        if (best == NO_MERGE) break;
        size_t kept = 0;
        for (size_t i = 0; i < count; kept++) {
            if (i + 1 < count && ranks[i] == best) {
                tokens[kept] = 512 + best;
                ranks[kept] = -1; /* its pairs have changed */
                i += 2;
            } else {
                tokens[kept] = tokens[i];
                ranks[kept] = ranks[i];
                i++;
            }
        }
        count = kept;
        for (size_t i = 0; i + 1 < count; i++) {
            if (ranks[i] == -1 || ranks[i + 1] == -1 || tokens[i + 1] == 512 + best)
                ranks[i] = find_rank(tokenizer, tokens[i], tokens[i + 1]);
        }
    }
    return count;
}

/* Everything tokenizing collects; the arrays have room for the longest prompt they were made for. */
typedef struct token_list {
    uint32_t *code; /* one piece, lower-cased */
    int *ranks;
    int *tokens; /* all pieces */
    size_t count;
} token_list;

static void append_word(const tsr__tokenizer *tokenizer, token_list *list, const uint32_t *code, size_t length) {
    int *word = list->tokens + list->count;
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        char bytes[4];
        const size_t size = tsr__utf8_put(bytes, code[i]);
        for (size_t k = 0; k < size; k++) word[count++] = tokenizer->token_of_byte[(unsigned char)bytes[k]];
    }
    word[count - 1] += 256; /* ends the word */
    list->count += merge_word(tokenizer, word, list->ranks, count);
}

static void append_piece(const tsr__tokenizer *tokenizer, token_list *list, const char *text, size_t length) {
    const char *cursor = text, *end = text + length;
    size_t count = 0;
    while (cursor < end) {
        uint32_t lower[2];
        const int grown = tsr__unicode_lower(lower, tsr__utf8_next(&cursor, end));
        for (int i = 0; i < grown; i++) list->code[count++] = lower[i];
    }
    for (size_t i = 0; i < count;) {
        size_t step = 1;
        const int special = find_special(&step, list->code + i, count - i);
        if (special) {
            list->tokens[list->count++] = special;
        } else if (!tsr__unicode_is_space(list->code[i])) {
            step = match_word(list->code + i, count - i);
            append_word(tokenizer, list, list->code + i, step);
        }
        i += step;
    }
}

static void start_chunk(tsr__token_chunks *out, int pad) {
    int *ids = out->ids + out->chunks * TSR__CHUNK;
    float *weights = out->weights + out->chunks * TSR__CHUNK;
    ids[0] = START_TOKEN;
    ids[1] = END_TOKEN;
    weights[0] = weights[1] = 1.0f;
    for (int i = 2; i < TSR__CHUNK; i++) {
        ids[i] = pad;
        weights[i] = 1.0f;
    }
    out->chunks++;
}

/* Puts one piece's tokens behind the *used tokens of the last chunk, opening chunks as needed. */
static void pack_piece(tsr__token_chunks *out, size_t *used, const int *tokens, size_t count, double weight, int pad) {
    const int may_cut = count >= LONG_WORD;
    while (count > 0) {
        const size_t room = CHUNK_TOKENS - *used;
        const size_t take = count <= room ? count : may_cut ? room : 0;
        int *ids = out->ids + (out->chunks - 1) * TSR__CHUNK + 1 + *used;
        float *weights = out->weights + (out->chunks - 1) * TSR__CHUNK + 1 + *used;
        for (size_t i = 0; i < take; i++) {
            ids[i] = tokens[i];
            weights[i] = (float)weight;
            if (weights[i] != 1.0f) out->weighted = 1;
        }
        if (take > 0) ids[take] = END_TOKEN;
        *used += take;
        tokens += take;
        count -= take;
        if (count > 0) {
            start_chunk(out, pad);
            *used = 0;
        }
    }
}

/* --- embeddings --- */

static const char EMBEDDING[] = "embedding:";
enum { EMBEDDING_LENGTH = sizeof EMBEDDING - 1 };

/* Tokens that stay together, of one weight: a text, or (text NULL) rows of an embedding. */
typedef struct group {
    const char *text;
    size_t length;
    int first, count;
    double weight;
} group;

typedef struct group_list {
    group *items;
    size_t count;
} group_list;

static int is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Where the next "embedding:" at the start or after white space is; length when there is none. */
static size_t find_embedding(const char *text, size_t length) {
    for (size_t i = 0; i + EMBEDDING_LENGTH < length; i++)
        if ((i == 0 || is_space(text[i - 1])) && memcmp(text + i, EMBEDDING, EMBEDDING_LENGTH) == 0) return i;
    return length;
}

static void add_text(group_list *groups, const char *text, size_t length, double weight) {
    if (length) groups->items[groups->count++] = (group){ .text = text, .length = length, .weight = weight };
}

/* text is behind "embedding:". Returns in *taken how much of it the name is; commas behind a name may be text. */
static tsr_status add_embedding(group_list *groups, const char *text, size_t length, double weight,
                                const tsr__embedding_source *source, size_t *taken, tsr_error *err) {
    tsr_status status = TSR_OK;
    group made = { .weight = weight };
    size_t whole = 0;
    int found = 0;
    while (whole < length && !is_space(text[whole])) whole++;
    if (!source)
        TSR_FAIL(err, TSR_UNSUPPORTED, "prompt: \"embedding:%.*s\": there are no embeddings here; take this word out",
                 (int)(whole < 60 ? whole : 60), text);
    for (*taken = whole; *taken && !found;) {
        TSR_TRY(source->find(source->user, text, *taken, &found, &made.first, &made.count, err));
        if (found) break;
        size_t before = *taken;
        while (*taken && text[*taken - 1] == ',') --*taken;
        if (*taken == before) break;
    }
    if (!found)
        TSR_FAIL(err, TSR_NOT_FOUND, "prompt: \"embedding:%.*s\": no such file in embeddings/ beside the model",
                 (int)(whole < 200 ? whole : 200), text);
    groups->items[groups->count++] = made;
done:
    return status;
}

static tsr_status split_piece(group_list *groups, const tsr__prompt_piece *piece, const tsr__embedding_source *source,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *text = piece->text;
    size_t left = piece->length;
    while (left) {
        size_t before = find_embedding(text, left), taken = 0;
        add_text(groups, text, before, piece->weight);
        text += before;
        left -= before;
        if (!left) break;
        text += EMBEDDING_LENGTH;
        left -= EMBEDDING_LENGTH;
        TSR_TRY(add_embedding(groups, text, left, piece->weight, source, &taken, err));
        text += taken;
        left -= taken;
    }
done:
    return status;
}

/* Room for the most groups: an embedding takes more than its word and may leave a text on each side. */
static tsr_status split_pieces(group_list *groups, const tsr__prompt_pieces *pieces,
                               const tsr__embedding_source *source, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t most = 0;
    for (size_t i = 0; i < pieces->count; i++) most += 2 * (pieces->pieces[i].length / EMBEDDING_LENGTH) + 1;
    TSR_ALLOC(err, groups->items, most + 1);
    for (size_t i = 0; i < pieces->count; i++) TSR_TRY(split_piece(groups, &pieces->pieces[i], source, err));
done:
    return status;
}

/* Every group's tokens one behind the other; ends[i] is where group i's end. */
static tsr_status list_tokens(const tsr__tokenizer *tokenizer, token_list *list, size_t *ends, const group_list *groups,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t bytes = 0, rows = 0;
    for (size_t i = 0; i < groups->count; i++) {
        bytes += groups->items[i].length;
        rows += (size_t)groups->items[i].count;
    }
    const size_t room = bytes * 2 + 1; /* lower-casing makes 2 bytes of UTF-8 into 3 at worst */
    TSR_ALLOC(err, list->code, room);
    TSR_ALLOC(err, list->ranks, room);
    TSR_ALLOC(err, list->tokens, room + rows);
    for (size_t i = 0; i < groups->count; i++) {
        const group *g = &groups->items[i];
        if (g->text) append_piece(tokenizer, list, g->text, g->length);
        for (int k = 0; k < g->count; k++) list->tokens[list->count++] = TSR__EXTRA_TOKEN + g->first + k;
        ends[i] = list->count;
    }
done:
    return status;
}

tsr_status tsr__tokenize_with(const tsr__tokenizer *tokenizer, tsr__token_chunks *out, const char *prompt, int pad,
                              const tsr__embedding_source *source, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__prompt_pieces pieces = { 0 };
    group_list groups = { 0 };
    token_list list = { 0 };
    size_t *ends = NULL, used = 0;

    memset(out, 0, sizeof *out);
    TSR_TRY(tsr__prompt_parse(&pieces, prompt, err));
    TSR_TRY(split_pieces(&groups, &pieces, source, err));
    TSR_ALLOC(err, ends, groups.count + 1);
    TSR_TRY(list_tokens(tokenizer, &list, ends, &groups, err));

    /* A chunk is left when a group of fewer than LONG_WORD tokens does not fit, or when it is full. */
    const size_t most_chunks = list.count / (CHUNK_TOKENS - LONG_WORD + 2) + 1;
    TSR_ALLOC(err, out->ids, most_chunks * TSR__CHUNK);
    TSR_ALLOC(err, out->weights, most_chunks * TSR__CHUNK);
    start_chunk(out, pad);
    for (size_t i = 0, begin = 0; i < groups.count; begin = ends[i++])
        pack_piece(out, &used, list.tokens + begin, ends[i] - begin, groups.items[i].weight, pad);
done:
    if (status != TSR_OK) tsr__token_chunks_clear(out);
    free(ends);
    free(list.tokens);
    free(list.ranks);
    free(list.code);
    free(groups.items);
    tsr__prompt_pieces_clear(&pieces);
    return status;
}

tsr_status tsr__tokenize(const tsr__tokenizer *tokenizer, tsr__token_chunks *out, const char *prompt, int pad,
                         tsr_error *err) {
    return tsr__tokenize_with(tokenizer, out, prompt, pad, NULL, err);
}

void tsr__token_chunks_clear(tsr__token_chunks *chunks) {
    free(chunks->ids);
    free(chunks->weights);
    memset(chunks, 0, sizeof *chunks);
}
