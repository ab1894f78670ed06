/* nn/cpu/cpu_detect.c - which kernels this CPU may run. Reads the environment's TSR_CPU; nothing else in the library
 * does. */
#include "nn/cpu/kernels.h"
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
static int level_of_cpu(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 1;
    return __builtin_cpu_supports("avx512bf16") ? 3 : 2;
}

/* 0 base, 1 avx2, 2 avx512, 3 avx512 with bf16. A name that is not known changes nothing. */
static int level(void) {
    static const struct {
        const char *name;
        int level;
    } names[] = { { "base", 0 }, { "avx2", 1 }, { "avx512", 2 } };
    int best = level_of_cpu();
    const char *asked = getenv("TSR_CPU");
    for (size_t i = 0; asked && i < sizeof names / sizeof *names; i++)
        if (!strcmp(asked, names[i].name) && names[i].level < best) return names[i].level;
    return best;
}

const tsr__kernels *tsr__kernels_f32(void) {
    switch (level()) {
    case 0: return &tsr__kernels_base;
    case 1: return &tsr__kernels_avx2;
    default: return &tsr__kernels_avx512;
    }
}

const tsr__kernels *tsr__kernels_bf16_or_null(void) {
    return level() == 3 ? &tsr__kernels_bf16 : NULL;
}
#else
const tsr__kernels *tsr__kernels_f32(void) {
    return &tsr__kernels_base;
}
const tsr__kernels *tsr__kernels_bf16_or_null(void) {
    return NULL;
}
#endif
