/* weights/control_open.h - a control network's file, in any layout, under the names that the networks are built from.
 *
 * ControlNets come out as LDM names them (with or without "control_model."), T2I-Adapters as their authors do. What a file
 * keeps as a difference from the model's own encoder (control-LoRA, difference ControlNets) is put together here. Threads:
 * immutable after opening. */
#ifndef TSR_CONTROL_OPEN_H
#define TSR_CONTROL_OPEN_H

#include "weights/weights.h"

/* The file of a control network: path itself, or of a diffusers folder the file of weights in it. *out is the caller's (free).
 * NOT_FOUND when the folder has none. */
tsr_status tsr__control_path(char **out, const char *path, tsr_error *err);

/* base: the model's weights, for files that are differences from it; NULL leaves such files as they are. Beside a file named
 * as diffusers names it, config.json is read too: heads, and whether what the network adds is averaged over the picture,
 * become the metadata tessera.config. UNSUPPORTED for layers that ControlNets and T2I-Adapters do not have, and for a
 * difference from another model. */
tsr_status tsr__control_open(tsr__weights **out, const char *path, const tsr__weights *base, tsr_error *err);

/* Of a file opened without a base: whether it is a difference from the model, and how many scalars the network has in the end. */
int tsr__control_is_difference(const tsr__weights *file);
size_t tsr__control_values(const tsr__weights *file, const tsr__weights *base);

/* Whether what the network adds is averaged over the picture: tessera.config says so, or, as for ComfyUI, the file is called
 * ..._shuffle or ..._shuffle_fp16. */
int tsr__control_averages(const tsr__weights *weights, const char *path);

#endif /* TSR_CONTROL_OPEN_H */
