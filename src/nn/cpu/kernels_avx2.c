/* nn/cpu/kernels_avx2.c - float32 kernels for AVX2 with FMA. */
#if defined(__x86_64__)
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#include "nn/cpu/vec_avx2.h"

#include "nn/cpu/elem_float.h"
#define KERNELS      tsr__kernels_avx2
#define KERNELS_NAME "avx2"
#include "nn/cpu/kernels_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
