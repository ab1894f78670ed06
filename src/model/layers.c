/* model/layers.c - weights found by name, norms, the residual block. */
#include "model/layers.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "weights/packed_file.h"

#define MAX_SIDE 65536

const tsr__res_names tsr__res_names_unet = { "in_layers.0", "in_layers.2", "out_layers.0", "out_layers.3",
                                             "skip_connection" };
const tsr__res_names tsr__res_names_vae = { "norm1", "conv1", "norm2", "conv2", "nin_shortcut" };

tsr__name tsr__name_of(const char *format, ...) {
    tsr__name name;
    va_list args;
    va_start(args, format);
    vsnprintf(name.text, sizeof name.text, format, args);
    va_end(args);
    return name;
}

/* --- finding tensors ------------------------------------------------------------------------------------------------ */

static const char *path_of(const tsr__loader *loader) {
    const char *path = tsr__weights_path(loader->weights);
    return path ? path : "weights";
}

tsr_status tsr__loader_init(tsr__loader *loader, tsr__nn *nn, const tsr__weights *weights, const char *prefix,
                            const char *layout, tsr_error *err) {
    size_t length = strlen(prefix);
    memset(loader, 0, sizeof *loader);
    if (length && prefix[length - 1] == '.') length--;
    if (length >= sizeof loader->prefix)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "prefix of %zu bytes: at most %zu", length, sizeof loader->prefix - 1);
    memcpy(loader->prefix, prefix, length);
    loader->nn = nn;
    loader->weights = weights;
    loader->layout = layout;
    return TSR_OK;
}

static tsr__name full_name(const tsr__loader *loader, const char *name) {
    return loader->prefix[0] ? tsr__name_of("%s.%s", loader->prefix, name) : tsr__name_of("%s", name);
}

const tsr__tensor_view *tsr__load_find(const tsr__loader *loader, const char *name) {
    return tsr__weights_find(loader->weights, full_name(loader, name).text);
}

int tsr__load_has(const tsr__loader *loader, const char *format, ...) {
    tsr__name name;
    va_list args;
    va_start(args, format);
    vsnprintf(name.text, sizeof name.text, format, args);
    va_end(args);
    return tsr__load_find(loader, name.text) != NULL;
}

/* "[320, 4, 3, 3]" */
static tsr__name shape_text(int rank, const int64_t *shape) {
    tsr__name out = tsr__name_of("[");
    for (int i = 0; i < rank; i++) {
        size_t used = strlen(out.text);
        snprintf(out.text + used, sizeof out.text - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    }
    strncat(out.text, "]", sizeof out.text - strlen(out.text) - 1);
    return out;
}

tsr_status tsr__load_need(const tsr__loader *loader, const tsr__tensor_view **out, const char *name, int rank,
                          tsr_error *err) {
    const tsr__tensor_view *view = tsr__load_find(loader, name);
    *out = NULL;
    if (!view)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: missing tensor %s: not %s", path_of(loader),
                         full_name(loader, name).text, loader->layout);
    if (view->rank != rank)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: tensor %s has shape %s, expected %d dimensions", path_of(loader),
                         full_name(loader, name).text, shape_text(view->rank, view->shape).text, rank);
    for (int i = 0; i < rank; i++)
        if (view->shape[i] < 1 || view->shape[i] > MAX_SIDE)
            return tsr__fail(err, TSR_UNSUPPORTED, "%s: tensor %s has shape %s: sides must be 1 to %d", path_of(loader),
                             full_name(loader, name).text, shape_text(rank, view->shape).text, MAX_SIDE);
    *out = view;
    return TSR_OK;
}

tsr_status tsr__load_shaped(const tsr__loader *loader, const tsr__tensor_view **out, const char *name, int rank,
                            const int64_t *shape, tsr_error *err) {
    const tsr__tensor_view *view = NULL;
    tsr_status status = tsr__load_need(loader, &view, name, rank, err);
    *out = NULL;
    if (status != TSR_OK) return status;
    if (memcmp(view->shape, shape, (size_t)rank * sizeof *shape) != 0)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: tensor %s has shape %s, expected %s", path_of(loader),
                         full_name(loader, name).text, shape_text(rank, view->shape).text,
                         shape_text(rank, shape).text);
    *out = view;
    return TSR_OK;
}

tsr_status tsr__load_sides(const tsr__loader *loader, int *out_features, int *in_features, const char *name, int rank,
                           tsr_error *err) {
    const tsr__tensor_view *view = NULL;
    tsr_status status = tsr__load_need(loader, &view, tsr__name_of("%s.weight", name).text, rank, err);
    if (status != TSR_OK) return status;
    *out_features = (int)view->shape[0];
    *in_features = (int)view->shape[1];
    return TSR_OK;
}

/* --- loading -------------------------------------------------------------------------------------------------------- */

/* Views one after another, read as float32. The pages of the file are given back as soon as a view is read, so that a
 * big file does not stay resident beside the packed weights. */
typedef struct source {
    const tsr__weights *weights;
    const tsr__tensor_view **views;
    int count, at;
    size_t offset;
} source;

static tsr_status read_source(void *user, float *dst, size_t count, tsr_error *err) {
    source *from = user;
    while (count) {
        if (from->at == from->count)
            return tsr__fail(err, TSR_BACKEND, "a weight was read beyond its end (%zu scalars)", count);
        const tsr__tensor_view *view = from->views[from->at];
        const size_t left = view->count - from->offset, part = left < count ? left : count;
        tsr_status status = tsr__tensor_part_to_f32(view, from->offset, part, dst, err);
        if (status != TSR_OK) return status;
        dst += part;
        count -= part;
        from->offset += part;
        if (from->offset == view->count) {
            tsr__weights_release_pages(from->weights, view);
            from->offset = 0;
            from->at++;
        }
    }
    return TSR_OK;
}

/* Converts views[0..count) into dst, which has room for all of them. */
static tsr_status read_views(tsr__loader *loader, float *dst, const tsr__tensor_view **views, int count,
                             tsr_error *err) {
    source from = { loader->weights, views, count, 0, 0 };
    size_t total = 0;
    for (int i = 0; i < count; i++) total += views[i]->count;
    loader->parameters += (int64_t)total;
    return read_source(&from, dst, total, err);
}

tsr_status tsr__load_packed(const tsr__loader *loader, tsr__nn_weight **out, const tsr__nn_shape *shape,
                            const tsr__tensor_view *first, const float *bias, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__packed_weight *from = tsr__packed_find(loader->weights, first->name);
    tsr_error inner = TSR_ERROR_INIT;
    char *remedy = NULL;
    *out = NULL;
    if (!from) return TSR_OK;
    tsr__nn_packed packed = { .data = from->data,
                              .size = from->size,
                              .threads = tsr__packed_info_of(loader->weights)->threads };
    snprintf(packed.layout, sizeof packed.layout, "%s", from->layout);
    status = tsr__nn_weight_from_packed(loader->nn, out, shape, &packed, bias, &inner);
    if (status == TSR_OK) return status;
    remedy = tsr__packed_remedy(loader->weights);
    TSR_FAIL(err, status, "%s: packed weight %s: %s; %s", path_of(loader), first->name, inner.message,
             remedy ? remedy : "");
done:
    free(remedy);
    return status;
}

tsr_status tsr__load_log(tsr__loader *loader, const tsr__weight_entry *entry, int parts, const tsr__name *names,
                         const int *rows, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__name *full = NULL;
    const char **texts = NULL;
    if (!loader->log) return TSR_OK;
    TSR_ALLOC(err, full, parts);
    TSR_ALLOC(err, texts, parts);
    for (int i = 0; i < parts; i++) {
        full[i] = full_name(loader, names[i].text);
        texts[i] = full[i].text;
    }
    TSR_TRY(tsr__weight_log_add(loader->log, entry, parts, texts, rows, err));
done:
    free(full);
    free(texts);
    return status;
}

tsr_status tsr__load_vector(tsr__loader *loader, float **out, int count, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = NULL;
    float *values = NULL;
    int64_t side = count;
    *out = NULL;
    TSR_TRY(tsr__load_shaped(loader, &view, name, 1, &side, err));
    TSR_ALLOC(err, values, count);
    TSR_TRY(read_views(loader, values, &view, 1, err));
    *out = values;
    values = NULL;
done:
    free(values);
    return status;
}

/* NAME.end, or NAME_end as torch names the parts of its own attention (in_proj_weight). */
static tsr__name part_of(const tsr__loader *loader, const char *name, const char *end) {
    tsr__name joined = tsr__name_of("%s_%s", name, end);
    return tsr__load_find(loader, joined.text) ? joined : tsr__name_of("%s.%s", name, end);
}

/* name.weight as [out, in], whether the file calls it a linear or a 1x1 convolution. */
static tsr_status linear_view(tsr__loader *loader, const tsr__tensor_view **out, int out_features, int in_features,
                              const char *name, tsr_error *err) {
    tsr__name weight = part_of(loader, name, "weight");
    const tsr__tensor_view *view = tsr__load_find(loader, weight.text);
    const int64_t shape[4] = { out_features, in_features, 1, 1 };
    return tsr__load_shaped(loader, out, weight.text, view && view->rank == 4 ? 4 : 2, shape, err);
}

/* torch's in_proj holds q, k and v, which adapters name one by one: NAME_q, NAME_k, NAME_v. */
static tsr_status log_linear(tsr__loader *loader, const tsr__nn_weight *weight, int count, const tsr__name *names,
                             const int *out_features, int in_features, tsr_error *err) {
    tsr__weight_entry entry = { .weight = weight, .in_c = in_features, .stride = 1 };
    const char *end = strrchr(names[0].text, '.');
    if (count != 1 || !end || strcmp(end, ".in_proj") != 0)
        return tsr__load_log(loader, &entry, count, names, out_features, err);
    tsr__name whole = tsr__name_of("%s_weight", full_name(loader, names[0].text).text);
    entry.whole = whole.text; /* copied */
    const int third = out_features[0] / 3, rows[3] = { third, third, third };
    const tsr__name parts[3] = { tsr__name_of("%s_q", names[0].text), tsr__name_of("%s_k", names[0].text),
                                 tsr__name_of("%s_v", names[0].text) };
    return tsr__load_log(loader, &entry, 3, parts, rows, err);
}

tsr_status tsr__load_stacked(tsr__loader *loader, tsr__nn_weight **out, int count, const tsr__name *names,
                             const int *out_features, int in_features, tsr__bias bias, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view **views = NULL;
    float *biases = NULL;
    int rows = 0;
    *out = NULL;
    TSR_ALLOC_ZERO(err, views, count);
    for (int i = 0; i < count; i++) {
        TSR_TRY(linear_view(loader, &views[i], out_features[i], in_features, names[i].text, err));
        loader->parameters += (int64_t)views[i]->count;
        rows += out_features[i];
    }
    if (bias == TSR__WITH_BIAS) {
        TSR_ALLOC(err, biases, rows);
        for (int i = 0, row = 0; i < count; row += out_features[i], i++) {
            const tsr__tensor_view *view = NULL;
            int64_t side = out_features[i];
            TSR_TRY(tsr__load_shaped(loader, &view, part_of(loader, names[i].text, "bias").text, 1, &side, err));
            TSR_TRY(read_views(loader, biases + row, &view, 1, err));
        }
    }
    source from = { loader->weights, views, count, 0, 0 };
    const tsr__nn_shape shape = { .out_c = rows, .in_c = in_features, .stride = 1 };
    TSR_TRY(tsr__load_packed(loader, out, &shape, views[0], biases, err));
    if (!*out) TSR_TRY(tsr__nn_linear_weight(loader->nn, out, rows, in_features, read_source, &from, biases, err));
    TSR_TRY(log_linear(loader, *out, count, names, out_features, in_features, err));
done:
    free(biases);
    free(views);
    return status;
}

tsr_status tsr__load_linear(tsr__loader *loader, tsr__nn_weight **out, int out_features, int in_features,
                            tsr__bias bias, const char *name, tsr_error *err) {
    tsr__name one = tsr__name_of("%s", name);
    return tsr__load_stacked(loader, out, 1, &one, &out_features, in_features, bias, err);
}

tsr_status tsr__load_conv(tsr__loader *loader, tsr__nn_weight **out, int out_c, int in_c, int k, int stride,
                          int pad_before, int pad_after, const char *name, tsr_error *err) {
    return tsr__load_conv_bias(loader, out, out_c, in_c, k, stride, pad_before, pad_after, TSR__WITH_BIAS, name, err);
}

tsr_status tsr__load_conv_bias(tsr__loader *loader, tsr__nn_weight **out, int out_c, int in_c, int k, int stride,
                               int pad_before, int pad_after, tsr__bias bias, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__tensor_view *view = NULL;
    float *biases = NULL;
    const int64_t shape[4] = { out_c, in_c, k, k };
    *out = NULL;
    TSR_TRY(tsr__load_shaped(loader, &view, tsr__name_of("%s.weight", name).text, 4, shape, err));
    if (bias == TSR__WITH_BIAS)
        TSR_TRY(tsr__load_vector(loader, &biases, out_c, tsr__name_of("%s.bias", name).text, err));
    loader->parameters += (int64_t)view->count;
    source from = { loader->weights, &view, 1, 0, 0 };
    const tsr__nn_shape whole = { out_c, in_c, k, stride, pad_before, pad_after };
    TSR_TRY(tsr__load_packed(loader, out, &whole, view, biases, err));
    if (!*out)
        TSR_TRY(tsr__nn_conv_weight(loader->nn, out, out_c, in_c, k, stride, pad_before, pad_after, read_source, &from,
                                    biases, err));
    tsr__weight_entry entry = {
        .weight = *out, .in_c = in_c, .k = k, .stride = stride, .pad_before = pad_before, .pad_after = pad_after
    };
    tsr__name logged = tsr__name_of("%s", name);
    TSR_TRY(tsr__load_log(loader, &entry, 1, &logged, &out_c, err));
done:
    free(biases);
    return status;
}

tsr_status tsr__config_int(int *out, const char *config, const char *key, int fallback, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_error_t where;
    json_t *root = NULL;
    *out = fallback;
    if (!config) return TSR_OK;
    root = json_loads(config, 0, &where);
    if (!json_is_object(root))
        TSR_FAIL(err, TSR_BAD_FORMAT, "tessera.config is not a JSON object: %s", root ? "another type" : where.text);
    const json_t *value = json_object_get(root, key);
    if (!value) goto done;
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > 1024)
        TSR_FAIL(err, TSR_BAD_FORMAT, "tessera.config: %s must be a whole number from 1 to 1024", key);
    *out = (int)json_integer_value(value);
done:
    json_decref(root);
    return status;
}

/* --- norms ---------------------------------------------------------------------------------------------------------- */

tsr_status tsr__norm_load(tsr__norm *norm, tsr__loader *loader, int channels, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    norm->channels = channels;
    norm->groups = 1;
    TSR_TRY(tsr__load_vector(loader, &norm->gamma, channels, tsr__name_of("%s.weight", name).text, err));
    TSR_TRY(tsr__load_vector(loader, &norm->beta, channels, tsr__name_of("%s.bias", name).text, err));
    const tsr__weight_entry entry = { .gamma = norm->gamma, .beta = norm->beta };
    const tsr__name logged = tsr__name_of("%s", name);
    TSR_TRY(tsr__load_log(loader, &entry, 1, &logged, &channels, err));
done:
    return status;
}

tsr_status tsr__norm_load_group(tsr__norm *norm, tsr__loader *loader, int channels, const char *name, tsr_error *err) {
    tsr_status status = tsr__norm_load(norm, loader, channels, name, err);
    if (status != TSR_OK) return status;
    norm->groups = channels / 4 < 32 ? channels / 4 : 32;
    if (norm->groups < 1 || channels % norm->groups)
        return tsr__fail(err, TSR_UNSUPPORTED, "%s: %s has %d channels, which %d groups do not divide", path_of(loader),
                         full_name(loader, name).text, channels, norm->groups);
    return TSR_OK;
}

void tsr__norm_clear(tsr__norm *norm) {
    free(norm->gamma);
    free(norm->beta);
    memset(norm, 0, sizeof *norm);
}

tsr_status tsr__norm_group(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm *norm, float eps,
                           int silu, tsr_error *err) {
    return tsr__nn_group_norm(nn, out, x, norm->groups, eps, norm->gamma, norm->beta, silu, err);
}

tsr_status tsr__norm_layer(tsr__nn *nn, tsr__tensor *out, const tsr__tensor *x, const tsr__norm *norm, tsr_error *err) {
    return tsr__nn_layer_norm(nn, out, x, 1e-5f, norm->gamma, norm->beta, err);
}

/* --- the residual block --------------------------------------------------------------------------------------------- */

tsr_status tsr__res_load(tsr__res_block *block, tsr__loader *loader, const tsr__res_names *names, const char *name,
                         int in_channels, float eps, tsr_error *err) {
    tsr_status status = TSR_OK;
    int found_in = 0, out_channels = 0;
    tsr__name skip = tsr__name_of("%s.%s", name, names->skip);
    TSR_TRY(tsr__load_sides(loader, &out_channels, &found_in, tsr__name_of("%s.%s", name, names->conv1).text, 4, err));
    block->in_channels = in_channels;
    block->out_channels = out_channels;
    block->eps = eps;
    TSR_TRY(
        tsr__norm_load_group(&block->norm1, loader, in_channels, tsr__name_of("%s.%s", name, names->norm1).text, err));
    TSR_TRY(tsr__load_conv(loader, &block->conv1, out_channels, in_channels, 3, 1, 1, 1,
                           tsr__name_of("%s.%s", name, names->conv1).text, err));
    TSR_TRY(
        tsr__norm_load_group(&block->norm2, loader, out_channels, tsr__name_of("%s.%s", name, names->norm2).text, err));
    TSR_TRY(tsr__load_conv(loader, &block->conv2, out_channels, out_channels, 3, 1, 1, 1,
                           tsr__name_of("%s.%s", name, names->conv2).text, err));
    if (in_channels != out_channels)
        TSR_TRY(tsr__load_linear(loader, &block->skip, out_channels, in_channels, TSR__WITH_BIAS, skip.text, err));
done:
    return status;
}

void tsr__res_clear(tsr__nn *nn, tsr__res_block *block) {
    tsr__norm_clear(&block->norm1);
    tsr__norm_clear(&block->norm2);
    tsr__nn_weight_free(nn, block->conv1);
    tsr__nn_weight_free(nn, block->conv2);
    tsr__nn_weight_free(nn, block->skip);
    memset(block, 0, sizeof *block);
}

tsr_status tsr__res_run(tsr__nn *nn, tsr__tensor *out, tsr__tensor *x, int take, const tsr__res_block *block,
                        const float *add, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__tensor a = { 0 }, b = { 0 }, skip = { 0 };
    memset(out, 0, sizeof *out);
    TSR_TRY(tsr__norm_group(nn, &a, x, &block->norm1, block->eps, 1, err));
    /* The skip first: it is smaller than x where the channels shrink, and x can go. */
    if (block->skip) {
        TSR_TRY(tsr__nn_linear(nn, &skip, x, block->skip, TSR__ACT_NONE, NULL, err));
        if (take) tsr__nn_release(nn, x);
    }
    TSR_TRY(tsr__nn_conv2d(nn, &b, &a, block->conv1, add, NULL, err));
    tsr__nn_release(nn, &a);
    TSR_TRY(tsr__norm_group(nn, &a, &b, &block->norm2, block->eps, 1, err));
    tsr__nn_release(nn, &b);
    TSR_TRY(tsr__nn_conv2d(nn, out, &a, block->conv2, NULL, block->skip ? &skip : x, err));
done:
    tsr__nn_release(nn, &a);
    tsr__nn_release(nn, &b);
    tsr__nn_release(nn, &skip);
    if (take) tsr__nn_release(nn, x);
    return status;
}
