/* fuzz_packed.c - packed caches: the reader, and src/nn taking the bytes, under the cache's layouts and under the right ones. */
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"
#include "weights/packed_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_SIDE = 64 };

static tsr_status fill_zeros(void *user, float *dst, size_t count, tsr_error *err) {
    (void)user;
    (void)err;
    memset(dst, 0, count * sizeof *dst);
    return TSR_OK;
}

/* The shape that a loader would ask for; 0: one that costs too much here. */
static int shape_of(tsr__nn_shape *out, const tsr__tensor_view *view) {
    for (int i = 0; i < view->rank; i++)
        if (view->shape[i] < 1 || view->shape[i] > MOST_SIDE) return 0;
    if (view->rank != 2 && (view->rank != 4 || view->shape[2] != view->shape[3] || view->shape[2] > 3)) return 0;
    *out = (tsr__nn_shape){ .out_c = (int)view->shape[0], .in_c = (int)view->shape[1], .stride = 1 };
    if (view->rank == 4) out->k = (int)view->shape[2];
    return 1;
}

static void take(tsr__nn *nn, const tsr__nn_shape *shape, const tsr__nn_packed *packed) {
    tsr__nn_weight *weight = NULL;
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = tsr__nn_weight_from_packed(nn, &weight, shape, packed, NULL, &err);
    if ((status == TSR_OK) != (weight != NULL) || (status != TSR_OK && !err.message[0])) abort();
    tsr__nn_weight_free(nn, weight);
}

static void take_both_ways(tsr__nn *nn, const tsr__weights *weights, const tsr__packed_weight *from) {
    const tsr__tensor_view *view = tsr__weights_find(weights, from->name);
    tsr__nn_shape shape;
    tsr__nn_weight *like = NULL;
    if (!view || !shape_of(&shape, view)) return;
    void *copy = aligned_alloc(TSR__NN_PACK_ALIGN, from->size);
    if (!copy) return;
    memcpy(copy, from->data, from->size);
    tsr__nn_packed packed = { .data = copy, .size = from->size, .threads = 1 };
    strncpy(packed.layout, from->layout, sizeof packed.layout - 1);
    take(nn, &shape, &packed);
    tsr_status status =
        shape.k
            ? tsr__nn_conv_weight(nn, &like, shape.out_c, shape.in_c, shape.k, 1, 0, 0, fill_zeros, NULL, NULL, NULL)
            : tsr__nn_linear_weight(nn, &like, shape.out_c, shape.in_c, fill_zeros, NULL, NULL, NULL);
    tsr__nn_packed right;
    if (status == TSR_OK && tsr__nn_weight_packed(nn, like, &right, NULL) == TSR_OK) {
        memcpy(packed.layout, right.layout, sizeof packed.layout);
        take(nn, &shape, &packed);
    }
    tsr__nn_weight_free(nn, like);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tsr__weights *weights = NULL;
    tsr__nn *nn = NULL;
    const tsr__nn_options options = { .precision = TSR__F32, .threads = 1 };
    if (tsr__weights_open_memory(&weights, data, size, NULL) != TSR_OK) return 0;
    if (tsr__packed_info_of(weights) && tsr__nn_new(&nn, &options, NULL) == TSR_OK) {
        for (size_t i = 0; i < tsr__weights_count(weights) && i < 8; i++) {
            const tsr__tensor_view *view = tsr__weights_at(weights, i);
            const tsr__packed_weight *packed = tsr__packed_find(weights, view->name);
            float value;
            if (view->dtype == TSR_DTYPE_PACKED && tsr__tensor_part_to_f32(view, 0, 1, &value, NULL) == TSR_OK) abort();
            if (packed) take_both_ways(nn, weights, packed);
        }
        tsr__packed_drop(weights, TSR_PART_UNET);
        free(tsr__packed_remedy(weights));
        (void)tsr__packed_refuse(weights, "be fuzzed", NULL);
    }
    tsr__nn_free(nn);
    tsr__weights_close(weights);
    return 0;
}
