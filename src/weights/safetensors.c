/* weights/safetensors.c - reading safetensors files that may lie, by memory mapping.
 *
 * A file is 8 bytes little-endian header length, a JSON header, then raw tensor bytes. Owns the mapping and the parsed
 * header; every number of the header is checked here once, so that callers may trust every view. Knows no key names.
 *
 * The whole file is only mapped, never read: opening a 7 GB checkpoint costs its header. */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "weights/packed_file.h"
#include "weights/weights_priv.h"

enum { PREFIX_BYTES = 8, MAX_RANK = 8 };
static const uint64_t MAX_HEADER_BYTES = 100u << 20;
static const size_t MAX_TENSORS = 200000;

struct tsr__weights {
    char *path;               /* for messages */
    const unsigned char *map; /* the whole file */
    size_t size;
    int mapped;              /* map belongs to us: unmap it */
    json_t *header;          /* keeps the names alive */
    json_t *metadata;        /* borrowed from header, or NULL */
    tsr__tensor_view *views; /* sorted by name */
    size_t count;
    void *storage;          /* of views from another format: names and copied data, or NULL */
    tsr__weights **sources; /* of a union: where its views point */
    size_t source_count;
    void **pieces; /* of a union: names and copied data */
    size_t piece_count;
    tsr__packed *packed; /* of a packed cache, else NULL */
};

static uint64_t read_u64_le(const unsigned char *bytes) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static int starts_with(const unsigned char *data, size_t size, const char *word) {
    size_t length = strlen(word);
    return size >= length && memcmp(data, word, length) == 0;
}

static int contains(const unsigned char *data, size_t size, const char *word) {
    size_t length = strlen(word);
    for (size_t i = 0; i + length <= size; i++) {
        if (memcmp(data + i, word, length) == 0) return 1;
    }
    return 0;
}

/* What a file that is no safetensors most likely is, with the way out; NULL when nobody knows. */
static const char *name_other_format(const unsigned char *data, size_t size) {
    size_t head = size < 256 ? size : 256;
    while (head > 0 && (*data == ' ' || *data == '\n' || *data == '\r' || *data == '\t')) {
        data++;
        head--;
    }
    if (starts_with(data, head, "PK\x03\x04"))
        return "a PyTorch (zip) file, not safetensors; convert it to safetensors first";
    if (starts_with(data, head, "GGUF"))
        return "a GGUF file, not safetensors; get the safetensors version of this model";
    if (starts_with(data, head, "version ") && contains(data, head, "git-lfs"))
        return "a git-lfs pointer, not the model itself; fetch the real file with git lfs pull";
    if (starts_with(data, head, "<")) return "a web page (HTML or XML), not a model; download the file again";
    if (head >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5)
        return "a Python pickle (old PyTorch) file, not safetensors; convert it to safetensors first";
    if (starts_with(data, head, "\x89PNG") || starts_with(data, head, "\xff\xd8\xff")) return "a picture, not a model";
    return NULL;
}

/* Where the header lies; every way a file can fail before its JSON is looked at. */
static tsr_status check_prefix(const tsr__weights *weights, size_t *header_size, tsr_error *err) {
    const unsigned char *data = weights->map;
    const size_t size = weights->size;
    if (size == 0) return tsr__fail(err, TSR_BAD_FORMAT, "%s: the file is empty", weights->path);
    uint64_t length = size >= PREFIX_BYTES ? read_u64_le(data) : 0;
    int plausible = size > PREFIX_BYTES && length >= 2 && length <= size - PREFIX_BYTES && data[PREFIX_BYTES] == '{';
    if (!plausible) {
        const char *other = name_other_format(data, size);
        if (other) return tsr__fail(err, TSR_BAD_FORMAT, "%s: this is %s", weights->path, other);
    }
    if (size < PREFIX_BYTES + 2)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: truncated: %zu bytes are too few for a safetensors file",
                         weights->path, size);
    if (length > MAX_HEADER_BYTES)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: not a safetensors file: header length %llu is over 100 MiB",
                         weights->path, (unsigned long long)length);
    if (length > size - PREFIX_BYTES)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: truncated: header says %llu bytes, file has %zu", weights->path,
                         (unsigned long long)length, size);
    if (data[PREFIX_BYTES] != '{')
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: not a safetensors file: the header does not start with '{'",
                         weights->path);
    *header_size = (size_t)length;
    return TSR_OK;
}

static int find_dtype(const char *name, tsr__dtype *out) {
    for (int i = 0; i < TSR_DTYPE_COUNT_; i++) {
        if (tsr__dtype_block((tsr__dtype)i) == 1 && tsr__dtype_size((tsr__dtype)i) > 0 &&
            strcmp(name, tsr__dtype_name((tsr__dtype)i)) == 0) {
            *out = (tsr__dtype)i;
            return 1;
        }
    }
    return 0;
}

tsr_status tsr__weights_read_shape(tsr__tensor_view *view, const json_t *shape, const char *path, tsr_error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > MAX_RANK)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": shape must be a list of at most %d sizes", path,
                         view->name, MAX_RANK);
    view->rank = (int)json_array_size(shape);
    int empty = 0;
    for (int i = 0; i < view->rank; i++) {
        const json_t *extent = json_array_get(shape, (size_t)i);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": size %d of its shape is not a count", path,
                             view->name, i);
        view->shape[i] = json_integer_value(extent);
        if (view->shape[i] == 0) empty = 1;
    }
    view->count = empty ? 0 : 1;
    for (int i = 0; i < view->rank && !empty; i++) {
        uint64_t extent = (uint64_t)view->shape[i];
        if (extent > SIZE_MAX / 8 / view->count) /* 8: the widest element */
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": its shape overflows", path, view->name);
        view->count *= (size_t)extent;
    }
    return TSR_OK;
}

/* One header entry {"dtype", "shape", "data_offsets": [begin, end]} to a view. body_size: bytes after the header. */
static tsr_status read_entry(tsr__tensor_view *view, const char *name, const json_t *entry, const tsr__weights *weights,
                             size_t header_size, tsr_error *err) {
    const char *path = weights->path;
    const size_t body_size = weights->size - PREFIX_BYTES - header_size;
    view->name = name;
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" has no dtype", path, name);
    if (!find_dtype(dtype, &view->dtype))
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: tensor \"%s\": unknown dtype \"%s\"", path, name, dtype);
    tsr_status status = tsr__weights_read_shape(view, json_object_get(entry, "shape"), path, err);
    if (status != TSR_OK) return status;

    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": data_offsets must be two integers", path, name);
    const json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": data_offsets [%lld, %lld] run backwards", path, name,
                         (long long)begin, (long long)end);
    if ((uint64_t)end > body_size)
        return tsr__fail(err, TSR_BAD_FORMAT,
                         "%s: truncated: tensor \"%s\" ends at byte %lld, file has %zu after its header", path, name,
                         (long long)end, body_size);
    if ((uint64_t)(end - begin) != view->count * tsr__dtype_size(view->dtype))
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": %lld bytes do not fit its shape (%zu values of %s)",
                         path, name, (long long)(end - begin), view->count, dtype);
    view->data = weights->map + PREFIX_BYTES + header_size + (size_t)begin;
    return TSR_OK;
}

static int compare_names(const void *left, const void *right) {
    return strcmp(((const tsr__tensor_view *)left)->name, ((const tsr__tensor_view *)right)->name);
}

static int compare_places(const void *left, const void *right) {
    const tsr__tensor_view *a = left, *b = right;
    if (a->data != b->data) return (const char *)a->data < (const char *)b->data ? -1 : 1;
    return (tsr__tensor_bytes(a) > 0) - (tsr__tensor_bytes(b) > 0); /* empty tensors own nothing and sort first */
}

/* Leaves views sorted by place; two non-empty tensors may not share a byte. */
static tsr_status check_overlap(tsr__weights *weights, tsr_error *err) {
    const tsr__tensor_view *before = NULL;
    qsort(weights->views, weights->count, sizeof *weights->views, compare_places);
    for (size_t i = 0; i < weights->count; i++) {
        const tsr__tensor_view *view = &weights->views[i];
        if (tsr__tensor_bytes(view) == 0) continue;
        if (before && (const char *)before->data + tsr__tensor_bytes(before) > (const char *)view->data)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", weights->path, before->name,
                             view->name);
        before = view;
    }
    return TSR_OK;
}

static tsr_status check_metadata(const tsr__weights *weights, json_t *metadata, tsr_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: __metadata__ is not a JSON object", weights->path);
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: __metadata__ \"%s\" is not a text", weights->path, key);
    }
    return TSR_OK;
}

/* "Scaled" F8 files keep a factor beside a weight: NAME.weight and NAME.scale_weight, or NAME.weight_scale as newer ones
 * spell it. */
static void link_scales(tsr__weights *weights) {
    static const char *const ends[] = { "scale_weight", "weight_scale" };
    char name[512];
    for (size_t i = 0; i < weights->count; i++) {
        tsr__tensor_view *view = &weights->views[i];
        const size_t length = strlen(view->name), end = strlen(".weight");
        if (view->dtype != TSR_DTYPE_F8_E4M3 && view->dtype != TSR_DTYPE_F8_E5M2) continue;
        if (length <= end || length > 400 || strcmp(view->name + length - end, ".weight") != 0) continue;
        for (int k = 0; k < 2 && view->scale == 0.0f; k++) {
            (void)snprintf(name, sizeof name, "%.*s.%s", (int)(length - end), view->name, ends[k]);
            const tsr__tensor_view *scale = tsr__weights_find(weights, name);
            if (scale && scale->count == 1 && scale->dtype == TSR_DTYPE_F32)
                memcpy(&view->scale, scale->data, sizeof view->scale);
        }
    }
}

/* Parses the mapped file into views. */
static tsr_status index_file(tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t header_size = 0;
    json_error_t json_err;
    const char *key;
    json_t *entry;

    TSR_TRY(check_prefix(weights, &header_size, err));
    weights->header =
        json_loadb((const char *)weights->map + PREFIX_BYTES, header_size, JSON_REJECT_DUPLICATES, &json_err);
    if (!weights->header)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: bad header at byte %d: %s", weights->path, PREFIX_BYTES + json_err.position,
                 json_err.text);
    if (!json_is_object(weights->header))
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: the header is not a JSON object", weights->path);
    if (json_object_size(weights->header) > MAX_TENSORS)
        TSR_FAIL(err, TSR_TOO_LARGE, "%s: %zu tensors are over the limit of %zu", weights->path,
                 json_object_size(weights->header), MAX_TENSORS);

    TSR_ALLOC_ZERO(err, weights->views, json_object_size(weights->header) + 1);
    json_object_foreach(weights->header, key, entry) {
        if (strcmp(key, "__metadata__") == 0) {
            TSR_TRY(check_metadata(weights, entry, err));
            weights->metadata = entry;
            continue;
        }
        TSR_TRY(read_entry(&weights->views[weights->count], key, entry, weights, header_size, err));
        weights->count++;
    }
    TSR_TRY(check_overlap(weights, err));
    qsort(weights->views, weights->count, sizeof *weights->views, compare_names);
    link_scales(weights);
    if (tsr__weights_metadata(weights, TSR__PACKED_METADATA)) TSR_TRY(tsr__packed_read(&weights->packed, weights, err));
done:
    return status;
}

static tsr_status map_file(tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    struct stat info;
    int file = open(weights->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) TSR_FAIL(err, errno == ENOENT ? TSR_NOT_FOUND : TSR_IO, "%s: %s", weights->path, strerror(errno));
    if (fstat(file, &info) != 0) TSR_FAIL(err, TSR_IO, "%s: %s", weights->path, strerror(errno));
    if (!S_ISREG(info.st_mode)) TSR_FAIL(err, TSR_IO, "%s: not a regular file", weights->path);
    weights->size = (size_t)info.st_size;
    if (weights->size > 0) { /* an empty file cannot be mapped; check_prefix names it */
        void *map = mmap(NULL, weights->size, PROT_READ, MAP_PRIVATE, file, 0);
        if (map == MAP_FAILED) TSR_FAIL(err, TSR_IO, "%s: cannot map the file: %s", weights->path, strerror(errno));
        weights->map = map;
        weights->mapped = 1;
    }
done:
    if (file >= 0) close(file);
    return status;
}

tsr_status tsr__weights_new(tsr__weights **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, weights, 1);
    weights->path = tsr__strdup(path);
    if (!weights->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    *out = weights;
    weights = NULL;
done:
    free(weights);
    return status;
}

tsr_status tsr__weights_map(tsr__weights **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    *out = NULL;
    TSR_TRY(tsr__weights_new(&weights, path, err));
    TSR_TRY(map_file(weights, err));
    *out = weights;
    weights = NULL;
done:
    tsr__weights_close(weights);
    return status;
}

tsr_status tsr__weights_wrap(tsr__weights **out, const void *data, size_t size, tsr_error *err) {
    *out = NULL;
    tsr_status status = tsr__weights_new(out, "(memory)", err);
    if (status != TSR_OK) return status;
    (*out)->map = data;
    (*out)->size = size;
    return TSR_OK;
}

const unsigned char *tsr__weights_bytes(const tsr__weights *weights, size_t *size_out) {
    *size_out = weights->size;
    return weights->map;
}

int tsr__weights_looks_safetensors(const tsr__weights *weights) {
    if (weights->size <= PREFIX_BYTES || weights->map[PREFIX_BYTES] != '{') return 0;
    const uint64_t length = read_u64_le(weights->map);
    return length >= 2 && length <= weights->size - PREFIX_BYTES;
}

tsr_status tsr__weights_index(tsr__weights *weights, tsr_error *err) {
    return index_file(weights, err);
}

tsr_status tsr__weights_take_views(tsr__weights *weights, tsr__tensor_view *views, size_t count, void *storage,
                                   tsr_error *err) {
    free(weights->views);
    weights->views = views;
    weights->count = count;
    weights->storage = storage;
    if (count > 0) qsort(views, count, sizeof *views, compare_names);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(views[i - 1].name, views[i].name) == 0)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: two tensors are named \"%s\"", weights->path, views[i].name);
    }
    return TSR_OK;
}

tsr_status tsr__weights_own_source(tsr__weights *weights, tsr__weights *source, tsr_error *err) {
    tsr__weights **grown = realloc(weights->sources, (weights->source_count + 1) * sizeof *grown);
    if (!grown) {
        tsr__weights_close(source);
        return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    }
    weights->sources = grown;
    weights->sources[weights->source_count++] = source;
    return TSR_OK;
}

tsr_status tsr__weights_own_piece(tsr__weights *weights, void *piece, tsr_error *err) {
    const size_t count = weights->piece_count;
    if ((count & (count - 1)) == 0) { /* full: rooms are powers of two */
        void **grown = realloc(weights->pieces, (count ? 2 * count : 1) * sizeof *grown);
        if (!grown) {
            free(piece);
            return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        }
        weights->pieces = grown;
    }
    weights->pieces[weights->piece_count++] = piece;
    return TSR_OK;
}

tsr_status tsr__weights_open(tsr__weights **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    *out = NULL;
    TSR_TRY(tsr__weights_map(&weights, path, err));
    TSR_TRY(index_file(weights, err));
    *out = weights;
    weights = NULL;
done:
    tsr__weights_close(weights);
    return status;
}

tsr_status tsr__weights_open_memory(tsr__weights **out, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    *out = NULL;
    TSR_TRY(tsr__weights_wrap(&weights, data, size, err));
    TSR_TRY(index_file(weights, err));
    *out = weights;
    weights = NULL;
done:
    tsr__weights_close(weights);
    return status;
}

void tsr__weights_close(tsr__weights *weights) {
    if (!weights) return;
    json_decref(weights->header);
    tsr__packed_free(weights->packed);
    free(weights->views);
    free(weights->storage);
    for (size_t i = 0; i < weights->piece_count; i++) free(weights->pieces[i]);
    free(weights->pieces);
    for (size_t i = 0; i < weights->source_count; i++) tsr__weights_close(weights->sources[i]);
    free(weights->sources);
    if (weights->mapped) munmap((void *)(uintptr_t)weights->map, weights->size);
    free(weights->path);
    free(weights);
}

void tsr__weights_set_metadata(tsr__weights *weights, const char *key, const char *value) {
    if (!weights->header) weights->metadata = weights->header = json_object();
    (void)json_object_set_new(weights->metadata, key, json_string(value)); /* texts that are no UTF-8 are left out */
}

const char *tsr__weights_path(const tsr__weights *weights) {
    return weights->path;
}

size_t tsr__weights_count(const tsr__weights *weights) {
    return weights->count;
}

const tsr__tensor_view *tsr__weights_at(const tsr__weights *weights, size_t index) {
    return index < weights->count ? &weights->views[index] : NULL;
}

const tsr__tensor_view *tsr__weights_find(const tsr__weights *weights, const char *name) {
    tsr__tensor_view key = { .name = name };
    return bsearch(&key, weights->views, weights->count, sizeof key, compare_names);
}

const char *tsr__weights_metadata(const tsr__weights *weights, const char *key) {
    return json_string_value(json_object_get(weights->metadata, key));
}

tsr_status tsr__weights_all_metadata(const char ***out, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char **pairs = NULL, *key;
    json_t *value;
    size_t used = 0;
    *out = NULL;
    TSR_ALLOC_ZERO(err, pairs, 2 * json_object_size(weights->metadata) + 1);
    json_object_foreach(weights->metadata, key, value) {
        pairs[used++] = key;
        pairs[used++] = json_string_value(value);
    }
    *out = pairs;
done:
    return status;
}

void tsr__weights_release_pages(const tsr__weights *weights, const tsr__tensor_view *view) {
    for (size_t i = 0; i < weights->source_count; i++) tsr__weights_release_pages(weights->sources[i], view);
    tsr__weights_advise(weights, view->data, tsr__tensor_bytes(view), MADV_DONTNEED);
}

void tsr__weights_advise(const tsr__weights *weights, const void *data, size_t size, int advice) {
    const long page_size = sysconf(_SC_PAGESIZE);
    if (!weights->mapped || page_size <= 0) return;
    const uintptr_t page = (uintptr_t)page_size, map = (uintptr_t)weights->map;
    if ((uintptr_t)data < map || (uintptr_t)data >= map + weights->size) return; /* a copy, not the file */
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + size) / page * page;
    if (end > begin) (void)madvise((void *)begin, end - begin, advice); /* advice: failing changes nothing */
}

const tsr__packed *tsr__weights_packed(const tsr__weights *weights) {
    return weights->packed;
}
