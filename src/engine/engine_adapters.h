/* engine/engine_adapters.h - adapters (LoRA and kin) that belong to single prompts: a region's own, beside the shared
 * weights. */
#ifndef TSR_ENGINE_ADAPTERS_H
#define TSR_ENGINE_ADAPTERS_H

#include "engine/engine_budget.h"
#include "nn/nn.h"
#include "tessera/engine.h"

/* Some adapter files with strengths, as one engine's networks take them. The engine's; equal lists are one object. */
typedef struct tsr__adapter_set tsr__adapter_set;

/* list: "FILE:STRENGTH;FILE:MODEL:CLIP;..." (strengths 1 when left out); NULL or "" gives NULL. A name without a folder is
 * also looked for in loras/ beside the model and beside its folder, with or without ".safetensors". Files are opened and
 * checked. Errors name `who`. */
tsr_status tsr__adapters_get(tsr__adapter_set **out, tsr_engine *engine, const char *list, const char *who,
                             tsr_error *err);
tsr_status tsr__adapters_get_files(tsr__adapter_set **out, tsr_engine *engine, const tsr_adapter *adapters, int n,
                                   tsr_error *err);
/* Builds the terms if they are not there. *warning: NULL, or a line about layers that the model does not have; released
 * with free(). */
tsr_status tsr__adapters_bind(tsr__adapter_set *set, tsr_engine *engine, char **warning, tsr_error *err);
/* The same for one kind of network: that is all that is built for it. */
tsr_status tsr__adapters_bind_text(tsr__adapter_set *set, tsr_engine *engine, tsr_error *err);
tsr_status tsr__adapters_bind_unet(tsr__adapter_set *set, tsr_engine *engine, tsr_error *err);
/* The networks of a part go: so do the terms beside them. The files are read again for the next binding. */
void tsr__adapters_unbind(tsr_engine *engine, tsr__network part);
/* The line that tsr__adapters_bind would give, once; NULL: none (yet). Released with free(). */
char *tsr__adapters_take_warning(tsr__adapter_set *set);
/* About what all terms of an engine take. */
size_t tsr__adapters_bytes(const tsr_engine *engine);
/* After tsr__adapters_bind; NULL set: NULL. */
const tsr__nn_terms *tsr__adapters_unet(const tsr__adapter_set *set);
const tsr__nn_terms *tsr__adapters_text(const tsr__adapter_set *set, int encoder);
/* The path of a file of the set; NULL out of range, or without a set. */
const char *tsr__adapters_file(const tsr__adapter_set *set, int index);
void tsr__adapters_free_all(tsr_engine *engine);

/* Takes <lora:NAME:STRENGTH> out of a prompt: *clean is the prompt without them, *list what tsr__adapters_get reads ("" when
 * there are none). Both released with free(). */
tsr_status tsr__adapters_from_prompt(char **clean, char **list, const char *prompt, tsr_error *err);

#endif /* TSR_ENGINE_ADAPTERS_H */
