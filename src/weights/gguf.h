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

/* ggml's number of a type; -1: GGUF has no such type. */
int tsr__gguf_type_number(tsr__dtype dtype);

/* One block of that type (Q4_0 ... IQ4_XS) to tsr__dtype_block floats. */
void tsr__gguf_block_to_f32(tsr__dtype dtype, const unsigned char *block, float *out);
/* The other way, for Q4_0 ... Q6_K; 0: another type. in: finite values. */
int tsr__gguf_block_from_f32(tsr__dtype dtype, const float *in, unsigned char *block);

/* --- writing (gguf_save.c) --- */
/* What stands in a file before its tensors. */
typedef struct tsr__gguf_header {
    const char *architecture;    /* general.architecture; NULL: the key is left out, as stable-diffusion.cpp does */
    int file_type;               /* general.file_type, written with an architecture; -1: none */
    const char *const *metadata; /* key, value, ..., NULL: texts */
} tsr__gguf_header;
/* Writes a GGUF file of version 3 with data aligned to 32 bytes, whole or not at all. Tensors have 4 sides at most. make as in
 * tsr__safetensors_save_made. stored: NULL, or for each tensor the shape that it is kept with where that is another one
 * (rank -1: its own); readers get the original by comfy.gguf.orig_shape.NAME. */
typedef struct tsr__gguf_shape {
    int rank;
    int64_t side[4];
} tsr__gguf_shape;
tsr_status tsr__gguf_save_made(const char *path, const tsr__tensor_out *tensors, const tsr__gguf_shape *stored,
                               size_t count, const tsr__gguf_header *header, tsr__tensor_make_fn make, void *user,
                               tsr_error *err);

#endif /* TSR_GGUF_H */
