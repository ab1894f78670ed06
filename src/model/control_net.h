/* model/control_net.h - networks that read a picture and steer a UNet by it: ControlNet and T2I-Adapter.
 *
 * A ControlNet is a copy of the UNet's encoder that sees the latent and the picture at every evaluation; a T2I-Adapter sees
 * the picture only. Both give tensors to add to the UNet (tsr__unet_control). Knows no files, no samplers, no regions. */
#ifndef TSR_CONTROL_NET_H
#define TSR_CONTROL_NET_H

#include "model/model.h"

typedef struct tsr__control_net tsr__control_net;

/* The kind is told by names, as tsr__control_open gives them: a ControlNet (control_model.*, or the same without that word),
 * perhaps a union (control_add_embedding.*), or a T2I-Adapter (body.*, adapter.body.*). averages: what a ControlNet adds is
 * its mean over the picture. The weights are not kept. */
tsr_status tsr__control_net_new(tsr__control_net **out, tsr__nn *nn, const tsr__weights *weights, int averages,
                                tsr_error *err);
void tsr__control_net_free(tsr__control_net *net); /* NULL is allowed */
/* The encoder that texts' contexts are made for; NULL: it reads no text (T2I-Adapter). */
tsr__unet *tsr__control_net_unet(const tsr__control_net *net);
/* Latent cells a side that its pictures should be made of; others repeat their edge. */
int tsr__control_net_cells(const tsr__control_net *net);
/* UNSUPPORTED, in one line, when it cannot steer that UNet. name: of the control network, for the line. */
tsr_status tsr__control_net_fits(const tsr__control_net *net, const tsr__unet *unet, const char *name, tsr_error *err);

/* What depends on the picture alone. ControlNet: one tensor; a union's second is for the time embedding. T2I-Adapter: what it adds to each input block (without data:
 * nothing). */
typedef struct tsr__control_hint {
    tsr__tensor *tensors;
    int count;
} tsr__control_hint;
/* picture [3, 8h, 8w] in 0..1, for a latent of h x w cells (its sides rounded up to tsr__control_net_cells). type: which kind of
 * picture, for unions; -1: not told. Others do not look at it. BAD_ARGUMENT when a union has no such type. */
tsr_status tsr__control_net_hint(tsr__control_hint *out, tsr__control_net *net, const float *picture, int h, int w,
                                 int type, tsr_error *err);
void tsr__control_hint_clear(tsr__control_net *net, tsr__control_hint *hint);

/* The tensors for n samples, each with its own picture; x, timesteps, contexts and labels as in tsr__unet_run, the contexts
 * made for tsr__control_net_unet. *out: a list of *count tensors, at the UNet's *place; give it to
 * tsr__control_net_release. */
tsr_status tsr__control_net_run(tsr__control_net *net, tsr__tensor **out, int *count, tsr__control_place *place,
                                const float *x, int n, int h, int w, const float *timesteps,
                                tsr__unet_context *const *contexts, const float *const *labels,
                                const tsr__control_hint *const *hints, tsr_error *err);
void tsr__control_net_release(tsr__control_net *net, tsr__tensor *tensors, int count);

#endif /* TSR_CONTROL_NET_H */
