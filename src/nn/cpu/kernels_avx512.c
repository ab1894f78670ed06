/* nn/cpu/kernels_avx512.c - float32 kernels for AVX-512. */
#if defined(__x86_64__)
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))),                   \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#include "nn/cpu/vec_avx512.h"

#include "nn/cpu/elem_float.h"
#define KERNELS      tsr__kernels_avx512
#define KERNELS_NAME "avx512"
#include "nn/cpu/kernels_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
