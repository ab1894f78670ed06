/* core/sha256.h - SHA-256 (FIPS 180-4): names for things that must never be confused with others. */
#ifndef TSR_SHA256_H
#define TSR_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct tsr__sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes taken so far */
    unsigned char block[64];
} tsr__sha256;

void tsr__sha256_init(tsr__sha256 *sha);
void tsr__sha256_add(tsr__sha256 *sha, const void *data, size_t size);
void tsr__sha256_end(tsr__sha256 *sha, unsigned char out[32]);

#endif /* TSR_SHA256_H */
