/* sample/cond_list.h - several conditionings on one side of the guidance: areas, masks, strengths, parts of the schedule.
 *
 * A denoiser around a denoiser: its `cond` handles are lists, each entry of which is a network evaluation on its own area.
 * Sampling and regions see an ordinary tsr_denoiser. Source of the rules: reference/comfyui-sampling.md, "Several
 * conditionings of one side". Must not know solvers or files.
 *
 * Threads: one at a time per object. */
#ifndef TSR_COND_LIST_H
#define TSR_COND_LIST_H

#include "tessera/denoiser.h"
#include "tessera/mask.h"

typedef enum tsr__area_kind { TSR__AREA_NONE, TSR__AREA_LATENT, TSR__AREA_SHARE } tsr__area_kind;

typedef struct tsr__cond_entry {
    const void *cond; /* the network's handle */
    float strength;
    tsr__area_kind area_kind;
    double area[4];       /* h, w, y, x: latent pixels, or shares of the latent's sides */
    const tsr_mask *mask; /* NULL or borrowed; any size */
    float mask_strength;
    int mask_bounds;              /* evaluated on the mask's bounding box only */
    float start_sigma, end_sigma; /* left out above the first and below the second */
} tsr__cond_entry;

/* The positive and the negative list of one guide: an area on one side is evaluated on the other as well. */
typedef struct tsr__cond_pair tsr__cond_pair;
/* Entries are copied; their handles and masks must outlive the pair. */
tsr_status tsr__cond_pair_new(tsr__cond_pair **out, const tsr__cond_entry *positive, int n_positive,
                              const tsr__cond_entry *negative, int n_negative, tsr_error *err);
void tsr__cond_pair_free(tsr__cond_pair *pair); /* NULL is allowed */
/* The handle for tsr_guide.positive (0) or .negative (1). */
const void *tsr__cond_pair_side(const tsr__cond_pair *pair, int negative);

typedef struct tsr__cond_denoiser {
    tsr_denoiser denoiser; /* whose handles are the sides of pairs */
    const tsr_denoiser *network;
} tsr__cond_denoiser;
/* network is borrowed. */
void tsr__cond_denoiser_init(tsr__cond_denoiser *out, const tsr_denoiser *network);

#endif /* TSR_COND_LIST_H */
