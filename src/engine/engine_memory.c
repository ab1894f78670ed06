/* engine/engine_memory.c - see engine_memory.h. */
#include "engine/engine_memory.h"

#include <string.h>

#include "engine/engine_priv.h"

static int starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Adapters changed it: it lies in memory of its own, not in the file. */
static int is_merged(const tsr_engine *engine, const tsr__tensor_view *view) {
    if (!engine->file) return 0;
    const tsr__tensor_view *own = tsr__weights_find(engine->file, view->name);
    return !own || own->data != view->data;
}

size_t tsr__engine_bytes(const tsr_engine *engine) {
    size_t bytes = sizeof *engine, packed = tsr__nn_precision(engine->nn) == TSR__BF16 ? 2 : 4;
    for (size_t i = 0; i < tsr__weights_count(engine->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(engine->weights, i);
        if (is_merged(engine, view)) bytes += view->count * tsr__dtype_size(view->dtype);
        if (starts_with(view->name, "model.diffusion_model.")) bytes += engine->unet ? view->count * packed : 0;
        else if (starts_with(view->name, "first_stage_model.")) bytes += engine->vae ? view->count * packed : 0;
        else bytes += engine->text ? view->count * 4 : 0;
    }
    return bytes;
}
