/* weights/safetensors_save.c - writing a safetensors file, whole or not at all.
 *
 * The header is made by Jansson in the order given and padded with spaces, so that tensor data starts at a multiple of 64
 * bytes of the file: where tensors' sizes are such multiples too, all of them do (packed_file.h). */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "weights/weights.h"

enum { PREFIX_BYTES = 8, ALIGN = 64 };

/* Bytes of one tensor; BAD_ARGUMENT when its shape makes no sense. */
static tsr_status tensor_bytes(uint64_t *out, const tsr__tensor_out *tensor, tsr_error *err) {
    uint64_t bytes = tsr__dtype_size(tensor->dtype);
    if (tensor->rank < 0 || tensor->rank > 8 || bytes == 0)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "tensor \"%s\": bad rank or dtype", tensor->name);
    for (int i = 0; i < tensor->rank; i++) {
        const int64_t extent = tensor->shape[i];
        if (extent < 0 || (extent > 0 && bytes > (uint64_t)INT64_MAX / (uint64_t)extent))
            return tsr__fail(err, TSR_BAD_ARGUMENT, "tensor \"%s\": bad shape", tensor->name);
        bytes *= (uint64_t)extent;
    }
    *out = bytes;
    return TSR_OK;
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}, or NULL when memory is out. */
static json_t *make_entry(const tsr__tensor_out *tensor, uint64_t begin, uint64_t end) {
    json_t *shape = json_array();
    for (int i = 0; i < tensor->rank; i++) json_array_append_new(shape, json_integer(tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", tsr__dtype_name(tensor->dtype), "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)end);
}

static tsr_status make_header(char **out, const tsr__tensor_out *tensors, size_t count, const char *const *metadata,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *header = json_object();
    uint64_t offset = 0;
    if (metadata && metadata[0]) {
        json_t *pairs = json_object();
        for (size_t i = 0; metadata[i]; i += 2) {
            if (json_object_set_new(pairs, metadata[i], json_string(metadata[i + 1])) == 0) continue;
            json_decref(pairs);
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "metadata \"%s\" is not valid UTF-8", metadata[i]);
        }
        json_object_set_new(header, "__metadata__", pairs);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = 0;
        TSR_TRY(tensor_bytes(&bytes, &tensors[i], err));
        if (bytes > (uint64_t)INT64_MAX - offset) TSR_FAIL(err, TSR_TOO_LARGE, "tensors are too large for one file");
        if (json_object_get(header, tensors[i].name))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "two tensors are called \"%s\"", tensors[i].name);
        if (json_object_set_new(header, tensors[i].name, make_entry(&tensors[i], offset, offset + bytes)) != 0)
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "tensor name \"%s\" is not valid UTF-8", tensors[i].name);
        offset += bytes;
    }
    *out = json_dumps(header, JSON_COMPACT);
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    json_decref(header);
    return status;
}

/* Data that is there already. */
static tsr_status give_data(void *user, size_t index, const void **data, tsr_error *err) {
    (void)err;
    *data = ((const tsr__tensor_out *)user)[index].data;
    return TSR_OK;
}

tsr_status tsr__safetensors_save(const char *path, const tsr__tensor_out *tensors, size_t count,
                                 const char *const *metadata, tsr_error *err) {
    return tsr__safetensors_save_made(path, tensors, count, metadata, give_data, (void *)(uintptr_t)tensors, err);
}

tsr_status tsr__safetensors_save_made(const char *path, const tsr__tensor_out *tensors, size_t count,
                                      const char *const *metadata, tsr__tensor_make_fn make, void *user,
                                      tsr_error *err) {
    tsr_status status = TSR_OK;
    char *header = NULL;
    tsr__outfile *file = NULL;

    TSR_TRY(make_header(&header, tensors, count, metadata, err));
    const size_t length = strlen(header), padding = (ALIGN - (PREFIX_BYTES + length) % ALIGN) % ALIGN;
    unsigned char prefix[PREFIX_BYTES];
    char spaces[ALIGN];
    memset(spaces, ' ', sizeof spaces);
    for (int i = 0; i < PREFIX_BYTES; i++) prefix[i] = (unsigned char)((uint64_t)(length + padding) >> 8 * i & 0xff);
    TSR_TRY(tsr__outfile_open(&file, path, err));
    TSR_TRY(tsr__outfile_write(file, prefix, sizeof prefix, err));
    TSR_TRY(tsr__outfile_write(file, header, length, err));
    TSR_TRY(tsr__outfile_write(file, spaces, padding, err));
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = 0;
        TSR_TRY(tensor_bytes(&bytes, &tensors[i], err));
        const void *data = NULL;
        if (!bytes) continue;
        TSR_TRY(make(user, i, &data, err));
        TSR_TRY(tsr__outfile_write(file, data, (size_t)bytes, err));
    }
    tsr__outfile *whole = file;
    file = NULL;
    TSR_TRY(tsr__outfile_commit(whole, err));
done:
    tsr__outfile_abort(file);
    free(header);
    return status;
}
