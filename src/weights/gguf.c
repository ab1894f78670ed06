/* weights/gguf.c - GGUF's header, key-value pairs and list of tensors to views. Every length is checked against the file. */
#include "weights/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "weights/weights_priv.h"

enum { MAX_DIMS = 4, MAX_NAME = 1024, MAX_DEPTH = 4 };
static const uint64_t MAX_TENSORS = 200000, MAX_PAIRS = 65536;
static const char ORIGINAL_SHAPE[] = "comfy.gguf.orig_shape.";

/* GGUF's types of values. */
enum { V_U8, V_I8, V_U16, V_I16, V_U32, V_I32, V_F32, V_BOOL, V_STRING, V_ARRAY, V_U64, V_I64, V_F64, V_COUNT };
static const size_t VALUE_SIZES[V_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

/* ggml's numbers of element types. */
static const struct {
    uint32_t number;
    tsr__dtype dtype;
} TYPES[] = {
    { 0, TSR_DTYPE_F32 },     { 1, TSR_DTYPE_F16 },     { 2, TSR_DTYPE_Q4_0 },  { 3, TSR_DTYPE_Q4_1 },
    { 6, TSR_DTYPE_Q5_0 },    { 7, TSR_DTYPE_Q5_1 },    { 8, TSR_DTYPE_Q8_0 },  { 10, TSR_DTYPE_Q2_K },
    { 11, TSR_DTYPE_Q3_K },   { 12, TSR_DTYPE_Q4_K },   { 13, TSR_DTYPE_Q5_K }, { 14, TSR_DTYPE_Q6_K },
    { 20, TSR_DTYPE_IQ4_NL }, { 23, TSR_DTYPE_IQ4_XS }, { 24, TSR_DTYPE_I8 },   { 25, TSR_DTYPE_I16 },
    { 26, TSR_DTYPE_I32 },    { 27, TSR_DTYPE_I64 },    { 28, TSR_DTYPE_F64 },  { 30, TSR_DTYPE_BF16 },
};

/* Where the reader stands. */
typedef struct cursor {
    const char *path;
    const unsigned char *data;
    size_t size, at;
} cursor;

/* A tensor's original shape, as a pair said it before the tensors were listed. */
typedef struct shape_note {
    const unsigned char *name; /* in the file */
    size_t name_length;
    int rank;
    int64_t shape[8];
} shape_note;

typedef struct reader {
    cursor c;
    tsr__weights *weights;
    uint64_t alignment;
    shape_note *notes;
    size_t note_count, note_room;
} reader;

int tsr__gguf_looks(const unsigned char *data, size_t size) {
    return size >= 4 && memcmp(data, "GGUF", 4) == 0;
}

static tsr_status truncated(const cursor *c, tsr_error *err) {
    return tsr__fail(err, TSR_BAD_FORMAT, "%s: truncated: the GGUF header goes on beyond the file's %zu bytes", c->path,
                     c->size);
}

static tsr_status take(cursor *c, uint64_t length, const unsigned char **out, tsr_error *err) {
    *out = c->data;
    if (length > c->size - c->at) return truncated(c, err);
    *out = c->data + c->at;
    c->at += (size_t)length;
    return TSR_OK;
}

static tsr_status take_u64(cursor *c, uint64_t *out, tsr_error *err) {
    const unsigned char *bytes;
    tsr_status status = take(c, 8, &bytes, err);
    *out = 0;
    if (status == TSR_OK) memcpy(out, bytes, 8);
    return status;
}

static tsr_status take_u32(cursor *c, uint32_t *out, tsr_error *err) {
    const unsigned char *bytes;
    tsr_status status = take(c, 4, &bytes, err);
    *out = 0;
    if (status == TSR_OK) memcpy(out, bytes, 4);
    return status;
}

static tsr_status take_string(cursor *c, const unsigned char **out, size_t *length, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint64_t count = 0;
    *out = c->data;
    *length = 0;
    TSR_TRY(take_u64(c, &count, err));
    TSR_TRY(take(c, count, out, err));
    *length = (size_t)count;
done:
    return status;
}

/* --- key-value pairs --------------------------------------------------------------------------------------------------- */
static tsr_status skip_value(cursor *c, uint32_t type, int depth, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *bytes;
    size_t length;
    uint32_t item = 0;
    uint64_t count = 0;
    if (type == V_STRING) return take_string(c, &bytes, &length, err);
    if (type != V_ARRAY) {
        if (type >= V_COUNT) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: a GGUF value of unknown type %u", c->path, type);
        return take(c, VALUE_SIZES[type], &bytes, err);
    }
    TSR_TRY(take_u32(c, &item, err));
    TSR_TRY(take_u64(c, &count, err));
    if (item < V_COUNT && VALUE_SIZES[item]) {
        if (count > (c->size - c->at) / VALUE_SIZES[item]) return truncated(c, err);
        return take(c, count * VALUE_SIZES[item], &bytes, err);
    }
    if (depth >= MAX_DEPTH) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: GGUF arrays nested too deep", c->path);
    for (uint64_t i = 0; i < count; i++) TSR_TRY(skip_value(c, item, depth + 1, err));
done:
    return status;
}

/* comfy.gguf.orig_shape.NAME = array of whole numbers. */
static tsr_status read_note(reader *r, const unsigned char *name, size_t length, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint32_t item = 0;
    uint64_t count = 0;
    shape_note note = { .name = name, .name_length = length };
    const unsigned char *bytes;
    TSR_TRY(take_u32(&r->c, &item, err));
    TSR_TRY(take_u64(&r->c, &count, err));
    if ((item != V_I32 && item != V_U32 && item != V_I64 && item != V_U64) || count > 8)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: %s%.*s is no shape", r->c.path, ORIGINAL_SHAPE, (int)(length % 200), name);
    note.rank = (int)count;
    for (int i = 0; i < note.rank; i++) {
        TSR_TRY(take(&r->c, VALUE_SIZES[item], &bytes, err));
        int32_t small;
        if (VALUE_SIZES[item] == 8) {
            memcpy(&note.shape[i], bytes, 8);
        } else {
            memcpy(&small, bytes, 4);
            note.shape[i] = small;
        }
    }
    if (r->note_count == r->note_room) {
        size_t room = r->note_room ? 2 * r->note_room : 64;
        shape_note *grown = realloc(r->notes, room * sizeof *grown);
        if (!grown) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        r->notes = grown;
        r->note_room = room;
    }
    r->notes[r->note_count++] = note;
done:
    return status;
}

static tsr_status read_text(reader *r, const unsigned char *key, size_t key_length, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *value;
    size_t length;
    char *name = NULL, *text = NULL;
    TSR_TRY(take_string(&r->c, &value, &length, err));
    if (memchr(value, 0, length) || length > 1u << 20) return TSR_OK; /* nothing this library looks for */
    name = tsr__format("%.*s", (int)key_length, (const char *)key);
    text = tsr__format("%.*s", (int)length, (const char *)value);
    if (!name || !text) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    tsr__weights_set_metadata(r->weights, name, text);
done:
    free(name);
    free(text);
    return status;
}

static tsr_status read_pair(reader *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *key;
    size_t length;
    uint32_t type = 0, alignment = 0;
    TSR_TRY(take_string(&r->c, &key, &length, err));
    if (length > MAX_NAME || memchr(key, 0, length))
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: a GGUF key of %zu bytes", r->c.path, length);
    TSR_TRY(take_u32(&r->c, &type, err));
    const size_t prefix = sizeof ORIGINAL_SHAPE - 1;
    if (type == V_ARRAY && length > prefix && memcmp(key, ORIGINAL_SHAPE, prefix) == 0)
        return read_note(r, key + prefix, length - prefix, err);
    if (type == V_STRING) return read_text(r, key, length, err);
    if (type == V_U32 && length == 17 && memcmp(key, "general.alignment", 17) == 0) {
        TSR_TRY(take_u32(&r->c, &alignment, err));
        if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)))
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: general.alignment is %u, not a power of two from 8 to 65536", r->c.path,
                     alignment);
        r->alignment = alignment;
        return TSR_OK;
    }
    TSR_TRY(skip_value(&r->c, type, 0, err));
done:
    return status;
}

/* --- tensors ------------------------------------------------------------------------------------------------------------ */
static int find_type(uint32_t number, tsr__dtype *out) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        if (TYPES[i].number != number) continue;
        *out = TYPES[i].dtype;
        return 1;
    }
    return 0;
}

int tsr__gguf_type_number(tsr__dtype dtype) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (TYPES[i].dtype == dtype) return (int)TYPES[i].number;
    return -1;
}

/* The file counts its sides from the fastest one. */
static tsr_status read_shape(reader *r, tsr__tensor_view *view, tsr_error *err) {
    tsr_status status = TSR_OK;
    uint32_t dims = 0;
    TSR_TRY(take_u32(&r->c, &dims, err));
    if (dims > MAX_DIMS) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" has %u sides", r->c.path, view->name, dims);
    view->rank = (int)dims;
    view->count = 1;
    uint64_t fastest = 1;
    for (int i = view->rank - 1; i >= 0; i--) {
        uint64_t side = 0;
        TSR_TRY(take_u64(&r->c, &side, err));
        if (side > INT32_MAX || (side && view->count > ((size_t)1 << 40) / side))
            TSR_FAIL(err, TSR_TOO_LARGE, "%s: tensor \"%s\" is too large", r->c.path, view->name);
        view->shape[i] = (int64_t)side;
        view->count *= (size_t)side;
        if (i == view->rank - 1) fastest = side;
    }
    uint32_t type = 0;
    TSR_TRY(take_u32(&r->c, &type, err));
    if (!find_type(type, &view->dtype))
        TSR_FAIL(err, TSR_UNSUPPORTED,
                 "%s: tensor \"%s\" has GGUF's element type %u; F32, F16, BF16, Q8_0, Q5_0, Q5_1, Q4_0, Q4_1, "
                 "Q2_K to Q6_K, IQ4_NL and IQ4_XS are read",
                 r->c.path, view->name, type);
    if (fastest % tsr__dtype_block(view->dtype))
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": rows of %" PRIu64 " do not divide into %s blocks", r->c.path,
                 view->name, fastest, tsr__dtype_name(view->dtype));
done:
    return status;
}

static void restore_shape(const reader *r, tsr__tensor_view *view) {
    const size_t length = strlen(view->name);
    for (size_t i = 0; i < r->note_count; i++) {
        const shape_note *note = &r->notes[i];
        size_t count = 1;
        if (note->name_length != length || memcmp(note->name, view->name, length) != 0) continue;
        for (int k = 0; k < note->rank; k++)
            count = note->shape[k] > 0 && note->shape[k] <= INT32_MAX && count <= view->count
                        ? count * (size_t)note->shape[k]
                        : 0;
        if (count != view->count) return; /* a note that cannot be true changes nothing */
        view->rank = note->rank;
        memcpy(view->shape, note->shape, sizeof view->shape);
        return;
    }
}

/* How many bytes all names take with their ends. Reads a copy of the cursor. */
static tsr_status measure_names(cursor c, uint64_t count, size_t *out, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = 0;
    for (uint64_t i = 0; i < count; i++) {
        const unsigned char *bytes;
        size_t length;
        uint32_t dims = 0;
        TSR_TRY(take_string(&c, &bytes, &length, err));
        TSR_TRY(take_u32(&c, &dims, err));
        TSR_TRY(take(&c, (uint64_t)dims * 8 + 4 + 8, &bytes, err));
        *out += length + 1;
    }
done:
    return status;
}

/* offsets[i]: of tensor i, from the start of the data. */
static tsr_status read_tensors(reader *r, tsr__tensor_view *views, uint64_t *offsets, uint64_t count, char *names,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    for (uint64_t i = 0; i < count; i++) {
        const unsigned char *name;
        size_t length;
        TSR_TRY(take_string(&r->c, &name, &length, err));
        if (!length || length > MAX_NAME || memchr(name, 0, length))
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: a tensor's name of %zu bytes", r->c.path, length);
        memcpy(names, name, length);
        names[length] = '\0';
        views[i].name = names;
        names += length + 1;
        TSR_TRY(read_shape(r, &views[i], err));
        TSR_TRY(take_u64(&r->c, &offsets[i], err));
        restore_shape(r, &views[i]);
    }
    const uint64_t start = (r->c.at + r->alignment - 1) / r->alignment * r->alignment;
    for (uint64_t i = 0; i < count; i++) {
        const size_t bytes = tsr__tensor_bytes(&views[i]);
        if (offsets[i] % r->alignment)
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" is not aligned", r->c.path, views[i].name);
        if (bytes && (start > r->c.size || offsets[i] > r->c.size - start || bytes > r->c.size - start - offsets[i]))
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: truncated: tensor \"%s\" ends beyond the file's %zu bytes", r->c.path,
                     views[i].name, r->c.size);
        views[i].data = bytes ? r->c.data + start + offsets[i] : r->c.data;
    }
done:
    return status;
}

static tsr_status read_header(reader *r, uint64_t *tensors, uint64_t *pairs, tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *magic;
    uint32_t version = 0;
    TSR_TRY(take(&r->c, 4, &magic, err));
    TSR_TRY(take_u32(&r->c, &version, err));
    if (version > 0xffff) TSR_FAIL(err, TSR_UNSUPPORTED, "%s: a byte-swapped GGUF file", r->c.path);
    if (version != 2 && version != 3)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: GGUF version %u; versions 2 and 3 are read", r->c.path, version);
    TSR_TRY(take_u64(&r->c, tensors, err));
    TSR_TRY(take_u64(&r->c, pairs, err));
    if (*tensors > MAX_TENSORS || *pairs > MAX_PAIRS)
        TSR_FAIL(err, TSR_TOO_LARGE, "%s: %" PRIu64 " tensors and %" PRIu64 " pairs are over the limits", r->c.path,
                 *tensors, *pairs);
done:
    return status;
}

tsr_status tsr__gguf_read(tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    reader r = { .weights = weights, .alignment = 32, .c.path = tsr__weights_path(weights) };
    tsr__tensor_view *views = NULL;
    uint64_t *offsets = NULL, tensors = 0, pairs = 0;
    char *names = NULL;
    size_t name_bytes = 0;
    r.c.data = tsr__weights_bytes(weights, &r.c.size);
    TSR_TRY(read_header(&r, &tensors, &pairs, err));
    for (uint64_t i = 0; i < pairs; i++) TSR_TRY(read_pair(&r, err));
    /* a tensor takes 24 bytes of the file at least, besides its name */
    if (tensors > (r.c.size - r.c.at) / 24) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: truncated list of tensors", r.c.path);
    TSR_ALLOC_ZERO(err, views, (size_t)tensors + 1);
    TSR_ALLOC_ZERO(err, offsets, (size_t)tensors + 1);
    TSR_TRY(measure_names(r.c, tensors, &name_bytes, err));
    TSR_ALLOC_ZERO(err, names, name_bytes + 1);
    TSR_TRY(read_tensors(&r, views, offsets, tensors, names, err));
    status = tsr__weights_take_views(weights, views, (size_t)tensors, names, err);
    views = NULL;
    names = NULL;
done:
    free(r.notes);
    free(views);
    free(offsets);
    free(names);
    return status;
}
