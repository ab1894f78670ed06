/* tessera/latent.h - a latent picture in raw VAE units.
 *
 * Threads: plain memory; share it for reading only. */
#ifndef TSR_LATENT_H
#define TSR_LATENT_H

#include "tessera/mask.h"
#include "tessera/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_latent {
    int shape[4];         /* n, c, h, w */
    float *values;        /* [n, c, h, w] */
    tsr_mask *noise_mask; /* NULL or owned: 1 = repaint */
    int *batch_index;     /* NULL or n entries, owned */
} tsr_latent;

/* Zeros. n 1..4096, c 1..64, h and w 1..2048. */
TSR_API tsr_status tsr_latent_new(tsr_latent **out, int n, int c, int h, int w, tsr_error *err);
TSR_API void tsr_latent_free(tsr_latent *latent); /* NULL is allowed */
TSR_API tsr_status tsr_latent_copy(tsr_latent **out, const tsr_latent *latent, tsr_error *err);
TSR_API size_t tsr_latent_count(const tsr_latent *latent); /* n * c * h * w */

typedef enum tsr_resize_method {
    TSR_RESIZE_NEAREST_EXACT,
    TSR_RESIZE_BILINEAR,
    TSR_RESIZE_AREA,
    TSR_RESIZE_BICUBIC,
    TSR_RESIZE_LANCZOS,
    TSR_RESIZE_BISLERP
} tsr_resize_method;
/* ComfyUI's common_upscale without cropping: NCHW float32 in, out [n, c, height, width] given by the caller. */
TSR_API tsr_status tsr_resize_nchw(float *out, int height, int width, const float *in, const int shape[4],
                                   tsr_resize_method method, tsr_error *err);
/* The method of that ComfyUI name: "nearest-exact", "bilinear", "area", "bicubic", "lanczos", "bislerp". */
TSR_API tsr_status tsr_resize_method_parse(tsr_resize_method *out, const char *name, tsr_error *err);
/* ComfyUI's crop "center": what to cut from each side of a picture of width x height (x columns left and right, y rows
 * top and bottom) before resizing it to the target. All sizes at least 1. */
TSR_API void tsr_resize_center_crop(int *x, int *y, int width, int height, int target_width, int target_height);

/* LatentCompositeMasked without resize_source: destination * (1 - m) + source * m at (x, y) latent pixels (ComfyUI's
 * node takes picture pixels: divide by 8); mask NULL = 1, else resized bilinear to the source's size. What lies outside
 * the destination is cut off; a source of a smaller batch is repeated. */
TSR_API tsr_status tsr_latent_composite(tsr_latent *destination, const tsr_latent *source, int x, int y,
                                        const tsr_mask *mask, tsr_error *err);

/* ComfyUI's .latent file: safetensors with latent_tensor (F32) and latent_format_version_0. */
TSR_API tsr_status tsr_latent_save(const tsr_latent *latent, const char *path, tsr_error *err);
TSR_API tsr_status tsr_latent_load(tsr_latent **out, const char *path, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_LATENT_H */
