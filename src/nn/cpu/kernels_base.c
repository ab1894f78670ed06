/* nn/cpu/kernels_base.c - float32 kernels for any CPU. */
#include "nn/cpu/elem_float.h"
#include "nn/cpu/vec_base.h"
#define KERNELS      tsr__kernels_base
#define KERNELS_NAME "base"
#include "nn/cpu/kernels_body.h"
