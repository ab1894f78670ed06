/* engine/convert_gguf.c - a model as a GGUF file, in the two ways that programs expect.
 *
 * A whole model keeps its single-file names and shapes and has no general.architecture, as stable-diffusion.cpp writes it;
 * what that program keeps as it was stays here too. A UNet alone is written as ComfyUI-GGUF does: bare names, an
 * architecture, and tensors whose rows do not divide into 256 laid out anew, their shape noted beside them. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "engine/convert_target.h"

enum { ROW = 256, SMALLEST_RESHAPED = 512, SMALLEST_BLOCKS = 1024 };

static int has_any(const char *name, const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (strstr(name, words[i])) return 1;
    return 0;
}

static int64_t row_of(const tsr__tensor_out *out) {
    return out->rank ? out->shape[out->rank - 1] : 1;
}

/* The type of a tensor that is not put into blocks. */
static tsr__dtype plain_type(const tsr__tensor_view *view) {
    if (view->dtype == TSR_DTYPE_F64) return TSR_DTYPE_F32;
    if (view->scale == 0.0f && tsr__gguf_type_number(view->dtype) >= 0 && tsr__dtype_block(view->dtype) == 1)
        return view->dtype;
    return TSR_DTYPE_F16;
}

/* --- a whole model -------------------------------------------------------------------------------------------------------- */
/* What stable-diffusion.cpp does not put into blocks, and what has one side only. */
static int stays_plain(const tsr__tensor_out *out) {
    static const char *const words[] = { "time_embed.", "label_emb.", "embedding", NULL };
    return out->rank < 2 || tsr__ends_with(out->name, strlen(out->name), ".bias") || has_any(out->name, words);
}

static tsr__dtype whole_type(const tsr__tensor_out *out, const tsr__tensor_view *view, tsr_weight_type type) {
    const tsr__dtype asked = tsr__convert_dtype(type), kept = view->scale == 0.0f ? view->dtype : TSR_DTYPE_F16;
    if (!tsr__dtype_is_float(view->dtype)) return view->dtype;
    if (type == TSR_WEIGHT_KEEP)
        return tsr__dtype_block(kept) > 1 && row_of(out) % (int64_t)tsr__dtype_block(kept) == 0 ? kept
                                                                                                : plain_type(view);
    if (tsr__dtype_block(asked) == 1) return asked;
    return stays_plain(out) || row_of(out) % (int64_t)tsr__dtype_block(asked) ? plain_type(view) : asked;
}

/* --- a UNet ------------------------------------------------------------------------------------------------------------------ */
/* As ComfyUI-GGUF's tools do: the first and the last convolution stay float32, embeddings of time and sizes and the
 * projections around transformers half, small and one-sided tensors what they are, float32 where they were BF16. */
static tsr__dtype unet_type(const tsr__tensor_out *out, const tsr__tensor_view *view, int64_t row,
                            tsr_weight_type type) {
    static const char *const half[] = { "time_embed.", "label_emb.", "proj_in.", "proj_out.", NULL };
    const tsr__dtype asked = tsr__convert_dtype(type);
    if (!tsr__dtype_is_float(view->dtype)) return view->dtype;
    if (type == TSR_WEIGHT_KEEP) {
        const size_t block = tsr__dtype_block(view->dtype);
        return block > 1 && view->scale == 0.0f && row % (int64_t)block == 0 ? view->dtype : plain_type(view);
    }
    if (tsr__dtype_block(asked) == 1) return asked;
    if (strcmp(out->name, "input_blocks.0.0.weight") == 0 || strcmp(out->name, "out.2.weight") == 0)
        return TSR_DTYPE_F32;
    if (out->rank < 2 || view->count <= SMALLEST_BLOCKS)
        return plain_type(view) == TSR_DTYPE_BF16 ? TSR_DTYPE_F32 : plain_type(view);
    if (has_any(out->name, half) || row % (int64_t)tsr__dtype_block(asked)) return TSR_DTYPE_F16;
    return asked;
}

/* Whether a tensor is laid out in rows of 256. */
static int is_reshaped(const tsr__tensor_out *out, const tsr__tensor_view *view) {
    return out->rank > 1 && view->count >= SMALLEST_RESHAPED && view->count % ROW == 0 && row_of(out) % ROW != 0;
}

static void choose(tsr__convert_list *list, tsr__gguf_shape *stored, const tsr__conversion *c) {
    const int is_unet = c->part == TSR_CONVERT_UNET; /* the other parts are nobody's: as in a whole model */
    for (size_t i = 0; i < list->count; i++) {
        tsr__tensor_out *out = &list->out[i];
        const tsr__tensor_view *view = &list->items[i].view;
        stored[i].rank = -1;
        if (is_unet && is_reshaped(out, view))
            stored[i] = (tsr__gguf_shape){ 2, { (int64_t)(view->count / ROW), ROW, 0, 0 } };
        if (is_unet) out->dtype = unet_type(out, view, stored[i].rank > 0 ? ROW : row_of(out), c->type);
        else out->dtype = whole_type(out, view, c->type);
        if (list->items[i].turned && c->type == TSR_WEIGHT_KEEP) out->dtype = plain_type(view);
    }
}

/* --- the file -------------------------------------------------------------------------------------------------------------- */
/* llama.cpp's numbers for what most of a file is; -1: none fits. */
static int file_type(tsr_weight_type type) {
    static const int numbers[] = {
        [TSR_WEIGHT_KEEP] = -1, [TSR_WEIGHT_F32] = 0,   [TSR_WEIGHT_F16] = 1,   [TSR_WEIGHT_BF16] = 32,
        [TSR_WEIGHT_F8] = -1,   [TSR_WEIGHT_Q8_0] = 7,  [TSR_WEIGHT_Q5_1] = 9,  [TSR_WEIGHT_Q5_0] = 8,
        [TSR_WEIGHT_Q4_1] = 3,  [TSR_WEIGHT_Q4_0] = 2,  [TSR_WEIGHT_Q6_K] = 18, [TSR_WEIGHT_Q5_K] = 16,
        [TSR_WEIGHT_Q4_K] = 14, [TSR_WEIGHT_Q3_K] = 11, [TSR_WEIGHT_Q2_K] = 10,
    };
    return numbers[type];
}

/* Types that GGUF has no number for (marks of bytes) are left out. */
static void drop_unknown(tsr__convert_list *list, tsr__conversion *c) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        const tsr__tensor_view *view = &list->items[i].view;
        if (!tsr__dtype_is_float(view->dtype) && tsr__gguf_type_number(view->dtype) < 0) {
            free((char *)(uintptr_t)list->out[i].name);
            c->others++;
            continue;
        }
        list->out[kept] = list->out[i];
        list->items[kept++] = list->items[i];
    }
    list->count = kept;
}

tsr_status tsr__convert_gguf(tsr__conversion *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__convert_list list = { .weights = c->weights, .watch = &c->watch };
    tsr__gguf_shape *stored = NULL;
    tsr__gguf_header header = { .file_type = file_type(c->type) };
    const char **metadata = NULL;
    if (c->type == TSR_WEIGHT_F8) TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: GGUF has no F8; q8_0 is as small", c->path);
    TSR_TRY(tsr__convert_parts_list(&list, c, err));
    drop_unknown(&list, c);
    TSR_ALLOC_ZERO(err, stored, list.count + 1);
    choose(&list, stored, c);
    TSR_TRY(tsr__convert_list_ready(&list, err));
    c->watch.total = tsr__convert_list_bytes(&list);
    TSR_TRY(tsr__weights_all_metadata(&metadata, c->weights, err));
    header.metadata = metadata;
    if (c->part == TSR_CONVERT_UNET) header.architecture = c->info.kind == TSR_CHECKPOINT_SDXL ? "sdxl" : "sd1";
    TSR_TRY(tsr__gguf_save_made(c->path, list.out, stored, list.count, &header, tsr__convert_list_make, &list, err));
done:
    free(metadata);
    free(stored);
    tsr__convert_list_clear(&list);
    return status;
}
