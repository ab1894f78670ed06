/* tessera/mask.h - where a region is: float32 weights in [0, 1], one a pixel, soft values welcome.
 *
 * Threads: a tsr_mask is plain memory; share it for reading only. */
#ifndef TSR_MASK_H
#define TSR_MASK_H

#include "tessera/image.h"
#include "tessera/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_mask {
    int width, height;
    float *values; /* [height, width] */
} tsr_mask;

TSR_API tsr_status tsr_mask_new(tsr_mask **out, int width, int height, float value, tsr_error *err);
TSR_API void tsr_mask_free(tsr_mask *mask); /* NULL is allowed */
TSR_API tsr_status tsr_mask_copy(tsr_mask **out, const tsr_mask *mask, tsr_error *err);

/* A box in pixels: 1 inside [x, x + w) x [y, y + h), 0 outside. Must touch the picture. */
TSR_API tsr_status tsr_mask_from_box(tsr_mask **out, int width, int height, int x, int y, int w, int h, tsr_error *err);

typedef enum tsr_mask_channel {
    TSR_MASK_LUMA,  /* (r + g + b) / 3: white is inside */
    TSR_MASK_ALPHA, /* 1 - alpha, ComfyUI's LoadImage rule; zeros without alpha */
    TSR_MASK_RED,
    TSR_MASK_GREEN,
    TSR_MASK_BLUE
} tsr_mask_channel;
TSR_API tsr_status tsr_mask_from_image(tsr_mask **out, const tsr_image *image, tsr_mask_channel channel,
                                       tsr_error *err);
/* 1 where the picture has exactly the colour 0xRRGGBB (Inspire's RegionalPromptColorMask rule), else 0. */
TSR_API tsr_status tsr_mask_from_color(tsr_mask **out, const tsr_image *image, unsigned rgb, tsr_error *err);

/* Bilinear, align_corners false, no antialias: PyTorch's interpolate(mode="bilinear"). */
TSR_API tsr_status tsr_mask_resize(tsr_mask **out, const tsr_mask *mask, int width, int height, tsr_error *err);
/* Softens the edge: a Gaussian of that radius in pixels (sigma = radius / 2), the same in both directions, 0 = copy. */
TSR_API tsr_status tsr_mask_feather(tsr_mask *mask, float radius_px, tsr_error *err);
/* ComfyUI's FeatherMask with its quirk on the right and bottom edges. */
TSR_API tsr_status tsr_mask_feather_edges(tsr_mask *mask, int left, int top, int right, int bottom, tsr_error *err);
/* The Impact Pack's region mask: resample to (w, h) swapped as the reference does, round, box sum of overlap x overlap,
 * clamp to 1, crop, round. overlap 0: resample and round. latent sizes in latent pixels... see docs/masks.md. */
TSR_API tsr_status tsr_mask_region_growth(tsr_mask **out, const tsr_mask *mask, int latent_width, int latent_height,
                                          int overlap, tsr_error *err);
/* ComfyUI's MaskComposite. */
typedef enum tsr_mask_op {
    TSR_MASK_MULTIPLY,
    TSR_MASK_ADD,
    TSR_MASK_SUBTRACT,
    TSR_MASK_AND,
    TSR_MASK_OR,
    TSR_MASK_XOR
} tsr_mask_op;
TSR_API tsr_status tsr_mask_composite(tsr_mask *destination, const tsr_mask *source, int x, int y, tsr_mask_op op,
                                      tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_MASK_H */
