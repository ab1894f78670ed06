/* weights/packed_save.c - writing packed caches (packed_file.h): packed weights first, so that all of them start at whole
 * cache lines, then the index, then the tensors that stay numbers. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/checkpoint_kind.h"
#include "weights/packed_file.h"

/* Larger tensors outside text encoders, UNet and VAE (averages of training, optimiser states) are left behind; small ones may be
 * marks that say what the model predicts. */
enum { MOST_OTHER_VALUES = 16 };

typedef struct writer {
    const tsr__packed_plan *plan;
    tsr__tensor_make_fn make;
    void *user;
    char *index;
    size_t index_size;
    const tsr__tensor_view **kept; /* those behind the index */
    float *values;                 /* room for the largest that becomes F32 */
} writer;

static char *key_text(const tsr__packed_info *info) {
    json_t *sources = json_array();
    for (int i = 0; i < info->source_count; i++)
        json_array_append_new(sources, json_pack("{s:s, s:I, s:I}", "path", info->sources[i].path, "bytes",
                                                 (json_int_t)info->sources[i].bytes, "modified",
                                                 (json_int_t)info->sources[i].modified));
    json_t *key = json_pack("{s:i, s:s, s:s, s:s, s:i, s:o}", "version", info->version, "library", info->library, "isa",
                            info->isa, "precision", info->precision, "threads", info->threads, "sources", sources);
    char *text = key ? json_dumps(key, JSON_COMPACT) : NULL;
    json_decref(key);
    return text;
}

static char *index_text(const tsr__packed_plan *plan) {
    json_t *tensors = json_object(), *weights = json_object();
    for (size_t i = 0; i < tsr__weights_count(plan->from); i++) {
        const tsr__tensor_view *view = tsr__weights_at(plan->from, i);
        if (!plan->inside[i]) continue;
        json_t *shape = json_array();
        for (int k = 0; k < view->rank; k++) json_array_append_new(shape, json_integer(view->shape[k]));
        json_object_set_new(tensors, view->name, shape);
    }
    for (size_t i = 0; i < plan->count; i++)
        json_object_set_new(weights, plan->items[i].name, json_string(plan->items[i].layout));
    json_t *index = json_pack("{s:o, s:o}", "tensors", tensors, "weights", weights);
    char *text = index ? json_dumps(index, JSON_COMPACT) : NULL;
    json_decref(index);
    return text;
}

/* Types that stand in safetensors files as they are, and need no factor. */
static int stays(const tsr__tensor_view *view) {
    return view->scale == 0.0f && tsr__dtype_block(view->dtype) == 1;
}

static tsr_status give(void *user, size_t index, const void **data, tsr_error *err) {
    const writer *w = user;
    const tsr__packed_plan *plan = w->plan;
    if (index < plan->count) return w->make(w->user, index, data, err);
    if (index == plan->count) {
        *data = w->index;
        return TSR_OK;
    }
    const tsr__tensor_view *view = w->kept[index - plan->count - 1];
    *data = view->data;
    if (stays(view)) return TSR_OK;
    *data = w->values;
    return tsr__tensor_to_f32(view, w->values, err);
}

static tsr_status list_tensors(writer *w, tsr__tensor_out **out, size_t *count_out, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__packed_plan *plan = w->plan;
    const size_t total = tsr__weights_count(plan->from);
    size_t count = 0, kept = 0, largest = 0;
    TSR_ALLOC_ZERO(err, *out, plan->count + 1 + total);
    TSR_ALLOC(err, w->kept, total + 1);
    for (; count < plan->count; count++) {
        tsr__tensor_out item = { .name = tsr__format("packed:%s", plan->items[count].name),
                                 .dtype = TSR_DTYPE_U8,
                                 .rank = 1 };
        item.shape[0] = (int64_t)plan->items[count].size;
        (*out)[count] = item;
        if (!item.name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    tsr__tensor_out index = { .name = "packed.index", .dtype = TSR_DTYPE_U8, .rank = 1 };
    index.shape[0] = (int64_t)w->index_size;
    (*out)[count++] = index;
    for (size_t i = 0; i < total; i++) {
        const tsr__tensor_view *view = tsr__weights_at(plan->from, i);
        if (plan->inside[i] ||
            (tsr__checkpoint_part_of(view->name) == TSR_PART_OTHER && view->count > MOST_OTHER_VALUES))
            continue;
        tsr__tensor_out item = { .name = view->name,
                                 .dtype = stays(view) ? view->dtype : TSR_DTYPE_F32,
                                 .rank = view->rank };
        memcpy(item.shape, view->shape, sizeof item.shape);
        if (!stays(view) && view->count > largest) largest = view->count;
        w->kept[kept++] = view;
        (*out)[count++] = item;
    }
    TSR_ALLOC(err, w->values, largest + 1);
    *count_out = count;
done:
    return status;
}

/* The checkpoint's metadata, then the key. */
static tsr_status list_metadata(const char ***out, const tsr__weights *from, const char *key, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char **old = NULL, **all = NULL;
    size_t count = 0;
    TSR_TRY(tsr__weights_all_metadata(&old, from, err));
    while (old[count]) count++;
    TSR_ALLOC_ZERO(err, all, count + 3);
    memcpy(all, old, count * sizeof *all);
    all[count] = TSR__PACKED_METADATA;
    all[count + 1] = key;
    *out = all;
done:
    free(old);
    return status;
}

tsr_status tsr__packed_save(const char *path, const tsr__packed_plan *plan, tsr__tensor_make_fn make, void *user,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    writer w = { .plan = plan, .make = make, .user = user };
    char *key = key_text(&plan->info);
    tsr__tensor_out *tensors = NULL;
    const char **metadata = NULL;
    size_t count = 0;
    w.index = index_text(plan);
    if (!key || !w.index) TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: a name or path is not valid UTF-8", path);
    w.index_size = strlen(w.index);
    TSR_TRY(list_tensors(&w, &tensors, &count, err));
    TSR_TRY(list_metadata(&metadata, plan->from, key, err));
    TSR_TRY(tsr__safetensors_save_made(path, tensors, count, metadata, give, &w, err));
done:
    for (size_t i = 0; tensors && i < plan->count; i++) free((void *)(uintptr_t)tensors[i].name);
    free(tensors);
    free(metadata);
    free(w.index);
    free(w.kept);
    free(w.values);
    free(key);
    return status;
}
