/* nn/cpu/kernels_bf16.c - bfloat16 kernels for AVX-512 with bf16 arithmetic. */
#if defined(__x86_64__)
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))),        \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#endif
#include "nn/cpu/vec_avx512.h"

#include "nn/cpu/elem_bf16.h"
#define KERNELS      tsr__kernels_bf16
#define KERNELS_NAME "avx512_bf16"
#include "nn/cpu/kernels_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
