/* fuzz_pth.c - the PyTorch reader (zip, pickle, the old format) and everything that trusts its views. */
#include <stdlib.h>

#include "weights/checkpoint_kind.h"
#include "weights/pth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte the view claims. */
static unsigned sum_view(const tsr__tensor_view *view) {
    const unsigned char *bytes = view->data;
    const size_t length = tsr__tensor_bytes(view);
    unsigned sum = 0;
    for (size_t i = 0; i < length; i++) sum += bytes[i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__weights_open_any_memory(&weights, data, size, &err) != TSR_OK) {
        if (err.status == TSR_OK || !err.message[0] || weights) abort();
        return 0;
    }
    volatile unsigned sum = 0;
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (tsr__weights_find(weights, view->name) != view) abort();
        if (i < 100) sum += sum_view(view);
    }
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    tsr__weights_close(weights);
    return 0;
}
