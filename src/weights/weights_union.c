/* weights/weights_union.c - see weights_union.h. */
#include "weights/weights_union.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/weights_priv.h"

struct tsr__union {
    tsr__weights *weights; /* gets everything in the end; owns sources and pieces from the start */
    tsr__tensor_view *views;
    size_t count, room;
};

tsr_status tsr__union_new(tsr__union **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__union *all = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, all, 1);
    TSR_TRY(tsr__weights_new(&all->weights, path, err));
    *out = all;
    all = NULL;
done:
    tsr__union_free(all);
    return status;
}

void tsr__union_free(tsr__union *all) {
    if (!all) return;
    tsr__weights_close(all->weights);
    free(all->views);
    free(all);
}

tsr_status tsr__union_own(tsr__union *all, tsr__weights *source, tsr_error *err) {
    return tsr__weights_own_source(all->weights, source, err);
}

/* A place for one more view, its name kept. */
static tsr_status add_view(tsr__tensor_view **out, tsr__union *all, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (all->count == all->room) {
        const size_t room = all->room ? all->room * 2 : 256;
        tsr__tensor_view *grown = realloc(all->views, room * sizeof *grown);
        if (!grown) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        all->views = grown;
        all->room = room;
    }
    char *kept = tsr__strdup(name);
    if (!kept) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__weights_own_piece(all->weights, kept, err));
    *out = &all->views[all->count++];
    memset(*out, 0, sizeof **out);
    (*out)->name = kept;
done:
    return status;
}

tsr_status tsr__union_add(tsr__union *all, const char *name, const tsr__tensor_view *view, tsr_error *err) {
    tsr__tensor_view *added;
    tsr_status status = add_view(&added, all, name, err);
    if (status != TSR_OK) return status;
    const char *kept = added->name;
    *added = *view;
    added->name = kept;
    return TSR_OK;
}

/* A view of its own bytes, to be written through *data. */
static tsr_status add_copy(void **data, tsr__union *all, const char *name, const tsr__tensor_view *like,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor_view *added = NULL;
    unsigned char *bytes = NULL;
    *data = NULL;
    TSR_TRY(add_view(&added, all, name, err));
    const char *kept = added->name;
    *added = *like;
    added->name = kept;
    TSR_ALLOC(err, bytes, tsr__tensor_bytes(like) + 1);
    added->data = bytes;
    *data = bytes;
    status = tsr__weights_own_piece(all->weights, bytes, err);
done:
    return status;
}

tsr_status tsr__union_stack(tsr__union *all, const char *name, const tsr__tensor_view *const *parts, int n,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor_view whole = *parts[0];
    int same = 1;
    void *data = NULL;
    if (whole.rank < 1) TSR_FAIL(err, TSR_BAD_FORMAT, "tensor \"%s\" has no rows", whole.name);
    for (int i = 1; i < n; i++) {
        same &= parts[i]->dtype == whole.dtype && parts[i]->scale == whole.scale;
        if (parts[i]->rank != whole.rank ||
            memcmp(parts[i]->shape + 1, whole.shape + 1, (size_t)(whole.rank - 1) * sizeof *whole.shape) != 0)
            TSR_FAIL(err, TSR_BAD_FORMAT, "tensors \"%s\" and \"%s\" have rows of different shapes", whole.name,
                     parts[i]->name);
        whole.shape[0] += parts[i]->shape[0];
        whole.count += parts[i]->count;
    }
    if (!same) {
        whole.dtype = TSR_DTYPE_F32;
        whole.scale = 0.0f;
    }
    TSR_TRY(add_copy(&data, all, name, &whole, err));
    unsigned char *to = data;
    for (int i = 0; i < n; i++) {
        size_t bytes = same ? tsr__tensor_bytes(parts[i]) : parts[i]->count * sizeof(float);
        if (same && bytes) memcpy(to, parts[i]->data, bytes);
        else if (!same) TSR_TRY(tsr__tensor_to_f32(parts[i], (float *)(void *)to, err));
        to += bytes;
    }
done:
    return status;
}

tsr_status tsr__union_transpose(tsr__union *all, const char *name, const tsr__tensor_view *view, tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    void *data = NULL;
    tsr__tensor_view turned = *view;
    if (view->rank != 2) TSR_FAIL(err, TSR_BAD_FORMAT, "tensor \"%s\" is no matrix", view->name);
    const size_t rows = (size_t)view->shape[0], columns = (size_t)view->shape[1];
    const unsigned char *from = view->data;
    turned.shape[0] = view->shape[1];
    turned.shape[1] = view->shape[0];
    if (tsr__dtype_block(view->dtype) > 1) {
        TSR_ALLOC(err, values, view->count + 1);
        TSR_TRY(tsr__tensor_to_f32(view, values, err));
        from = (const unsigned char *)values;
        turned.dtype = TSR_DTYPE_F32;
        turned.scale = 0.0f;
    }
    TSR_TRY(add_copy(&data, all, name, &turned, err));
    const size_t size = tsr__dtype_size(turned.dtype);
    unsigned char *to = data;
    for (size_t c = 0; c < columns; c++)
        for (size_t r = 0; r < rows; r++, to += size) memcpy(to, from + (r * columns + c) * size, size);
done:
    free(values);
    return status;
}

tsr_status tsr__union_add_number(tsr__union *all, const char *name, float value, tsr_error *err) {
    const tsr__tensor_view like = { .name = name, .dtype = TSR_DTYPE_F32, .rank = 1, .shape = { 1 }, .count = 1 };
    void *data = NULL;
    tsr_status status = add_copy(&data, all, name, &like, err);
    if (status == TSR_OK) memcpy(data, &value, sizeof value);
    return status;
}

tsr_status tsr__union_floats(float **values, tsr__union *all, const char *name, const tsr__tensor_view *like,
                             tsr_error *err) {
    tsr__tensor_view plain = *like;
    void *data = NULL;
    plain.dtype = TSR_DTYPE_F32;
    plain.scale = 0.0f;
    tsr_status status = add_copy(&data, all, name, &plain, err);
    *values = data;
    return status;
}

tsr_status tsr__union_set_config(tsr__union *all, const json_t *config, tsr_error *err) {
    static const char key[] = "tessera.config";
    char *value = json_dumps(config, JSON_COMPACT);
    if (!value) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    if (!tsr__weights_metadata(all->weights, key)) tsr__weights_set_metadata(all->weights, key, value);
    free(value);
    return TSR_OK;
}

tsr_status tsr__union_finish(tsr__weights **out, tsr__union *all, tsr_error *err) {
    *out = NULL;
    tsr_status status = tsr__weights_take_views(all->weights, all->views, all->count, NULL, err);
    all->views = NULL; /* taken, also after a failure */
    if (status == TSR_OK) {
        *out = all->weights;
        all->weights = NULL;
    }
    tsr__union_free(all);
    return status;
}
