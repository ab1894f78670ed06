/* nn/cpu/kernels_base.c - float32 kernels for any CPU. */
#include "nn/cpu/vec_base.h"

#include "nn/cpu/elem_float.h"
#define KERNELS      tsr__kernels_base
#define KERNELS_NAME "base"
#include "nn/cpu/kernels_body.h"
