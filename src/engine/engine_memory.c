/* engine/engine_memory.c - see engine_memory.h. */
#include "engine/engine_memory.h"

#include <stdio.h>
#include <unistd.h>

#include "engine/engine_priv.h"

/* Adapters changed it: it lies in memory of its own, not in the file. */
static int is_merged(const tsr_engine *engine, const tsr__tensor_view *view) {
    if (!engine->file) return 0;
    const tsr__tensor_view *own = tsr__weights_find(engine->file, view->name);
    return !own || own->data != view->data;
}

size_t tsr__engine_merged_bytes(const tsr_engine *engine) {
    size_t bytes = 0;
    for (size_t i = 0; i < tsr__weights_count(engine->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(engine->weights, i);
        if (is_merged(engine, view)) bytes += view->count * tsr__dtype_size(view->dtype);
    }
    return bytes;
}

size_t tsr__engine_bytes(const tsr_engine *engine) {
    size_t bytes = sizeof *engine + engine->merged_bytes + tsr__nn_weight_bytes(engine->nn);
    if (engine->text_nn && engine->text_nn != engine->nn) bytes += tsr__nn_weight_bytes(engine->text_nn);
    return bytes;
}

size_t tsr__memory_available(void) {
    char line[128];
    unsigned long kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %lu", &kilobytes) == 1) break;
    if (file) fclose(file);
    if (kilobytes) return (size_t)kilobytes * 1024;
    long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages * (size_t)size : (size_t)2 << 30;
}
