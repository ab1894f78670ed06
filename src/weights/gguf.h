/* weights/gguf.h - GGUF files (stable-diffusion.cpp, ComfyUI-GGUF) as the same views as safetensors.
 *
 * Format: GGUF versions 2 and 3 of the ggml project: a header with typed key-value pairs, a list of tensors, then data at
 * aligned offsets. Views point into the file; blocks are turned into floats when read (tsr__tensor_part_to_f32). */
#ifndef TSR_GGUF_H
#define TSR_GGUF_H

#include "weights/weights.h"

/* Whether the bytes start as a GGUF file does. */
int tsr__gguf_looks(const unsigned char *data, size_t size);
/* Fills weights (weights_priv.h) from its bytes. Shapes come in PyTorch's order; where the file tells a tensor's original
 * shape (comfy.gguf.orig_shape.NAME), that one. BAD_FORMAT, TOO_LARGE; UNSUPPORTED for element types that no image
 * model is known to use, and for byte-swapped files. */
tsr_status tsr__gguf_read(tsr__weights *weights, tsr_error *err);

/* One block of that type (Q4_0 ... Q6_K) to tsr__dtype_block floats. */
void tsr__gguf_block_to_f32(tsr__dtype dtype, const unsigned char *block, float *out);

#endif /* TSR_GGUF_H */
