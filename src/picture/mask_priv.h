/* picture/mask_priv.h - batches of masks, as latents carry them: one a picture. */
#ifndef TSR_MASK_PRIV_H
#define TSR_MASK_PRIV_H

#include "tessera/mask.h"

/* n masks of one size behind each other. */
tsr_status tsr__mask_stack(tsr_mask **out, tsr_mask *const *items, int n, tsr_error *err);
/* How many masks there are, at least 1. */
int tsr__mask_count(const tsr_mask *mask);
/* The values of one of them, counted round: picture 5 of a batch of 3 gets mask 2. */
const float *tsr__mask_item(const tsr_mask *mask, int index);
/* What will be repainted becomes grey, so that it does not shine through: colours where the mask is over a half become 0.5.
 * pixels: [count, channels], of which the first three are colours; mask: [count]. */
void tsr__mask_grey_out(float *pixels, int channels, const float *mask, size_t count);

#endif /* TSR_MASK_PRIV_H */
