/* engine/engine_memory.h - how much memory an opened model takes. */
#ifndef TSR_ENGINE_MEMORY_H
#define TSR_ENGINE_MEMORY_H

#include "tessera/engine.h"

/* The weights of the networks that are packed, and merged ones. Activations are not counted. */
size_t tsr__engine_bytes(const tsr_engine *engine);
/* Of weights that adapters were merged into. */
size_t tsr__engine_merged_bytes(const tsr_engine *engine);

/* Bytes that this process could still take. A checkpoint that was just read fills the caches of files; the kernel gives these
 * back, so they count. */
size_t tsr__memory_available(void);

#endif /* TSR_ENGINE_MEMORY_H */
