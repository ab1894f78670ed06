/* weights/packed_file.c - see packed_file.h: reading. Everything in the file is checked here but what layouts mean. */
#include "weights/packed_file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "weights/weights_priv.h"

static const char INDEX[] = "packed.index", PREFIX[] = "packed:";
static const size_t MAX_INDEX_BYTES = 16u << 20;
static const size_t MAX_TENSORS = 200000;
enum { MAX_TEXT = 64, MAX_THREADS = 1024 };

struct tsr__packed {
    json_t *key, *index; /* keep the texts alive */
    tsr__packed_info info;
    tsr__packed_weight *weights; /* sorted by name */
    size_t count;
};

void tsr__packed_free(tsr__packed *packed) {
    if (!packed) return;
    json_decref(packed->key);
    json_decref(packed->index);
    free(packed->weights);
    free(packed);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const tsr__packed_weight *)a)->name, ((const tsr__packed_weight *)b)->name);
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */
/* A short text of the key; NULL with a message otherwise. */
static tsr_status key_text(const char **out, const json_t *key, const char *name, const char *path, tsr_error *err) {
    *out = json_string_value(json_object_get(key, name));
    if (*out && strlen(*out) < MAX_TEXT) return TSR_OK;
    return tsr__fail(err, TSR_BAD_FORMAT, "%s: %s: \"%s\" is not a short text", path, TSR__PACKED_METADATA, name);
}

static tsr_status key_number(int *out, const json_t *key, const char *name, int most, const char *path,
                             tsr_error *err) {
    const json_t *value = json_object_get(key, name);
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > most)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: %s: \"%s\" is not a number from 1 to %d", path, TSR__PACKED_METADATA,
                         name, most);
    *out = (int)json_integer_value(value);
    return TSR_OK;
}

static tsr_status read_sources(tsr__packed_info *info, const json_t *key, const char *path, tsr_error *err) {
    const json_t *list = json_object_get(key, "sources");
    if (!json_is_array(list) || json_array_size(list) > TSR__PACKED_SOURCES)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: %s: \"sources\" is not a list of at most %d files", path,
                         TSR__PACKED_METADATA, TSR__PACKED_SOURCES);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        tsr__packed_source *source = &info->sources[info->source_count++];
        source->path = json_string_value(json_object_get(entry, "path"));
        source->bytes = json_integer_value(json_object_get(entry, "bytes"));
        source->modified = json_integer_value(json_object_get(entry, "modified"));
        if (!source->path)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: %s: a source without a path", path, TSR__PACKED_METADATA);
    }
    return TSR_OK;
}

static tsr_status read_key(tsr__packed *packed, const char *text, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__packed_info *info = &packed->info;
    packed->key = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(packed->key))
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: %s is not a JSON object", path, TSR__PACKED_METADATA);
    TSR_TRY(key_number(&info->version, packed->key, "version", INT32_MAX, path, err));
    TSR_TRY(key_number(&info->threads, packed->key, "threads", MAX_THREADS, path, err));
    TSR_TRY(key_text(&info->library, packed->key, "library", path, err));
    TSR_TRY(key_text(&info->isa, packed->key, "isa", path, err));
    TSR_TRY(key_text(&info->precision, packed->key, "precision", path, err));
    if (strcmp(info->precision, "f32") != 0 && strcmp(info->precision, "bf16") != 0)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: %s: \"precision\" must be \"f32\" or \"bf16\"", path, TSR__PACKED_METADATA);
    TSR_TRY(read_sources(info, packed->key, path, err));
done:
    return status;
}

static tsr_status read_index(tsr__packed *packed, const tsr__weights *weights, tsr_error *err) {
    const char *path = tsr__weights_path(weights);
    const tsr__tensor_view *view = tsr__weights_find(weights, INDEX);
    json_error_t where;
    if (!view || view->dtype != TSR_DTYPE_U8 || view->count > MAX_INDEX_BYTES)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: a packed cache without %s, a tensor of at most %zu bytes", path,
                         INDEX, MAX_INDEX_BYTES);
    packed->index = json_loadb(view->data, view->count, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(json_object_get(packed->index, "tensors")) ||
        !json_is_object(json_object_get(packed->index, "weights")))
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: %s is not a JSON object with \"tensors\" and \"weights\"%s%s", path,
                         INDEX, packed->index ? "" : ": ", packed->index ? "" : where.text);
    return TSR_OK;
}

static tsr_status read_weight(tsr__packed_weight *out, const tsr__weights *weights, const char *name,
                              const json_t *layout, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *path = tsr__weights_path(weights);
    size_t size = 0;
    const unsigned char *bytes = tsr__weights_bytes(weights, &size);
    char *full = tsr__format("%s%s", PREFIX, name);
    if (!full) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    const tsr__tensor_view *view = tsr__weights_find(weights, full);
    if (!view) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" of its index is not there", path, full);
    if (view->dtype != TSR_DTYPE_U8 || view->count == 0 || view->count % TSR__PACKED_ALIGN ||
        (size_t)((const unsigned char *)view->data - bytes) % TSR__PACKED_ALIGN)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" must be bytes that start and end at multiples of %d", path,
                 full, TSR__PACKED_ALIGN);
    *out = (tsr__packed_weight){ name, json_string_value(layout), view->data, view->count };
    if (!out->layout) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: the layout of \"%s\" is not a text", path, full);
done:
    free(full);
    return status;
}

static tsr_status read_weights(tsr__packed *packed, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *list = json_object_get(packed->index, "weights"), *layout;
    const char *name;
    TSR_ALLOC_ZERO(err, packed->weights, json_object_size(list) + 1);
    json_object_foreach(list, name, layout)
        TSR_TRY(read_weight(&packed->weights[packed->count++], weights, name, layout, err));
    qsort(packed->weights, packed->count, sizeof *packed->weights, by_name);
done:
    return status;
}

/* The checkpoint's tensors: those that stand in the file, and those inside packed weights. */
static tsr_status list_views(tsr__tensor_view **out, size_t *count, const tsr__packed *packed,
                             const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *inside = json_object_get(packed->index, "tensors"), *shape;
    const char *path = tsr__weights_path(weights), *name;
    tsr__tensor_view *views = NULL;
    size_t used = 0, hidden = 0, total = tsr__weights_count(weights);
    if (total + json_object_size(inside) > MAX_TENSORS)
        TSR_FAIL(err, TSR_TOO_LARGE, "%s: %zu tensors are over the limit of %zu", path,
                 total + json_object_size(inside), MAX_TENSORS);
    TSR_ALLOC_ZERO(err, views, total + json_object_size(inside) + 1);
    for (size_t i = 0; i < total; i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (strcmp(view->name, INDEX) == 0) continue;
        if (strncmp(view->name, PREFIX, strlen(PREFIX)) == 0) hidden++;
        else views[used++] = *view;
    }
    if (hidden != packed->count)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: %zu packed weights, its index names %zu", path, hidden, packed->count);
    json_object_foreach(inside, name, shape) {
        tsr__tensor_view *view = &views[used++];
        view->name = name;
        view->dtype = TSR_DTYPE_PACKED;
        TSR_TRY(tsr__weights_read_shape(view, shape, path, err));
    }
    *out = views;
    *count = used;
    views = NULL;
done:
    free(views);
    return status;
}

tsr_status tsr__packed_read(tsr__packed **out, tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__packed *packed = NULL;
    tsr__tensor_view *views = NULL;
    size_t count = 0;
    *out = NULL;
    TSR_ALLOC_ZERO(err, packed, 1);
    TSR_TRY(read_key(packed, tsr__weights_metadata(weights, TSR__PACKED_METADATA), tsr__weights_path(weights), err));
    TSR_TRY(read_index(packed, weights, err));
    TSR_TRY(read_weights(packed, weights, err));
    TSR_TRY(list_views(&views, &count, packed, weights, err));
    *out = packed; /* the views' names are its own */
    packed = NULL;
    TSR_TRY(tsr__weights_take_views(weights, views, count, NULL, err));
done:
    tsr__packed_free(packed);
    return status;
}

/* --- asking ----------------------------------------------------------------------------------------------------------- */
const tsr__packed_info *tsr__packed_info_of(const tsr__weights *weights) {
    const tsr__packed *packed = tsr__weights_packed(weights);
    return packed ? &packed->info : NULL;
}

const tsr__packed_weight *tsr__packed_find(const tsr__weights *weights, const char *name) {
    const tsr__packed *packed = tsr__weights_packed(weights);
    const tsr__packed_weight key = { .name = name };
    return packed ? bsearch(&key, packed->weights, packed->count, sizeof key, by_name) : NULL;
}

size_t tsr__packed_count(const tsr__weights *weights, size_t *bytes) {
    const tsr__packed *packed = tsr__weights_packed(weights);
    *bytes = 0;
    for (size_t i = 0; packed && i < packed->count; i++) *bytes += packed->weights[i].size;
    return packed ? packed->count : 0;
}

void tsr__packed_drop(const tsr__weights *weights, tsr__checkpoint_part part) {
    const tsr__packed *packed = tsr__weights_packed(weights);
    for (size_t i = 0; packed && i < packed->count; i++)
        if (tsr__checkpoint_part_of(packed->weights[i].name) == part)
            tsr__weights_advise(weights, packed->weights[i].data, packed->weights[i].size, MADV_DONTNEED);
}

/* The first source, where it still is; else NULL. */
static const char *source_there(const tsr__packed_info *info) {
    struct stat there;
    return info->source_count && stat(info->sources[0].path, &there) == 0 ? info->sources[0].path : NULL;
}

char *tsr__packed_remedy(const tsr__weights *weights) {
    const tsr__packed_info *info = tsr__packed_info_of(weights);
    const char *source = info ? source_there(info) : NULL;
    if (!source) return tsr__strdup("make it again from the original checkpoint: tessera convert ORIGINAL OUT.tsrpack");
    if (info->source_count > 1)
        return tsr__format("make it again from %s and the parts that `tessera inspect` lists", source);
    return tsr__format("make it again: tessera convert %s %s", source, tsr__weights_path(weights));
}

tsr_status tsr__packed_refuse(const tsr__weights *weights, const char *what, tsr_error *err) {
    const tsr__packed_info *info = tsr__packed_info_of(weights);
    const char *source = info ? source_there(info) : NULL;
    if (!info) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: a packed cache cannot %s; give the original checkpoint instead%s%s%s",
                     tsr__weights_path(weights), what, source ? " (" : "", source ? source : "", source ? ")" : "");
}
