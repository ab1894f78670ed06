/* weights/pth_open.c - from a PyTorch file to views: finds the pickle and the storages, picks the tensors, checks each.
 *
 * Three steps: locate (zip or the older sequence of pickles), collect (the dict to read, names joined with dots), place
 * (every tensor inside its storage, dense or copied). What a pickle may say is pth_pickle.c's business. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "weights/gguf.h"
#include "weights/pth.h"
#include "weights/pth_pickle.h"
#include "weights/pth_zip.h"
#include "weights/weights_priv.h"

enum { MAX_DEPTH = 8, MAX_KEY = 1024 };
static const size_t MAX_TENSORS = 200000;
static const size_t MAX_VISITS = 300000; /* one dict may be reached along many ways */

/* torch.save's magic number of the format before 1.6, 0x1950a86a20f9469cfc6c, little-endian. */
static const unsigned char OLD_MAGIC[] = { 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19 };

/* A storage of the format before 1.6. */
typedef struct old_storage {
    const char *key;
    size_t key_length, element; /* bytes of an element */
    const unsigned char *data;  /* NULL until found */
    uint64_t count;             /* elements, as written before the data */
} old_storage;

typedef struct named_tensor {
    char *name; /* owned */
    const tsr__pickle_value *tensor;
} named_tensor;

typedef struct reader {
    const char *path;
    const unsigned char *data;
    size_t size;
    tsr__pickle *pickle;
    const tsr__pickle_value *root;
    int is_zip;
    tsr__zip zip;
    size_t prefix_length; /* of "NAME/" before data.pkl in every entry's name */
    const char *prefix;
    old_storage *storages; /* of the old format, sorted by key */
    size_t storage_count;
    named_tensor *found;
    size_t found_count, found_room, visits;
} reader;

/* --- the zip format: NAME/data.pkl, NAME/byteorder, NAME/data/KEY --- */

static tsr_status find_member(const reader *r, const unsigned char **out, size_t *size_out, const char *folder,
                              const char *name, size_t name_length, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *full = NULL;
    *out = NULL;
    *size_out = 0;
    full = tsr__format("%.*s%s%.*s", (int)r->prefix_length, r->prefix, folder, (int)name_length, name);
    if (!full) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    const tsr__zip_entry *entry = tsr__zip_find(&r->zip, full, strlen(full));
    if (!entry) goto done;
    TSR_TRY(tsr__zip_bytes(&r->zip, entry, out, err));
    *size_out = (size_t)entry->size;
done:
    free(full);
    return status;
}

static tsr_status open_zip(reader *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__zip_entry *pickle = NULL;
    const unsigned char *bytes, *order;
    size_t order_size = 0, used = 0;
    r->is_zip = 1;
    TSR_TRY(tsr__zip_open(&r->zip, r->data, r->size, r->path, err));
    for (size_t i = 0; i < r->zip.count; i++) {
        const tsr__zip_entry *entry = &r->zip.entries[i];
        if (tsr__ends_with(entry->name, entry->name_length, "/constants.pkl"))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: this is a TorchScript program; a file of weights is needed", r->path);
        if (!tsr__ends_with(entry->name, entry->name_length, "/data.pkl")) continue;
        if (pickle) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: this zip archive holds more than one data.pkl", r->path);
        pickle = entry;
    }
    if (!pickle || pickle->name_length > MAX_KEY)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: this zip archive is no PyTorch file (no data.pkl)", r->path);
    r->prefix = pickle->name;
    r->prefix_length = pickle->name_length - strlen("data.pkl");
    TSR_TRY(find_member(r, &order, &order_size, "", "byteorder", 9, err));
    if (order && (order_size != 6 || memcmp(order, "little", 6) != 0))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: was written on a big-endian machine", r->path);
    TSR_TRY(tsr__zip_bytes(&r->zip, pickle, &bytes, err));
    TSR_TRY(tsr__pickle_read(r->pickle, &r->root, bytes, (size_t)pickle->size, &used, err));
done:
    return status;
}

/* --- the old format: magic, protocol 1001, {"little_endian": ...}, the object, [keys], then count and bytes of each key --- */

static int compare_storages(const void *left, const void *right) {
    const old_storage *a = left, *b = right;
    const size_t common = a->key_length < b->key_length ? a->key_length : b->key_length;
    const int order = common ? memcmp(a->key, b->key, common) : 0;
    return order ? order : (a->key_length > b->key_length) - (a->key_length < b->key_length);
}

static int is_old_magic(const tsr__pickle_value *value) {
    return value->kind == TSR__PICKLE_BIG_INT && value->u.bytes.length == sizeof OLD_MAGIC &&
           memcmp(value->u.bytes.text, OLD_MAGIC, sizeof OLD_MAGIC) == 0;
}

static tsr_status next_pickle(reader *r, const tsr__pickle_value **out, size_t *at, tsr_error *err) {
    size_t used = 0;
    tsr_status status = tsr__pickle_read(r->pickle, out, r->data + *at, r->size - *at, &used, err);
    *at += used;
    return status;
}

static old_storage *find_old_storage(const reader *r, const char *key, size_t length) {
    const old_storage wanted = { .key = key, .key_length = length };
    return bsearch(&wanted, r->storages, r->storage_count, sizeof wanted, compare_storages);
}

/* Every key the object's pickle named, once each, with the size of its elements. */
static tsr_status list_old_storages(reader *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t count = 0, kept = 0;
    for (const tsr__pickle_value *at = tsr__pickle_storages(r->pickle); at; at = at->u.storage.next) count++;
    TSR_ALLOC_ZERO(err, r->storages, count + 1);
    count = 0;
    for (const tsr__pickle_value *at = tsr__pickle_storages(r->pickle); at; at = at->u.storage.next) {
        r->storages[count++] = (old_storage){
            .key = at->u.storage.key,
            .key_length = at->u.storage.key_length,
            .element = tsr__dtype_size(at->u.storage.dtype),
        };
    }
    qsort(r->storages, count, sizeof *r->storages, compare_storages);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && compare_storages(&r->storages[kept - 1], &r->storages[i]) == 0) {
            if (r->storages[kept - 1].element != r->storages[i].element)
                TSR_FAIL(err, TSR_BAD_FORMAT, "%s: one storage is given two types", r->path);
            continue;
        }
        r->storages[kept++] = r->storages[i];
    }
    r->storage_count = kept;
done:
    return status;
}

/* The data part: 8 bytes of count and the elements, for each key in the order of keys. */
static tsr_status walk_old_storages(reader *r, const tsr__pickle_value *keys, size_t at, tsr_error *err) {
    if (keys->kind != TSR__PICKLE_LIST)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: the list of its storages is missing", r->path);
    for (size_t i = 0; i < keys->u.items.count; i++) {
        const tsr__pickle_value *key = keys->u.items.at[i];
        old_storage *storage =
            key->kind == TSR__PICKLE_TEXT ? find_old_storage(r, key->u.bytes.text, key->u.bytes.length) : NULL;
        if (!storage || storage->data)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: storage %zu of its list is unknown or listed twice", r->path, i);
        if (r->size - at < 8)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: truncated: storage %zu is missing", r->path, i);
        for (int b = 7; b >= 0; b--) storage->count = storage->count << 8 | r->data[at + (size_t)b];
        at += 8;
        if (storage->count > (r->size - at) / storage->element)
            return tsr__fail(err, TSR_BAD_FORMAT,
                             "%s: truncated: storage %zu has %llu elements, which the file does not "
                             "hold",
                             r->path, i, (unsigned long long)storage->count);
        storage->data = r->data + at;
        at += (size_t)storage->count * storage->element;
    }
    return TSR_OK;
}

static tsr_status open_old(reader *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pickle_value *value;
    size_t at = 0;
    TSR_TRY(next_pickle(r, &value, &at, err));
    if (!is_old_magic(value))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: this is a Python pickle, but none that torch.save wrote", r->path);
    TSR_TRY(next_pickle(r, &value, &at, err));
    if (value->kind != TSR__PICKLE_INT || value->u.integer != 1001)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: unknown version of PyTorch's old format", r->path);
    TSR_TRY(next_pickle(r, &value, &at, err));
    value = tsr__pickle_get(value, "little_endian");
    if (!value || value->kind != TSR__PICKLE_BOOL || !value->u.integer)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: was written on a big-endian machine", r->path);
    TSR_TRY(next_pickle(r, &r->root, &at, err));
    TSR_TRY(list_old_storages(r, err));
    TSR_TRY(next_pickle(r, &value, &at, err));
    TSR_TRY(walk_old_storages(r, value, at, err));
done:
    return status;
}

/* --- picking the tensors --- */

static const tsr__pickle_value *choose_dict(const tsr__pickle_value *root) {
    static const char *const WRAPPERS[] = { "params_ema", "params", "state_dict" };
    for (size_t i = 0; i < sizeof WRAPPERS / sizeof *WRAPPERS; i++) {
        const tsr__pickle_value *inner = tsr__pickle_get(root, WRAPPERS[i]);
        if (inner && inner->kind == TSR__PICKLE_DICT) return inner;
    }
    return root;
}

static int prints(const tsr__pickle_value *key) {
    if (key->kind != TSR__PICKLE_TEXT || key->u.bytes.length == 0 || key->u.bytes.length > MAX_KEY) return 0;
    for (size_t i = 0; i < key->u.bytes.length; i++) {
        unsigned char byte = (unsigned char)key->u.bytes.text[i];
        if (byte < 0x20 || byte == 0x7f) return 0;
    }
    return 1;
}

static tsr_status add_found(reader *r, char *name, const tsr__pickle_value *tensor, tsr_error *err) {
    if (r->found_count >= MAX_TENSORS)
        return tsr__fail(err, TSR_TOO_LARGE, "%s: more than %zu tensors", r->path, MAX_TENSORS);
    if (r->found_count == r->found_room) {
        size_t room = r->found_room ? r->found_room * 2 : 256;
        named_tensor *grown = realloc(r->found, room * sizeof *grown);
        if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory (%zu tensors)", room);
        r->found = grown;
        r->found_room = room;
    }
    r->found[r->found_count++] = (named_tensor){ name, tensor };
    return TSR_OK;
}

/* Adds the dict's tensors and, by name and dot, those of the dicts in it; depth and visits bound what a cycle costs. */
static tsr_status collect(reader *r, const tsr__pickle_value *dict, const char *prefix, int depth, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *name = NULL;
    if (depth > MAX_DEPTH) TSR_FAIL(err, TSR_TOO_LARGE, "%s: its dicts nest deeper than %d", r->path, MAX_DEPTH);
    for (size_t i = 0; i + 1 < dict->u.items.count; i += 2) {
        const tsr__pickle_value *key = dict->u.items.at[i], *item = dict->u.items.at[i + 1];
        if (++r->visits > MAX_VISITS)
            TSR_FAIL(err, TSR_TOO_LARGE, "%s: its dicts hold more than %zu entries", r->path, MAX_VISITS);
        if (item->kind != TSR__PICKLE_TENSOR && item->kind != TSR__PICKLE_DICT) continue;
        if (item->kind == TSR__PICKLE_DICT && key->kind != TSR__PICKLE_TEXT) continue; /* an optimizer's, by number */
        if (!prints(key))
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: a tensor's name is no plain text of 1 to %d bytes", r->path, MAX_KEY);
        name = tsr__format("%s%s%.*s", prefix, *prefix ? "." : "", (int)key->u.bytes.length, key->u.bytes.text);
        if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        if (item->kind == TSR__PICKLE_DICT) {
            TSR_TRY(collect(r, item, name, depth + 1, err));
            free(name);
        } else {
            TSR_TRY(add_found(r, name, item, err)); /* owns the name now */
        }
        name = NULL;
    }
done:
    free(name);
    return status;
}

/* Textual inversions are also saved as a tensor alone, or as a list of tensors or dicts: "tensor", "list.00000", ... */
static tsr_status collect_root(reader *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *name = NULL;
    if (r->root->kind == TSR__PICKLE_DICT) return collect(r, choose_dict(r->root), "", 0, err);
    const int alone = r->root->kind == TSR__PICKLE_TENSOR;
    const size_t count = alone ? 1 : r->root->kind == TSR__PICKLE_LIST ? r->root->u.items.count : 0;
    if (count > MAX_VISITS) TSR_FAIL(err, TSR_TOO_LARGE, "%s: a list of more than %zu entries", r->path, MAX_VISITS);
    for (size_t i = 0; i < count; i++) {
        const tsr__pickle_value *item = alone ? r->root : r->root->u.items.at[i];
        if (item->kind != TSR__PICKLE_TENSOR && item->kind != TSR__PICKLE_DICT) continue;
        name = alone ? tsr__strdup("tensor") : tsr__format("list.%05zu", i);
        if (!name) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        if (item->kind == TSR__PICKLE_DICT) {
            TSR_TRY(collect(r, item, name, 0, err));
            free(name);
        } else {
            TSR_TRY(add_found(r, name, item, err)); /* owns the name now */
        }
        name = NULL;
    }
    if (!r->found_count)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: holds no state dict; a file of weights is needed", r->path);
done:
    free(name);
    return status;
}

/* --- placing them --- */

/* The storage's bytes, at least as many as its pickle claims. */
static tsr_status find_storage(const reader *r, const named_tensor *tensor, const unsigned char **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__pickle_value *storage = tensor->tensor->u.tensor.storage;
    const char *key = storage->u.storage.key;
    const size_t length = storage->u.storage.key_length, element = tsr__dtype_size(storage->u.storage.dtype);
    uint64_t room = 0; /* elements */
    *out = NULL;
    if (length > MAX_KEY) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: the name of a storage is too long", r->path);
    if (r->is_zip) {
        size_t bytes = 0;
        TSR_TRY(find_member(r, out, &bytes, "data/", key, length, err));
        room = bytes / element;
    } else {
        const old_storage *old = find_old_storage(r, key, length);
        *out = old ? old->data : NULL;
        room = old ? old->count : 0;
    }
    if (!*out) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": its data is not in the file", r->path, tensor->name);
    if ((uint64_t)storage->u.storage.count > room)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%s\": its storage has %llu elements, not %lld", r->path,
                 tensor->name, (unsigned long long)room, (long long)storage->u.storage.count);
done:
    return status;
}

static int64_t extent(const tsr__pickle_value *tuple, int axis) {
    return tuple->u.items.at[axis]->u.integer;
}

/* Fills shape and count, checks that every element lies in the storage, tells whether they are dense in C order. */
static tsr_status read_layout(tsr__tensor_view *view, int *dense, const reader *r, const tsr__pickle_value *tensor,
                              tsr_error *err) {
    const uint64_t room = (uint64_t)tensor->u.tensor.storage->u.storage.count;
    uint64_t count = 1, last = (uint64_t)tensor->u.tensor.offset, step = 1;
    int empty = 0;
    view->rank = tensor->u.tensor.rank;
    for (int i = 0; i < view->rank; i++) {
        view->shape[i] = extent(tensor->u.tensor.shape, i);
        empty |= view->shape[i] == 0;
    }
    *dense = 1;
    view->count = 0;
    if (empty) return TSR_OK;
    for (int i = view->rank - 1; i >= 0; i--) {
        const uint64_t size = (uint64_t)view->shape[i], stride = (uint64_t)extent(tensor->u.tensor.strides, i);
        if (size > room / count)
            return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" is larger than its storage", r->path, view->name);
        if (size > 1 && stride != step) *dense = 0;
        if (stride > 0 && size - 1 > room / stride) last = room;
        else last += (size - 1) * stride;
        if (last >= room) break;
        count *= size;
        step *= size;
    }
    if (last >= room)
        return tsr__fail(err, TSR_BAD_FORMAT, "%s: tensor \"%s\" reaches outside its storage", r->path, view->name);
    view->count = (size_t)count;
    return TSR_OK;
}

static tsr_status make_view(tsr__tensor_view *view, int *dense, const reader *r, const named_tensor *tensor,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const unsigned char *data;
    view->name = tensor->name;
    view->dtype = tensor->tensor->u.tensor.storage->u.storage.dtype;
    TSR_TRY(find_storage(r, tensor, &data, err));
    TSR_TRY(read_layout(view, dense, r, tensor->tensor, err));
    view->data = view->count ? data + (size_t)tensor->tensor->u.tensor.offset * tsr__dtype_size(view->dtype) : data;
done:
    return status;
}

/* Writes the elements in C order. */
static void copy_dense(unsigned char *out, const tsr__tensor_view *view, const tsr__pickle_value *tensor) {
    const size_t element = tsr__dtype_size(view->dtype);
    int64_t index[TSR__PICKLE_MAX_RANK] = { 0 };
    for (size_t i = 0; i < view->count; i++) {
        int64_t at = 0;
        for (int axis = 0; axis < view->rank; axis++) at += index[axis] * extent(tensor->u.tensor.strides, axis);
        memcpy(out + i * element, (const unsigned char *)view->data + (size_t)at * element, element);
        for (int axis = view->rank - 1; axis >= 0 && ++index[axis] == view->shape[axis]; axis--) index[axis] = 0;
    }
}

/* Bytes the names and copies need; copies may not be more than the file, or one storage could be unfolded endlessly. */
static tsr_status measure(const reader *r, const tsr__tensor_view *views, const unsigned char *dense, size_t *out,
                          tsr_error *err) {
    size_t names = 0, copies = 0;
    for (size_t i = 0; i < r->found_count; i++) {
        names += strlen(r->found[i].name) + 1;
        if (dense[i]) continue;
        copies += views[i].count * tsr__dtype_size(views[i].dtype);
        if (copies > r->size)
            return tsr__fail(err, TSR_TOO_LARGE, "%s: its tensors repeat their storages too often", r->path);
    }
    *out = names + copies;
    return TSR_OK;
}

/* Gives weights its views; r->found stays the caller's. */
static tsr_status place(tsr__weights *weights, const reader *r, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor_view *views = NULL;
    unsigned char *dense = NULL, *storage = NULL, *at;
    size_t bytes = 0;
    TSR_ALLOC_ZERO(err, views, r->found_count + 1);
    TSR_ALLOC_ZERO(err, dense, r->found_count + 1);
    for (size_t i = 0; i < r->found_count; i++) {
        int is_dense;
        TSR_TRY(make_view(&views[i], &is_dense, r, &r->found[i], err));
        dense[i] = (unsigned char)is_dense;
    }
    TSR_TRY(measure(r, views, dense, &bytes, err));
    TSR_ALLOC(err, storage, bytes + 1);
    at = storage;
    for (size_t i = 0; i < r->found_count; i++) {
        size_t length = strlen(r->found[i].name) + 1;
        memcpy(at, r->found[i].name, length);
        views[i].name = (const char *)at;
        at += length;
        if (dense[i]) continue;
        copy_dense(at, &views[i], r->found[i].tensor);
        views[i].data = at;
        at += views[i].count * tsr__dtype_size(views[i].dtype);
    }
    status = tsr__weights_take_views(weights, views, r->found_count, storage, err);
    views = NULL;
    storage = NULL;
done:
    free(views);
    free(dense);
    free(storage);
    return status;
}

/* --- opening --- */

static tsr_status read_torch(tsr__weights *weights, int is_zip, tsr_error *err) {
    tsr_status status = TSR_OK;
    reader r = { .path = tsr__weights_path(weights) };
    r.data = tsr__weights_bytes(weights, &r.size);
    TSR_TRY(tsr__pickle_new(&r.pickle, r.path, err));
    TSR_TRY(is_zip ? open_zip(&r, err) : open_old(&r, err));
    TSR_TRY(collect_root(&r, err));
    TSR_TRY(place(weights, &r, err));
done:
    for (size_t i = 0; i < r.found_count; i++) free(r.found[i].name);
    free(r.found);
    free(r.storages);
    tsr__zip_close(&r.zip);
    tsr__pickle_free(r.pickle);
    return status;
}

/* Everything that is neither GGUF nor a PyTorch format goes to the safetensors reader, which also names what else a file may be. */
static tsr_status read_any(tsr__weights *weights, tsr_error *err) {
    size_t size;
    const unsigned char *data = tsr__weights_bytes(weights, &size);
    if (!tsr__weights_looks_safetensors(weights)) {
        if (tsr__gguf_looks(data, size)) return tsr__gguf_read(weights, err);
        if (size >= 4 && memcmp(data, "PK\x03\x04", 4) == 0) return read_torch(weights, 1, err);
        if (size >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5) return read_torch(weights, 0, err);
    }
    return tsr__weights_index(weights, err);
}

tsr_status tsr__weights_open_any(tsr__weights **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    *out = NULL;
    TSR_TRY(tsr__weights_map(&weights, path, err));
    TSR_TRY(read_any(weights, err));
    *out = weights;
    weights = NULL;
done:
    tsr__weights_close(weights);
    return status;
}

tsr_status tsr__weights_open_any_memory(tsr__weights **out, const void *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    *out = NULL;
    TSR_TRY(tsr__weights_wrap(&weights, data, size, err));
    TSR_TRY(read_any(weights, err));
    *out = weights;
    weights = NULL;
done:
    tsr__weights_close(weights);
    return status;
}
