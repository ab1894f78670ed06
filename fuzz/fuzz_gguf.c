/* fuzz_gguf.c - the GGUF reader, its blocks, and what a file of such weights is told to be. */
#include <stdlib.h>

#include "weights/checkpoint_kind.h"
#include "weights/gguf.h"
#include "weights/pth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { MOST = 4096 };
    static float values[MOST];
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (!tsr__gguf_looks(data, size)) return 0;
    if (tsr__weights_open_any_memory(&weights, data, size, &err) != TSR_OK) {
        if (err.status == TSR_OK || !err.message[0] || weights) abort();
        return 0;
    }
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        const size_t first = view->count / 3, left = view->count - first;
        tsr_error inner = TSR_ERROR_INIT;
        if (tsr__weights_find(weights, view->name) != view) abort();
        (void)tsr__tensor_part_to_f32(view, first, left < MOST ? left : MOST, values, &inner);
    }
    tsr__checkpoint_info info;
    tsr__checkpoint_describe(&info, weights);
    tsr__weights_close(weights);
    return 0;
}
