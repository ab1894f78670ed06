/* model/t2i_adapter.h - T2I-Adapter: features of a picture for a UNet's input blocks. For control_net.c, which gives both
 * kinds of control network one face. */
#ifndef TSR_T2I_ADAPTER_H
#define TSR_T2I_ADAPTER_H

#include "model/model.h"

typedef struct tsr__t2i_adapter tsr__t2i_adapter;

/* Whether the names are those of an adapter: body.0.block1 (full), body.0.body.0.block1 (light), perhaps behind "adapter.". */
int tsr__t2i_adapter_is(const tsr__weights *weights);
tsr_status tsr__t2i_adapter_new(tsr__t2i_adapter **out, tsr__nn *nn, const tsr__weights *weights, tsr_error *err);
void tsr__t2i_adapter_free(tsr__t2i_adapter *adapter); /* NULL is allowed */
tsr_status tsr__t2i_adapter_fits(const tsr__t2i_adapter *adapter, const tsr__unet *unet, const char *name,
                                 tsr_error *err);
/* Latent cells a side that its pictures are made of: 1, SDXL's 2. Other pictures repeat their edge. */
int tsr__t2i_adapter_cells(const tsr__t2i_adapter *adapter);
/* picture [3, 8h, 8w]; an adapter of one channel takes the mean of the planes. *out: a tensor an input block; the caller
 * releases them and the list. */
tsr_status tsr__t2i_adapter_run(tsr__t2i_adapter *adapter, tsr__tensor **out, int *count, const float *picture, int h,
                                int w, tsr_error *err);

#endif /* TSR_T2I_ADAPTER_H */
