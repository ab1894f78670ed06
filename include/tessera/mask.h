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
    int count; /* 0 and 1: one mask. More: a batch, behind each other in values; only noise masks of latents may be one */
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

/* "#RRGGBB", "RRGGBB", "#RGB" or "RGB" to 0xRRGGBB. */
TSR_API tsr_status tsr_mask_parse_color(unsigned *out, const char *text, tsr_error *err);

/* Bilinear, align_corners false, no antialias: PyTorch's interpolate(mode="bilinear"). */
TSR_API tsr_status tsr_mask_resize(tsr_mask **out, const tsr_mask *mask, int width, int height, tsr_error *err);
/* Bilinear with align_corners true, as the two-sampler upscaler brings its mask to the next size. */
TSR_API tsr_status tsr_mask_resize_corners(tsr_mask **out, const tsr_mask *mask, int width, int height, tsr_error *err);
/* The mean weight under each target pixel, counting the parts of pixels at its border: loses no soft value and keeps
 * the mean of the mask. For shrinking to latent size. */
TSR_API tsr_status tsr_mask_downsample_area(tsr_mask **out, const tsr_mask *mask, int width, int height,
                                            tsr_error *err);
/* Smallest, largest and mean weight. */
TSR_API float tsr_mask_min(const tsr_mask *mask);
TSR_API float tsr_mask_max(const tsr_mask *mask);
TSR_API float tsr_mask_mean(const tsr_mask *mask);
/* Softens the edge: a Gaussian of that radius in pixels (sigma = radius / 2), the same in both directions, 0 = copy. */
TSR_API tsr_status tsr_mask_feather(tsr_mask *mask, float radius_px, tsr_error *err);
/* ComfyUI's FeatherMask with its quirk on the right and bottom edges. */
TSR_API tsr_status tsr_mask_feather_edges(tsr_mask *mask, int left, int top, int right, int bottom, tsr_error *err);
/* The Impact Pack's region mask, exactly 0 or 1: resample to (w, h) swapped as the reference does, round (half to
 * even), box sum of overlap x overlap, clamp to 1, crop, round. overlap 0: resample and round.
 * (width, height) is the target size the reference would name: the latent's in RegionalSampler's own mask_erosion, the
 * mask's own pixel size in RegionalPrompt.get_mask_erosion. Because of the swap the result is `height` wide and `width`
 * high; on square targets nothing shows. Bring it to the latent with tsr_mask_resize. overlap 0..10000. */
TSR_API tsr_status tsr_mask_region_growth(tsr_mask **out, const tsr_mask *mask, int width, int height, int overlap,
                                          tsr_error *err);
/* The same growth without the swap, for masks that need not repeat the reference: the result is width x height. */
TSR_API tsr_status tsr_mask_grow(tsr_mask **out, const tsr_mask *mask, int width, int height, int overlap,
                                 tsr_error *err);
/* Wider by a disc of that radius in pixels (the largest weight within it), narrower when negative; what lies outside the
 * picture does not count. radius -4096..4096. */
TSR_API tsr_status tsr_mask_widen(tsr_mask *mask, int radius_px, tsr_error *err);

/* Pixels around a picture. */
typedef struct tsr_margins {
    int left, top, right, bottom;
} tsr_margins;
/* ComfyUI's ImagePadForOutpaint: the mask of a width x height picture with margins, 1 in the margins. Inside, beside a
 * margin, it fades over feather_px: ((feather - distance) / feather)^2, unless the picture is not wider and higher than twice
 * that; then, and with feather 0, it is 0 inside. *out is the caller's. Errors: BAD_ARGUMENT. */
TSR_API tsr_status tsr_mask_outpaint(tsr_mask **out, int width, int height, const tsr_margins *margins, int feather_px,
                                     tsr_error *err);

/* The base mask of RegionalSampler: 1 where no mask has any weight, else 0. All masks of one size; count at least 1. */
TSR_API tsr_status tsr_mask_inverse_of_union(tsr_mask **out, const tsr_mask *const *masks, int count, tsr_error *err);
/* The base mask of the two-sampler nodes: 1 wherever the mask is not exactly 1. */
TSR_API tsr_status tsr_mask_inverse_not_one(tsr_mask **out, const tsr_mask *mask, tsr_error *err);
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
