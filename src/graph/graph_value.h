/* graph/graph_value.h - what travels along a workflow's links: typed, immutable, counted values.
 *
 * Knows nothing of nodes' meaning. Threads: one at a time (counts are plain integers). */
#ifndef TSR_GRAPH_VALUE_H
#define TSR_GRAPH_VALUE_H

#include "sample/cond_list.h"
#include "tessera/latent.h"
#include "tessera/mask.h"
#include <stddef.h>
#include <stdint.h>

/* ComfyUI's type names, in tsr__type_name's order. */
#define TSR__TYPE_MAP(X)                                                                                               \
    X(ANY, "*")                                                                                                        \
    X(INT, "INT")                                                                                                      \
    X(FLOAT, "FLOAT")                                                                                                  \
    X(STRING, "STRING")                                                                                                \
    X(BOOLEAN, "BOOLEAN")                                                                                              \
    X(COMBO, "COMBO")                                                                                                  \
    X(MODEL, "MODEL")                                                                                                  \
    X(CLIP, "CLIP")                                                                                                    \
    X(VAE, "VAE")                                                                                                      \
    X(CONDITIONING, "CONDITIONING")                                                                                    \
    X(LATENT, "LATENT")                                                                                                \
    X(IMAGE, "IMAGE")                                                                                                  \
    X(MASK, "MASK")                                                                                                    \
    X(SIGMAS, "SIGMAS")                                                                                                \
    X(SAMPLER, "SAMPLER")                                                                                              \
    X(GUIDER, "GUIDER")                                                                                                \
    X(NOISE, "NOISE")                                                                                                  \
    X(CONTROL_NET, "CONTROL_NET")                                                                                      \
    X(UPSCALE_MODEL, "UPSCALE_MODEL")                                                                                  \
    X(BASIC_PIPE, "BASIC_PIPE")                                                                                        \
    X(KSAMPLER, "KSAMPLER")                                                                                            \
    X(KSAMPLER_ADVANCED, "KSAMPLER_ADVANCED")                                                                          \
    X(REGIONAL_PROMPTS, "REGIONAL_PROMPTS")                                                                            \
    X(UPSCALER, "UPSCALER")                                                                                            \
    X(PK_HOOK, "PK_HOOK")

typedef enum tsr__type {
#define X(name, text) TSR__V_##name,
    TSR__TYPE_MAP(X)
#undef X
        TSR__V_COUNT
} tsr__type;
const char *tsr__type_name(tsr__type type);

/* Pictures of one size. */
typedef struct tsr__pictures {
    int n, h, w, c; /* c 3 or 4 */
    float *values;  /* [n, h, w, c] in 0..1 */
} tsr__pictures;

typedef struct tsr__masks {
    int n;
    tsr_mask **items; /* of one size */
} tsr__masks;

/* An encoded text, shared by conditionings. */
typedef struct tsr__text {
    int refs;
    int tokens, width;
    float *values; /* [tokens, width] */
    int pooled_width;
    float *pooled; /* [pooled_width], SDXL's; NULL where that is 0 */
} tsr__text;

/* One use of a control network, and those before it. Shared, never changed. */
typedef struct tsr__control {
    int refs;
    struct tsr__control *previous;
    struct tsr__value *net, *image; /* CONTROL_NET, IMAGE */
    float strength;
    double start, end; /* of the sampling, 0..1 */
    int everywhere;    /* a negative without control gets it too */
} tsr__control;

/* One entry of a CONDITIONING list. */
typedef struct tsr__cond {
    tsr__text *text;
    float strength;
    tsr__area_kind area_kind;
    double area[4];          /* h, w, y, x: latent pixels, or shares of the latent's size */
    struct tsr__value *mask; /* NULL or MASK */
    float mask_strength;
    int mask_bounds;       /* evaluated on the mask's bounding box only */
    double start, end;     /* of the sampling, 0..1 */
    tsr__control *control; /* NULL: none */
    struct tsr__value
        *concat; /* NULL or LATENT: a picture of its own and, as its noise mask, a mask (engine_concat.h) */
} tsr__cond;

typedef struct tsr__value {
    tsr__type type;
    int refs;
    int64_t integer; /* INT, clamped to its range; CONTROL_NET: the type of picture for unions, or -1 */
    uint64_t bits;   /* INT as a seed: all 64 bits */
    double number;   /* FLOAT, INT */
    int boolean;
    char *text; /* STRING, COMBO; CONTROL_NET: the file */
    tsr_latent *latent;
    tsr__pictures pictures;
    tsr__masks masks;
    tsr__cond *conds; /* CONDITIONING */
    int n_conds;
    float *sigmas; /* SIGMAS */
    int n_sigmas;
    struct tsr__slot *slot;               /* MODEL, CLIP, VAE; the graph's */
    int holds_slot;                       /* counted in the slot's refs */
    int clip_skip;                        /* CLIP: 1 = last layer, 0 = the family's own */
    double differential;                  /* MODEL: as a guide's */
    double rescale;                       /* MODEL: as a guide's */
    struct tsr__model_sampling *sampling; /* MODEL: counted; NULL: the model's own */
    /* A record is a node whose inputs are kept for later: pipes, providers, hooks, samplers, guiders. */
    const struct tsr__node *row;
    struct tsr__value **parts; /* of a record: one a row input, NULL = absent; of a list: its items */
    int n_parts;
    void *other; /* UPSCALE_MODEL and the like */
    void (*free_other)(void *other);
    size_t bytes; /* of all this, once measured */
} tsr__value;

tsr_status tsr__value_new(tsr__value **out, tsr__type type, tsr_error *err);
tsr__value *tsr__value_ref(tsr__value *value); /* NULL gives NULL */
void tsr__value_unref(tsr__value *value);      /* NULL is allowed */
/* About how much memory it keeps alive. What several values share is counted for each. */
size_t tsr__value_bytes(tsr__value *value);
/* Keeps the slot of a MODEL, CLIP or VAE for as long as the value lives; nothing for other values and NULL. */
void tsr__value_hold_slot(tsr__value *value);
void tsr__slot_refs(struct tsr__slot *slot, int change); /* models.c */

/* A MODEL of the same slot with the same patches, to be patched further before it is handed on. */
tsr_status tsr__value_patched(tsr__value **out, const tsr__value *model, tsr_error *err);
void tsr__value_copy_patches(tsr__value *to, const tsr__value *model);
void tsr__model_sampling_unref(struct tsr__model_sampling *sampling); /* models_sampling.c; NULL is allowed */

/* These take the thing they wrap, also when they fail. */
tsr_status tsr__value_take_latent(tsr__value **out, tsr_latent *latent, tsr_error *err);
tsr_status tsr__value_take_mask(tsr__value **out, tsr_mask *mask, tsr_error *err);
tsr_status tsr__value_take_sigmas(tsr__value **out, float *sigmas, int n, tsr_error *err);

/* Values to fill: zeros. */
tsr_status tsr__value_pictures(tsr__value **out, int n, int h, int w, int c, tsr_error *err);
tsr_status tsr__value_masks(tsr__value **out, int n, int width, int height, tsr_error *err);
/* A record or a list; parts are referenced. */
tsr_status tsr__value_parts(tsr__value **out, tsr__type type, const struct tsr__node *row, tsr__value *const *parts,
                            int n, tsr_error *err);

/* An encoded text of that size, not filled. */
tsr_status tsr__text_new(tsr__text **out, int tokens, int width, int pooled_width, tsr_error *err);
void tsr__text_unref(tsr__text *text);
void tsr__control_unref(tsr__control *control); /* NULL is allowed */
/* One plain entry; takes over the caller's count of text. */
tsr_status tsr__value_take_text(tsr__value **out, tsr__text *text, tsr_error *err);
/* A copy whose entries may be changed before it is handed on. */
tsr_status tsr__value_copy_conds(tsr__value **out, const tsr__value *value, tsr_error *err);
/* Both lists, one after the other. */
tsr_status tsr__value_join_conds(tsr__value **out, const tsr__value *a, const tsr__value *b, tsr_error *err);

#endif /* TSR_GRAPH_VALUE_H */
