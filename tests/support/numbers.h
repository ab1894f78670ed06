/* support/numbers.h - numbers in -1..1 that depend on a name and a place only; control_reference.py makes the same. */
#ifndef TSR_TEST_NUMBERS_H
#define TSR_TEST_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

static inline void numbers(float *out, const char *name, size_t count, double scale, double offset) {
    uint32_t seed = 2166136261u;
    for (; *name; name++) seed = (seed ^ (unsigned char)*name) * 16777619u;
    for (size_t i = 0; i < count; i++) {
        uint32_t x = (uint32_t)i * 0x9E3779B9u + seed;
        x = (x ^ (x >> 16)) * 0x7FEB352Du;
        x = (x ^ (x >> 15)) * 0x846CA68Bu;
        x ^= x >> 16;
        float value = (float)(((double)(x >> 8) / 16777216.0 - 0.5) * 2.0);
        out[i] = (float)((double)value * scale + offset);
    }
}

#endif /* TSR_TEST_NUMBERS_H */
