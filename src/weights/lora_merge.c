/* weights/lora_merge.c - see lora_merge.h. */
#include "weights/lora_merge.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/lora.h"
#include "weights/packed_file.h"
#include "weights/pth.h"
#include "weights/weights_priv.h"

typedef struct opened {
    tsr__weights *weights;
    tsr__lora *lora;
} opened;

static void close_all(opened *files, int n) {
    for (int i = 0; files && i < n; i++) {
        tsr__lora_free(files[i].lora);
        tsr__weights_close(files[i].weights);
    }
    free(files);
}

static int is_changed(const opened *files, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (tsr__lora_changes(files[i].lora, name)) return 1;
    return 0;
}

/* Room for the float32 copies: one block, as the weights want it. */
static size_t copied_floats(const tsr__weights *base, const opened *files, int n) {
    size_t count = 0;
    for (size_t i = 0; i < tsr__weights_count(base); i++) {
        const tsr__tensor_view *view = tsr__weights_at(base, i);
        if (is_changed(files, n, view->name)) count += view->count;
    }
    return count;
}

static tsr_status merge_tensor(float *to, const tsr__tensor_view *view, opened *files,
                               const tsr__merge_adapter *adapters, int n, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__tensor_to_f32(view, to, err));
    for (int i = 0; i < n; i++)
        TSR_TRY(tsr__lora_add(files[i].lora, view->name, view->shape, view->rank,
                              tsr__lora_strength(view->name, adapters[i].model, adapters[i].clip), to, NULL, err));
done:
    return status;
}

static tsr_status merge(tsr__tensor_view **views_out, float **copies_out, const tsr__weights *base, opened *files,
                        const tsr__merge_adapter *adapters, int n, int partial, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = tsr__weights_count(base), used = 0;
    tsr__tensor_view *views = NULL;
    float *copies = NULL;
    TSR_ALLOC(err, copies, copied_floats(base, files, n) + 1);
    TSR_ALLOC(err, views, count + 1);
    for (size_t i = 0; i < count; i++) {
        views[i] = *tsr__weights_at(base, i);
        if (!is_changed(files, n, views[i].name)) continue;
        TSR_TRY(merge_tensor(copies + used, &views[i], files, adapters, n, err));
        views[i].dtype = TSR_DTYPE_F32;
        views[i].scale = 0.0f;
        views[i].data = copies + used;
        used += views[i].count;
    }
    for (int i = 0; i < n && !partial; i++) TSR_TRY(tsr__lora_require_used(files[i].lora, TSR__LORA_MODEL, err));
    *views_out = views;
    *copies_out = copies;
    views = NULL;
    copies = NULL;
done:
    free(views);
    free(copies);
    return status;
}

tsr_status tsr__lora_merge(tsr__weights **out, const tsr__weights *base, const tsr__merge_adapter *adapters, int n,
                           int partial, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *merged = NULL;
    tsr__tensor_view *views = NULL;
    float *copies = NULL;
    opened *files = NULL;
    size_t size = 0;
    const unsigned char *bytes = tsr__weights_bytes(base, &size);
    *out = NULL;
    TSR_TRY(tsr__packed_refuse(base, "have adapters merged in", err));
    TSR_ALLOC_ZERO(err, files, n + 1);
    for (int i = 0; i < n; i++) {
        TSR_TRY(tsr__weights_open_any(&files[i].weights, adapters[i].path, err));
        TSR_TRY(tsr__lora_open(&files[i].lora, files[i].weights, err));
    }
    TSR_TRY(merge(&views, &copies, base, files, adapters, n, partial, err));
    TSR_TRY(tsr__weights_wrap(&merged, bytes, size, err));
    status = tsr__weights_take_views(merged, views, tsr__weights_count(base), copies, err);
    views = NULL; /* taken, also after a failure */
    copies = NULL;
    if (status != TSR_OK) goto done;
    *out = merged;
    merged = NULL;
done:
    free(views);
    free(copies);
    close_all(files, n);
    tsr__weights_close(merged);
    return status;
}
