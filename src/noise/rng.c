/* noise/rng.c - PyTorch's CPU generator: mt19937 and the two ways torch.randn turns its words into normals.
 *
 * Knows nothing of latents or sigmas. Source: the Mersenne Twister paper (Matsumoto and Nishimura 1998) and the observed
 * order in which PyTorch consumes words; tests/golden/data/rng.safetensors holds the numbers it prints. */
#include <math.h>
#include <string.h>

#include "tessera/noise.h"

enum { STATE_SIZE = 624, STATE_SHIFT = 397, BLOCK = 16, HALF_BLOCK = 8 };
#define TWO_PI 6.283185307179586

void tsr_rng_seed(tsr_rng *rng, uint64_t seed) {
    memset(rng, 0, sizeof *rng);
    rng->state[0] = (uint32_t)(seed & 0xffffffffu);
    for (uint32_t i = 1; i < STATE_SIZE; i++) {
        uint32_t before = rng->state[i - 1];
        rng->state[i] = 1812433253u * (before ^ (before >> 30)) + i;
    }
    rng->left = 1;
}

static uint32_t twist(uint32_t high, uint32_t low) {
    uint32_t mixed = (high & 0x80000000u) | (low & 0x7fffffffu);
    return (mixed >> 1) ^ (0x9908b0dfu & (0u - (low & 1u)));
}

static void refill(tsr_rng *rng) {
    enum { WRAP = STATE_SIZE - STATE_SHIFT };
    uint32_t *s = rng->state;
    for (int i = 0; i < WRAP; i++) s[i] = s[i + STATE_SHIFT] ^ twist(s[i], s[i + 1]);
    for (int i = WRAP; i < STATE_SIZE - 1; i++) s[i] = s[i - WRAP] ^ twist(s[i], s[i + 1]);
    s[STATE_SIZE - 1] = s[STATE_SHIFT - 1] ^ twist(s[STATE_SIZE - 1], s[0]);
    rng->left = STATE_SIZE;
    rng->next = 0;
}

uint32_t tsr_rng_next_u32(tsr_rng *rng) {
    if (--rng->left <= 0) refill(rng);
    uint32_t y = rng->state[rng->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* 24 random bits in [0, 1). */
static float uniform_float(tsr_rng *rng) {
    return (float)(tsr_rng_next_u32(rng) & 0xffffffu) * 0x1p-24f;
}

/* 53 random bits in [0, 1); the first word is the high one. */
static double uniform_double(tsr_rng *rng) {
    uint64_t high = tsr_rng_next_u32(rng);
    uint64_t word = (high << 32) | tsr_rng_next_u32(rng);
    return (double)(word & 0x1fffffffffffffu) * 0x1p-53;
}

/* 16 uniforms become 16 normals (Box-Muller): value j pairs with value j + 8. */
static void normals_of_block(float *values) {
    for (int j = 0; j < HALF_BLOCK; j++) {
        float radius = sqrtf(-2.0f * logf(1.0f - values[j]));
        float theta = (float)TWO_PI * values[j + HALF_BLOCK];
        values[j] = radius * cosf(theta);
        values[j + HALF_BLOCK] = radius * sinf(theta);
    }
}

/* Fewer than 16 values: one pair of double normals at a time, the second of which waits in the generator. */
static float normal_single(tsr_rng *rng) {
    if (rng->has_cached) {
        rng->has_cached = 0;
        return (float)rng->cached_normal;
    }
    double angle = TWO_PI * uniform_double(rng);
    double radius = sqrt(-2.0 * log1p(-uniform_double(rng)));
    rng->cached_normal = radius * sin(angle);
    rng->has_cached = 1;
    return (float)(radius * cos(angle));
}

void tsr_rng_randn(tsr_rng *rng, float *out, size_t count) {
    if (count < BLOCK) {
        for (size_t i = 0; i < count; i++) out[i] = normal_single(rng);
        return;
    }
    for (size_t i = 0; i < count; i++) out[i] = uniform_float(rng);
    for (size_t i = 0; i + BLOCK <= count; i += BLOCK) normals_of_block(out + i);
    if (count % BLOCK) {
        /* The incomplete block is not used: the last 16 values are drawn once more. */
        float *tail = out + count - BLOCK;
        for (int i = 0; i < BLOCK; i++) tail[i] = uniform_float(rng);
        normals_of_block(tail);
    }
}
