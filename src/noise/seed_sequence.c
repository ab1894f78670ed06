/* noise/seed_sequence.c - NumPy's SeedSequence (O'Neill's randutils seed_seq_fe): entropy words hashed into a pool. */
#include "seed_sequence.h"

enum { POOL = 24, MAX_WORDS = POOL + 3 };

static uint32_t hash_word(uint32_t value, uint32_t *constant) {
    value ^= *constant;
    *constant *= 0x931e8875u;
    value *= *constant;
    return value ^ (value >> 16);
}

static uint32_t mix(uint32_t x, uint32_t y) {
    uint32_t mixed = 0xca01f9ddu * x - 0x4973f715u * y;
    return mixed ^ (mixed >> 16);
}

/* The first output word of the pool that `words` fill; count may be less or more than the pool. */
static uint32_t first_word(const uint32_t *words, int count) {
    uint32_t pool[POOL], constant = 0x43b0d7e5u;
    for (int i = 0; i < POOL; i++) pool[i] = hash_word(i < count ? words[i] : 0, &constant);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to) pool[to] = mix(pool[to], hash_word(pool[from], &constant));
    for (int from = POOL; from < count; from++)
        for (int to = 0; to < POOL; to++) pool[to] = mix(pool[to], hash_word(words[from], &constant));
    uint32_t value = pool[0] ^ 0x8b51f9ddu;
    value *= 0x8b51f9ddu * 0x58f38dedu;
    return value ^ (value >> 16);
}

/* Little-endian words without leading zeros, at least one. */
static int put_words(uint32_t *out, uint64_t value) {
    out[0] = (uint32_t)value;
    if (!(value >> 32)) return 1;
    out[1] = (uint32_t)(value >> 32);
    return 2;
}

uint32_t tsr__seed_root(uint64_t entropy) {
    uint32_t words[2];
    return first_word(words, put_words(words, entropy));
}

uint32_t tsr__seed_spawn(uint64_t entropy, uint64_t key, uint32_t depth) {
    uint32_t words[MAX_WORDS] = { 0 };
    put_words(words, entropy); /* padded with zeros to the pool when a spawn key follows */
    int count = POOL + put_words(words + POOL, key);
    words[count++] = depth;
    return first_word(words, count);
}
