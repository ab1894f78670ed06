/* engine/engine_inspect_json.c - what a file contains, told to programs: one JSON object. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "engine/file_facts.h"
#include "weights/packed_file.h"

/* Texts of files are not always UTF-8: what is none is left out. */
static void set_text(json_t *to, const char *key, const char *text) {
    json_t *value = text ? json_string(text) : NULL;
    if (value) json_object_set_new(to, key, value);
}

static void set_number(json_t *to, const char *key, long long number) {
    if (number) json_object_set_new(to, key, json_integer(number));
}

static json_t *types_json(const tsr__file_facts *facts) {
    json_t *types = json_object();
    for (int i = 0; i < TSR_DTYPE_COUNT_; i++)
        if (facts->info.dtypes[i])
            json_object_set_new(types, tsr__dtype_name((tsr__dtype)i),
                                json_pack("{s:I, s:I}", "tensors", (json_int_t)facts->info.dtypes[i], "bytes",
                                          (json_int_t)facts->bytes[i]));
    return types;
}

static json_t *parts_json(const tsr__checkpoint_info *info) {
    json_t *parts = json_object();
    for (int i = 0; i < TSR_PART_COUNT_; i++)
        if (info->parts[i].tensors)
            json_object_set_new(parts, tsr__checkpoint_part_name((tsr__checkpoint_part)i),
                                json_pack("{s:I, s:I}", "tensors", (json_int_t)info->parts[i].tensors, "parameters",
                                          (json_int_t)info->parts[i].parameters));
    return parts;
}

static json_t *unet_json(const tsr__file_facts *facts) {
    json_t *unet = json_object();
    set_number(unet, "channels", facts->info.unet_channels);
    set_number(unet, "in_channels", facts->info.unet_in_channels);
    set_number(unet, "context_width", facts->info.context_width);
    if (!facts->has_network) return unet;
    set_text(unet, "predicts", facts->prediction == TSR_PREDICTION_V ? "v" : "eps");
    json_object_set_new(unet, "zero_snr", json_boolean(facts->zero_snr));
    return unet;
}

static json_t *adapter_json(const tsr__file_facts *facts) {
    return json_pack("{s:I, s:I, s:I, s:I}", "layers", (json_int_t)facts->adapter.layers, "lowest_rank",
                     (json_int_t)facts->adapter.lowest, "highest_rank", (json_int_t)facts->adapter.highest, "dora",
                     (json_int_t)facts->adapter.dora);
}

static json_t *packed_json(const tsr__packed_info *info) {
    json_t *packed = json_object();
    set_number(packed, "version", info->version);
    set_number(packed, "threads", info->threads);
    set_text(packed, "library", info->library);
    set_text(packed, "isa", info->isa);
    set_text(packed, "precision", info->precision);
    return packed;
}

static json_t *shape_json(const tsr__tensor_view *view) {
    json_t *shape = json_array();
    for (int i = 0; i < view->rank; i++) json_array_append_new(shape, json_integer((json_int_t)view->shape[i]));
    return shape;
}

static tsr_status set_metadata(json_t *to, const tsr__weights *weights, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char **pairs = NULL;
    json_t *metadata = json_object();
    TSR_TRY(tsr__weights_all_metadata(&pairs, weights, err));
    for (size_t i = 0; pairs[i]; i += 2) set_text(metadata, pairs[i], pairs[i + 1]);
    json_object_set(to, "metadata", metadata);
done:
    json_decref(metadata);
    free(pairs);
    return status;
}

/* Takes object. */
static tsr_status dump(char **out, json_t *object, tsr_error *err) {
    *out = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

tsr_status tsr__inspect_weights_json(char **out, const tsr__file_facts *facts, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__checkpoint_info *info = &facts->info;
    const tsr__packed_info *packed = tsr__packed_info_of(facts->weights);
    const tsr__tensor_view *latent = tsr__weights_find(facts->weights, "latent_tensor");
    json_t *object = json_object();
    size_t bytes = 0;
    *out = NULL;
    for (int i = 0; i < TSR_DTYPE_COUNT_; i++) bytes += facts->bytes[i];
    set_text(object, "file", facts->path);
    set_text(object, "kind", tsr__checkpoint_kind_word(info->kind));
    set_text(object, "family", facts->family);
    set_text(object, "layout", facts->layout);
    set_text(object, "container", facts->container);
    json_object_set_new(object, "tensors", json_integer((json_int_t)info->tensors));
    json_object_set_new(object, "parameters", json_integer((json_int_t)info->parameters));
    json_object_set_new(object, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(object, "parts", parts_json(info));
    json_object_set_new(object, "types", types_json(facts));
    if (info->unet_channels) json_object_set_new(object, "unet", unet_json(facts));
    set_number(object, "latent_channels", info->vae_channels);
    set_number(object, "vectors", facts->vectors);
    if (info->kind == TSR_CHECKPOINT_LORA) json_object_set_new(object, "adapter", adapter_json(facts));
    if (packed) json_object_set_new(object, "packed", packed_json(packed));
    if (latent) json_object_set_new(object, "latent", shape_json(latent));
    if (*info->missing && info->kind != TSR_CHECKPOINT_UNKNOWN && info->kind <= TSR_CHECKPOINT_SDXL)
        set_text(object, "missing", info->missing);
    TSR_TRY(set_metadata(object, facts->weights, err));
    status = dump(out, object, err);
    object = NULL;
done:
    json_decref(object);
    return status;
}

tsr_status tsr__inspect_picture_json(char **out, const char *path, const tsr_image *image, const char *scene,
                                     tsr_error *err) {
    json_t *object = json_object(), *texts = json_object();
    set_text(object, "file", path);
    set_text(object, "kind", "picture");
    json_object_set_new(object, "width", json_integer(image->width));
    json_object_set_new(object, "height", json_integer(image->height));
    json_object_set_new(object, "alpha", json_boolean(image->channels == 4));
    for (int i = 0; i < image->text_count; i++)
        if (strcmp(image->texts[i].key, "tessera") != 0) set_text(texts, image->texts[i].key, image->texts[i].text);
    json_object_set_new(object, "texts", texts);
    json_t *parsed = scene ? json_loads(scene, 0, NULL) : NULL;
    if (parsed) json_object_set_new(object, "scene", parsed);
    return dump(out, object, err);
}
