/* engine/engine_pack.h - packed caches as the engine meets them: what a file was packed for against what is asked. */
#ifndef TSR_ENGINE_PACK_H
#define TSR_ENGINE_PACK_H

#include "nn/nn.h"
#include "tessera/engine.h"
#include "weights/weights.h"

/* The precision to compute with: a packed cache's own, else what was asked, where auto is bf16 on processors that have it.
 * UNSUPPORTED in one line, with what to do, when the cache was packed for another processor, library or precision. */
tsr_status tsr__pack_precision(tsr__precision *out, const tsr__weights *weights, tsr_precision asked, tsr_error *err);

#endif /* TSR_ENGINE_PACK_H */
