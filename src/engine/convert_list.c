/* engine/convert_list.c - see convert_list.h. */
#include "engine/convert_list.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/tensor_pack.h"

tsr_status tsr__convert_list_add(tsr__convert_list *list, const char *name, const tsr__tensor_view *view, int turned,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    char *kept = NULL;
    if (list->count == list->room) {
        const size_t room = list->room ? list->room * 2 : 256;
        tsr__tensor_out *out = realloc(list->out, room * sizeof *out);
        if (out) list->out = out;
        tsr__convert_item *items = out ? realloc(list->items, room * sizeof *items) : NULL;
        if (items) list->items = items;
        if (!items) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        list->room = room;
    }
    kept = tsr__strdup(name);
    if (!kept) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    list->items[list->count] = (tsr__convert_item){ *view, turned };
    tsr__tensor_out *out = &list->out[list->count++];
    *out = (tsr__tensor_out){ .name = kept, .dtype = view->dtype, .rank = view->rank };
    memcpy(out->shape, view->shape, sizeof out->shape);
    if (!turned) goto done;
    out->shape[0] = view->shape[1];
    out->shape[1] = view->shape[0];
done:
    return status;
}

void tsr__convert_list_clear(tsr__convert_list *list) {
    for (size_t i = 0; i < list->count; i++) free((char *)(uintptr_t)list->out[i].name);
    free(list->out);
    free(list->items);
    free(list->values[0]);
    free(list->values[1]);
    free(list->bytes);
    memset(list, 0, sizeof *list);
}

static uint64_t bytes_of(const tsr__convert_list *list, size_t index) {
    const tsr__dtype dtype = list->out[index].dtype;
    return (uint64_t)(list->items[index].view.count / tsr__dtype_block(dtype) * tsr__dtype_size(dtype));
}

uint64_t tsr__convert_list_bytes(const tsr__convert_list *list) {
    uint64_t sum = 0;
    for (size_t i = 0; i < list->count; i++) sum += bytes_of(list, i);
    return sum;
}

/* Whether the bytes of the file will do. */
static int is_same(const tsr__convert_list *list, size_t index) {
    const tsr__convert_item *item = &list->items[index];
    return !item->turned && item->view.scale == 0.0f && item->view.dtype == list->out[index].dtype;
}

tsr_status tsr__convert_list_ready(tsr__convert_list *list, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t largest = 0, turned = 0, bytes = 0;
    for (size_t i = 0; i < list->count; i++) {
        const tsr__convert_item *item = &list->items[i];
        if (is_same(list, i)) continue;
        if (item->view.count > largest) largest = item->view.count;
        if (item->turned && item->view.count > turned) turned = item->view.count;
        if (bytes_of(list, i) > bytes) bytes = (size_t)bytes_of(list, i);
    }
    TSR_ALLOC(err, list->values[0], largest + 1);
    TSR_ALLOC(err, list->values[1], turned + 1);
    TSR_ALLOC(err, list->bytes, bytes + 1);
done:
    return status;
}

static void turn(float *to, const float *from, const tsr__tensor_view *view) {
    const size_t rows = (size_t)view->shape[0], columns = (size_t)view->shape[1];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c];
}

/* Whole blocks, shared among the processors. */
static tsr_status make_blocks(unsigned char *out, tsr__dtype dtype, const float *in, const tsr__tensor_view *view,
                              tsr_error *err) {
    const size_t block = tsr__dtype_block(dtype), size = tsr__dtype_size(dtype);
    const long long blocks = (long long)(view->count / block);
    for (size_t i = 0; i < view->count; i++)
        if (!isfinite(in[i]))
            return tsr__fail(err, TSR_UNSUPPORTED,
                             "tensor \"%s\" holds values that are no finite numbers; blocks cannot hold them",
                             view->name);
#pragma omp parallel for schedule(static)
    for (long long i = 0; i < blocks; i++)
        (void)tsr__gguf_block_from_f32(dtype, in + (size_t)i * block, out + (size_t)i * size);
    return TSR_OK;
}

static void make_plain(unsigned char *out, tsr__dtype dtype, const float *in, size_t count) {
    enum { RUN = 1 << 16 };
    const size_t size = tsr__dtype_size(dtype);
    const long long runs = (long long)((count + RUN - 1) / RUN);
#pragma omp parallel for schedule(static)
    for (long long i = 0; i < runs; i++) {
        const size_t first = (size_t)i * RUN, left = count - first;
        (void)tsr__tensor_from_f32(out + first * size, dtype, in + first, left < RUN ? left : RUN);
    }
}

tsr_status tsr__convert_list_make(void *user, size_t index, const void **data, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__convert_list *list = user;
    const tsr__convert_item *item = &list->items[index];
    const tsr__dtype dtype = list->out[index].dtype;
    tsr__convert_watch *watch = list->watch;
    const float *values = list->values[0];
    *data = item->view.data;
    if (watch->progress && watch->progress(watch->user, watch->done, watch->total))
        TSR_FAIL(err, TSR_CANCELLED, "stopped; nothing was written");
    watch->done += bytes_of(list, index);
    if (is_same(list, index)) return TSR_OK;
    TSR_TRY(tsr__tensor_to_f32(&item->view, list->values[0], err));
    if (item->turned) {
        turn(list->values[1], values, &item->view);
        values = list->values[1];
    }
    if (tsr__dtype_block(dtype) > 1) TSR_TRY(make_blocks(list->bytes, dtype, values, &item->view, err));
    else make_plain(list->bytes, dtype, values, item->view.count);
    tsr__weights_release_pages(list->weights, &item->view);
    *data = list->bytes;
done:
    return status;
}
