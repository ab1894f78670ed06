/* model/layers.h - what every network is built from: weights found by name, norms, and the residual block.
 *
 * Owns the rules "which tensor, which shape, which words when it is missing". Knows no network's layout as a whole. */
#ifndef TSR_LAYERS_H
#define TSR_LAYERS_H

#include "model/weight_log.h"
#include "nn/nn.h"
#include "weights/weights.h"

/* A tensor's name; long enough for any name this project builds. */
typedef struct tsr__name {
    char text[256];
} tsr__name;
tsr__name tsr__name_of(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* Loads one network. Borrows everything. */
typedef struct tsr__loader {
    tsr__nn *nn;
    const tsr__weights *weights;
    char prefix[128];     /* without the last dot */
    const char *layout;   /* ends the line "missing tensor ...: not <layout>" */
    int64_t parameters;   /* scalars loaded so far */
    tsr__weight_log *log; /* what was packed; NULL: nobody will ask */
} tsr__loader;

tsr_status tsr__loader_init(tsr__loader *loader, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                            const char *layout, tsr_error *err);
/* The tensor PREFIX.name, or NULL. */
const tsr__tensor_view *tsr__load_find(const tsr__loader *loader, const char *name);
/* Whether PREFIX.name exists (printf format). */
int tsr__load_has(const tsr__loader *loader, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/* The tensor PREFIX.name, which must exist and have this rank; every side is in 1..65536. */
tsr_status tsr__load_need(const tsr__loader *loader, const tsr__tensor_view **out, const char *name, int rank,
                          tsr_error *err);
/* The same with known sides. */
tsr_status tsr__load_shaped(const tsr__loader *loader, const tsr__tensor_view **out, const char *name, int rank,
                            const int64_t *shape, tsr_error *err);
/* The weight whose first tensor is `first`, where the file is a packed cache that has it (*out NULL: it has not). */
tsr_status tsr__load_packed(const tsr__loader *loader, tsr__nn_weight **out, const tsr__nn_shape *shape,
                            const tsr__tensor_view *first, const float *bias, tsr_error *err);
/* Notes a packed weight or a norm in the loader's log; names without the prefix and without ".weight". */
tsr_status tsr__load_log(tsr__loader *loader, const tsr__weight_entry *entry, int parts, const tsr__name *names,
                         const int *rows, tsr_error *err);
/* A float32 copy of a vector; release with free(). */
tsr_status tsr__load_vector(tsr__loader *loader, float **out, int count, const char *name, tsr_error *err);

typedef enum tsr__bias { TSR__NO_BIAS, TSR__WITH_BIAS } tsr__bias;
/* name.weight (or name_weight, torch's in_proj_weight) as [out, in] or [out, in, 1, 1]. */
tsr_status tsr__load_linear(tsr__loader *loader, tsr__nn_weight **out, int out_features, int in_features,
                            tsr__bias bias, const char *name, tsr_error *err);
/* Several linears of one input as one weight, rows stacked in the order given. */
tsr_status tsr__load_stacked(tsr__loader *loader, tsr__nn_weight **out, int count, const tsr__name *names,
                             const int *out_features, int in_features, tsr__bias bias, tsr_error *err);
/* name.weight as [out, in, k, k] with bias; padding as in tsr__nn_conv_weight. */
tsr_status tsr__load_conv(tsr__loader *loader, tsr__nn_weight **out, int out_c, int in_c, int k, int stride,
                          int pad_before, int pad_after, const char *name, tsr_error *err);
/* The same with a bias or without. */
tsr_status tsr__load_conv_bias(tsr__loader *loader, tsr__nn_weight **out, int out_c, int in_c, int k, int stride,
                               int pad_before, int pad_after, tsr__bias bias, const char *name, tsr_error *err);
/* The first two sides of name.weight. */
tsr_status tsr__load_sides(const tsr__loader *loader, int *out_features, int *in_features, const char *name, int rank,
                           tsr_error *err);

/* The integer `key` of the JSON object `config`, or fallback. */
tsr_status tsr__config_int(int *out, const char *config, const char *key, int fallback, tsr_error *err);

/* --- norms: gamma and beta, float32 -------------------------------------------------------------------------------- */
typedef struct tsr__norm {
    float *gamma, *beta;
    int channels, groups; /* groups: min(32, channels / 4), for group norms */
} tsr__norm;
tsr_status tsr__norm_load(tsr__norm *norm, tsr__loader *loader, int channels, const char *name, tsr_error *err);
tsr_status tsr__norm_load_group(tsr__norm *norm, tsr__loader *loader, int channels, const char *name, tsr_error *err);
void tsr__norm_clear(tsr__norm *norm);
tsr_status tsr__norm_group(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm *norm, float eps,
                           int silu, tsr_error *err);
tsr_status tsr__norm_layer(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm *norm, tsr_error *err);

/* --- the residual block of UNet and VAE: skip(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + add))) ---------------- */
typedef struct tsr__res_names {
    const char *norm1, *conv1, *norm2, *conv2, *skip;
} tsr__res_names;
extern const tsr__res_names tsr__res_names_unet, tsr__res_names_vae;

typedef struct tsr__res_block {
    int in_channels, out_channels;
    float eps;
    tsr__norm norm1, norm2;
    tsr__nn_weight *conv1, *conv2, *skip; /* skip is NULL when the channels stay */
} tsr__res_block;
/* Channels are read from the weights; in_channels is checked. */
tsr_status tsr__res_load(tsr__res_block *block, tsr__loader *loader, const tsr__res_names *names, const char *name,
                         int in_channels, float eps, tsr_error *err);
void tsr__res_clear(tsr__nn *nn, tsr__res_block *block);
/* add: NULL or [n, out_channels]. take: x is released as early as possible, also when the call fails. */
tsr_status tsr__res_run(tsr__nn *nn, tsr__tensor *out, tsr__tensor *x, int take, const tsr__res_block *block,
                        const float *add, tsr_error *err);

#endif /* TSR_LAYERS_H */
