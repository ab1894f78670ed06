/* fuzz_safetensors.c - the safetensors reader, and everything that trusts its views: conversion and file kinds. */
#include <stdlib.h>

#include "weights/checkpoint_kind.h"
#include "weights/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads the first and the last byte the view claims. */
static unsigned touch_view(const tsr__tensor_view *view) {
    const unsigned char *bytes = view->data;
    const size_t length = view->count * tsr__dtype_size(view->dtype);
    return length ? (unsigned)bytes[0] + bytes[length - 1] : 0u;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__weights_open_memory(&weights, data, size, &err) != TSR_OK) {
        if (err.status == TSR_OK || !err.message[0] || weights) abort();
        return 0;
    }
    volatile unsigned sum = 0;
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (tsr__weights_find(weights, view->name) != view) abort();
        sum += touch_view(view);
        if (view->count > 4096) continue;
        float values[4096];
        (void)tsr__tensor_to_f32(view, values, NULL);
    }
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    (void)tsr__weights_metadata(weights, "format");
    tsr__weights_close(weights);
    return 0;
}
