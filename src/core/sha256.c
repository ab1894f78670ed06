/* core/sha256.c - see sha256.h. Variable names are those of FIPS 180-4, section 6.2. */
#include "core/sha256.h"

#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t v, int by) {
    return v >> by | v << (32 - by);
}

static void mix(tsr__sha256 *sha) {
    uint32_t w[64], h[8];
    for (int t = 0; t < 16; t++) {
        const unsigned char *at = sha->block + 4 * t;
        w[t] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    memcpy(h, sha->state, sizeof h);
    for (int t = 0; t < 64; t++) {
        uint32_t s1 = rotate(h[4], 6) ^ rotate(h[4], 11) ^ rotate(h[4], 25), ch = (h[4] & h[5]) ^ (~h[4] & h[6]);
        uint32_t t1 = h[7] + s1 + ch + K[t] + w[t];
        uint32_t s0 = rotate(h[0], 2) ^ rotate(h[0], 13) ^ rotate(h[0], 22);
        uint32_t t2 = s0 + ((h[0] & h[1]) ^ (h[0] & h[2]) ^ (h[1] & h[2]));
        memmove(h + 1, h, 7 * sizeof *h);
        h[4] += t1;
        h[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) sha->state[i] += h[i];
}

void tsr__sha256_init(tsr__sha256 *sha) {
    static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    memset(sha, 0, sizeof *sha);
    memcpy(sha->state, start, sizeof start);
}

void tsr__sha256_add(tsr__sha256 *sha, const void *data, size_t size) {
    const unsigned char *from = data;
    while (size > 0) {
        size_t filled = (size_t)(sha->size % 64), part = 64 - filled < size ? 64 - filled : size;
        memcpy(sha->block + filled, from, part);
        sha->size += part;
        from += part;
        size -= part;
        if (filled + part == 64) mix(sha);
    }
}

void tsr__sha256_end(tsr__sha256 *sha, unsigned char out[32]) {
    static const unsigned char padding[64] = { 0x80 };
    unsigned char bits[8];
    uint64_t size = sha->size * 8;
    for (int i = 0; i < 8; i++) bits[i] = (unsigned char)(size >> (56 - 8 * i));
    tsr__sha256_add(sha, padding, 1 + (size_t)((119 - sha->size % 64) % 64));
    tsr__sha256_add(sha, bits, sizeof bits);
    for (int i = 0; i < 32; i++) out[i] = (unsigned char)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
}
