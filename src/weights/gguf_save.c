/* weights/gguf_save.c - writing a GGUF file, whole or not at all. Knows no networks; the reader is gguf.c. */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "weights/gguf.h"

enum { ALIGNMENT = 32, VERSION = 3, QUANTISATION_VERSION = 2, MAX_SIDES = 4 };
enum { V_U32 = 4, V_I32 = 5, V_STRING = 8, V_ARRAY = 9 };

typedef struct writer {
    tsr__outfile *file;
    uint64_t written;
} writer;

static tsr_status put(writer *w, const void *data, size_t size, tsr_error *err) {
    w->written += size;
    return tsr__outfile_write(w->file, data, size, err);
}

/* Little-endian hosts only, like the reader. */
static tsr_status put_u32(writer *w, uint32_t value, tsr_error *err) {
    return put(w, &value, sizeof value, err);
}

static tsr_status put_u64(writer *w, uint64_t value, tsr_error *err) {
    return put(w, &value, sizeof value, err);
}

static tsr_status put_text(writer *w, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(put_u64(w, strlen(text), err));
    TSR_TRY(put(w, text, strlen(text), err));
done:
    return status;
}

static tsr_status put_padding(writer *w, tsr_error *err) {
    static const unsigned char zeros[ALIGNMENT];
    return put(w, zeros, (size_t)((ALIGNMENT - w->written % ALIGNMENT) % ALIGNMENT), err);
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* --- pairs ---------------------------------------------------------------------------------------------------------------- */
static tsr_status put_string_pair(writer *w, const char *key, const char *value, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(put_text(w, key, err));
    TSR_TRY(put_u32(w, V_STRING, err));
    TSR_TRY(put_text(w, value, err));
done:
    return status;
}

static tsr_status put_u32_pair(writer *w, const char *key, uint32_t value, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(put_text(w, key, err));
    TSR_TRY(put_u32(w, V_U32, err));
    TSR_TRY(put_u32(w, value, err));
done:
    return status;
}

static tsr_status put_original_shape(writer *w, const tsr__tensor_out *tensor, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *key = tsr__format("comfy.gguf.orig_shape.%s", tensor->name);
    if (!key) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(put_text(w, key, err));
    TSR_TRY(put_u32(w, V_ARRAY, err));
    TSR_TRY(put_u32(w, V_I32, err));
    TSR_TRY(put_u64(w, (uint64_t)tensor->rank, err));
    for (int i = 0; i < tensor->rank; i++) TSR_TRY(put_u32(w, (uint32_t)tensor->shape[i], err));
done:
    free(key);
    return status;
}

/* Keys that the reader of this file would take for something else are not copied from other files. */
static int is_plain_key(const char *key) {
    return strncmp(key, "general.", 8) != 0 && strncmp(key, "comfy.gguf.", 11) != 0;
}

static tsr_status put_pairs(writer *w, const tsr__gguf_header *header, const tsr__tensor_out *tensors,
                            const tsr__gguf_shape *stored, size_t count, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (header->architecture) {
        TSR_TRY(put_string_pair(w, "general.architecture", header->architecture, err));
        TSR_TRY(put_u32_pair(w, "general.quantization_version", QUANTISATION_VERSION, err));
        if (header->file_type >= 0) TSR_TRY(put_u32_pair(w, "general.file_type", (uint32_t)header->file_type, err));
    }
    for (size_t i = 0; header->metadata && header->metadata[i]; i += 2)
        if (is_plain_key(header->metadata[i]))
            TSR_TRY(put_string_pair(w, header->metadata[i], header->metadata[i + 1], err));
    for (size_t i = 0; stored && i < count; i++)
        if (stored[i].rank >= 0) TSR_TRY(put_original_shape(w, &tensors[i], err));
done:
    return status;
}

static uint64_t count_pairs(const tsr__gguf_header *header, const tsr__gguf_shape *stored, size_t count) {
    uint64_t pairs = header->architecture ? 2 + (header->file_type >= 0) : 0;
    for (size_t i = 0; header->metadata && header->metadata[i]; i += 2)
        pairs += (uint64_t)is_plain_key(header->metadata[i]);
    for (size_t i = 0; stored && i < count; i++) pairs += stored[i].rank >= 0;
    return pairs;
}

/* --- tensors ---------------------------------------------------------------------------------------------------------------- */
static tsr__gguf_shape shape_of(const tsr__tensor_out *tensor, const tsr__gguf_shape *stored, size_t index) {
    if (stored && stored[index].rank >= 0) return stored[index];
    tsr__gguf_shape shape = { tensor->rank, { 0 } };
    for (int i = 0; i < tensor->rank && i < MAX_SIDES; i++) shape.side[i] = tensor->shape[i];
    return shape;
}

static tsr_status measure(uint64_t *bytes, const tsr__tensor_out *tensor, const tsr__gguf_shape *shape,
                          tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t count = 1, row = 1;
    const uint64_t block = tsr__dtype_block(tensor->dtype);
    *bytes = 0;
    if (shape->rank > MAX_SIDES)
        TSR_FAIL(err, TSR_UNSUPPORTED, "tensor \"%s\" has %d sides; GGUF has 4 at most", tensor->name, shape->rank);
    if (tsr__gguf_type_number(tensor->dtype) < 0)
        TSR_FAIL(err, TSR_UNSUPPORTED, "tensor \"%s\": GGUF has no %s", tensor->name, tsr__dtype_name(tensor->dtype));
    for (int i = 0; i < shape->rank; i++) {
        if (shape->side[i] < 0 || (shape->side[i] && count > ((uint64_t)1 << 40) / (uint64_t)shape->side[i]))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "tensor \"%s\": bad shape", tensor->name);
        row = (uint64_t)shape->side[i]; /* the last one is the fastest */
        count *= row;
    }
    if (row % block)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "tensor \"%s\": rows do not divide into %s blocks", tensor->name,
                 tsr__dtype_name(tensor->dtype));
    *bytes = count / block * tsr__dtype_size(tensor->dtype);
done:
    return status;
}

/* The list counts sides from the fastest one. */
static tsr_status put_list(writer *w, const tsr__tensor_out *tensors, const tsr__gguf_shape *stored, size_t count,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t offset = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const tsr__gguf_shape shape = shape_of(&tensors[i], stored, i);
        TSR_TRY(measure(&bytes, &tensors[i], &shape, err));
        TSR_TRY(put_text(w, tensors[i].name, err));
        TSR_TRY(put_u32(w, (uint32_t)shape.rank, err));
        for (int k = shape.rank - 1; k >= 0; k--) TSR_TRY(put_u64(w, (uint64_t)shape.side[k], err));
        TSR_TRY(put_u32(w, (uint32_t)tsr__gguf_type_number(tensors[i].dtype), err));
        TSR_TRY(put_u64(w, offset, err));
        offset += aligned(bytes);
    }
done:
    return status;
}

tsr_status tsr__gguf_save_made(const char *path, const tsr__tensor_out *tensors, const tsr__gguf_shape *stored,
                               size_t count, const tsr__gguf_header *header, tsr__tensor_make_fn make, void *user,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    writer w = { NULL, 0 };
    uint64_t bytes = 0;
    TSR_TRY(tsr__outfile_open(&w.file, path, err));
    TSR_TRY(put(&w, "GGUF", 4, err));
    TSR_TRY(put_u32(&w, VERSION, err));
    TSR_TRY(put_u64(&w, count, err));
    TSR_TRY(put_u64(&w, count_pairs(header, stored, count), err));
    TSR_TRY(put_pairs(&w, header, tensors, stored, count, err));
    TSR_TRY(put_list(&w, tensors, stored, count, err));
    TSR_TRY(put_padding(&w, err));
    for (size_t i = 0; i < count; i++) {
        const tsr__gguf_shape shape = shape_of(&tensors[i], stored, i);
        const void *data = NULL;
        TSR_TRY(measure(&bytes, &tensors[i], &shape, err));
        if (!bytes) continue;
        TSR_TRY(make(user, i, &data, err));
        TSR_TRY(put(&w, data, (size_t)bytes, err));
        TSR_TRY(put_padding(&w, err));
    }
    tsr__outfile *whole = w.file;
    w.file = NULL;
    TSR_TRY(tsr__outfile_commit(whole, err));
done:
    tsr__outfile_abort(w.file);
    return status;
}
