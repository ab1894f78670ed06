/* upscale/upscale_priv.h - shared by the files of src/upscale: the loader, the few layers nn lacks, the two networks. */
#ifndef TSR_UPSCALE_PRIV_H
#define TSR_UPSCALE_PRIV_H

#include "upscale/upscale_model.h"

/* Finds tensors by name and remembers which were taken, so that a file with parts of another network is refused. */
typedef struct tsr__upscale_loader {
    tsr__nn *nn;
    const tsr__weights *weights;
    unsigned char *taken; /* one for each tensor of weights */
} tsr__upscale_loader;

int tsr__upscale_has(const tsr__upscale_loader *loader, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* NAME.weight of a convolution, [out_c, in_c, k, k]; NOT_FOUND when absent. */
tsr_status tsr__upscale_conv_shape(const tsr__upscale_loader *loader, const char *name, int64_t shape[4],
                                   tsr_error *err);
/* Packs NAME.weight [out_c, in_c, 3, 3] and NAME.bias (may be absent), both times factor; pads by 1. */
tsr_status tsr__upscale_load_conv(tsr__upscale_loader *loader, tsr__nn_weight **out, const char *name, int out_c,
                                  int in_c, float factor, tsr_error *err);
/* NAME as float32 of one axis, count values or one value for all of them; release with free(). */
tsr_status tsr__upscale_load_vector(tsr__upscale_loader *loader, float **out, const char *name, int count,
                                    tsr_error *err);

/* In place, whatever the tensor's precision. */
void tsr__upscale_leaky_relu(tsr__nn *nn, tsr__tensor *x);                      /* x < 0: 0.2 x */
void tsr__upscale_prelu(tsr__nn *nn, tsr__tensor *x, const float *slopes);      /* x < 0: slopes[channel] x */
void tsr__upscale_scale_add(tsr__nn *nn, tsr__tensor *x, const tsr__tensor *y); /* x = 0.2 x + y, same shape */
/* out [h / s, w / s, 3 s s] from rgb [h, w, 3]: channel (c s + dy) s + dx is pixel (dy, dx) of each s x s block. */
void tsr__upscale_unshuffle(float *out, const float *rgb, int h, int w, int s);
/* The inverse: out [h s, w s, 3] from in [h, w, 3 s s]. */
void tsr__upscale_shuffle(float *out, const float *in, int h, int w, int s);

/* A network: float RGB [h, w, 3] to [h scale, w scale, 3]. */
typedef struct tsr__upscale_net {
    tsr_status (*forward)(void *net, tsr__nn *nn, float *out, const float *rgb, int h, int w, tsr_error *err);
    void (*release)(void *net, tsr__nn *nn);
} tsr__upscale_net;

/* Each sets *net and its name and scale when the names are its own; leaves *net NULL when they are not. */
tsr_status tsr__rrdb_open(void **net, int *scale, char name[96], tsr__upscale_loader *loader, tsr_error *err);
tsr_status tsr__compact_open(void **net, int *scale, char name[96], tsr__upscale_loader *loader, tsr_error *err);
extern const tsr__upscale_net tsr__rrdb_net, tsr__compact_net;

#endif /* TSR_UPSCALE_PRIV_H */
