/* weights/tensor_pack.h - float32 to the types of files, to the nearest value, halves to even. */
#ifndef TSR_TENSOR_PACK_H
#define TSR_TENSOR_PACK_H

#include "weights/weights.h"

/* F32, F16, BF16, F8_E4M3. Too large values become infinite, in F8_E4M3 its largest (448). 0: another type. */
int tsr__tensor_from_f32(void *out, tsr__dtype dtype, const float *in, size_t count);

#endif /* TSR_TENSOR_PACK_H */
