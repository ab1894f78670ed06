/* weights/pth.h - PyTorch weight files (.pth, .pt, .ckpt, .bin) as the same views as safetensors.
 *
 * A .pth is a zip archive (since PyTorch 1.6) or a bare sequence (before) of a pickle and raw storages. A pickle is a
 * program; here it is read by an interpreter that knows only the steps and the few names which a state dict needs and
 * that calls nothing: everything else is refused by name. Knows no networks. Threads: immutable after opening. */
#ifndef TSR_PTH_H
#define TSR_PTH_H

#include "weights/weights.h"

/* Opens safetensors, GGUF or PyTorch weights, told apart by content, never by the file's name. Names are those of the innermost
 * dict: of {"params_ema": ..., "params": ...} the first of params_ema, params, state_dict that is a dict is taken;
 * dicts inside it join their names with dots; what is no tensor is left out. Views are dense: a tensor whose strides
 * say otherwise is copied. */
tsr_status tsr__weights_open_any(tsr__weights **out, const char *path, tsr_error *err);
tsr_status tsr__weights_open_any_memory(tsr__weights **out, const void *data, size_t size,
                                        tsr_error *err); /* borrows data */

#endif /* TSR_PTH_H */
