/* weights/control_open.c - see control_open.h. */
#include "weights/control_open.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "core/text.h"
#include "weights/checkpoint_kind.h"
#include "weights/diffusers_names.h"
#include "weights/lora_layer.h"
#include "weights/packed_file.h"
#include "weights/pth.h"
#include "weights/weights_union.h"

#define UNET_PREFIX    "model.diffusion_model."
#define CONTROL_PREFIX "control_model."
#define STEM           "diffusion_pytorch_model"

static const size_t MAX_CONFIG_BYTES = (size_t)1 << 20;

/* --- where it lies ------------------------------------------------------------------------------------------------------ */
static int is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

tsr_status tsr__control_path(char **out, const char *path, tsr_error *err) {
    static const char *const endings[] = { ".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin" };
    struct stat info;
    if (!is_folder(path)) {
        *out = tsr__strdup(path);
        return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        *out = tsr__format("%s/" STEM "%s", path, endings[i]);
        if (!*out) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        if (stat(*out, &info) == 0) return TSR_OK;
        free(*out);
        *out = NULL;
    }
    return tsr__fail(err, TSR_NOT_FOUND, "%s: a folder without " STEM ".safetensors or .bin", path);
}

/* --- what config.json says ---------------------------------------------------------------------------------------------- */
/* The folder's config.json where the file is named as diffusers does; *out NULL and OK without one. */
static tsr_status read_config(json_t **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *config = NULL;
    void *text = NULL;
    size_t size = 0;
    json_error_t problem;
    tsr_error inner = TSR_ERROR_INIT;
    *out = NULL;
    if (strncmp(name, STEM, strlen(STEM)) != 0) return TSR_OK;
    config = tsr__format("%.*sconfig.json", (int)(name - path), path);
    if (!config) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    tsr_status reading = tsr__read_file(&text, &size, config, MAX_CONFIG_BYTES, &inner);
    if (reading == TSR_NOT_FOUND) goto done;
    if (reading != TSR_OK) TSR_FAIL(err, reading, "%s", inner.message);
    *out = json_loadb(text, size, 0, &problem);
    if (!*out) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: line %d: %s", config, problem.line, problem.text);
done:
    free(text);
    free(config);
    return status;
}

/* tessera.config of the file, else of config.json: diffusers' "attention_head_dim" is, for these networks, the number of heads;
 * lists of them are what the widths say anyway. */
static tsr_status set_config(tsr__union *all, const tsr__weights *file, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *given = tsr__weights_metadata(file, "tessera.config");
    json_t *config = given ? json_loads(given, 0, NULL) : json_object(), *json = NULL;
    if (!json_is_object(config)) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tessera.config is not a JSON object", path);
    TSR_TRY(read_config(&json, path, err));
    const json_t *heads = json_object_get(json, "attention_head_dim");
    if (json_is_integer(heads) && json_integer_value(heads) > 0 && json_integer_value(heads) <= 1024 &&
        !json_object_get(config, "unet_heads"))
        (void)json_object_set_new(config, "unet_heads", json_integer(json_integer_value(heads)));
    if (json_is_true(json_object_get(json, "global_pool_conditions")))
        (void)json_object_set_new(config, "control_averages", json_true());
    if (json_object_size(config)) TSR_TRY(tsr__union_set_config(all, config, err));
done:
    json_decref(json);
    json_decref(config);
    return status;
}

int tsr__control_averages(const tsr__weights *weights, const char *path) {
    const char *given = tsr__weights_metadata(weights, "tessera.config"), *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    const size_t length = dot ? (size_t)(dot - name) : strlen(name);
    json_t *config = given ? json_loads(given, 0, NULL) : NULL;
    const int told = json_is_true(json_object_get(config, "control_averages"));
    json_decref(config);
    return told || tsr__ends_with(name, length, "_shuffle") || tsr__ends_with(name, length, "_shuffle_fp16");
}

/* --- other names -------------------------------------------------------------------------------------------------------- */
typedef enum layout { AS_IT_IS, CONTROL_NET, ADAPTER, ADAPTER_LIGHT } layout;

static layout find_layout(const tsr__weights *file) {
    if (tsr__weights_find(file, "controlnet_cond_embedding.conv_in.weight")) return CONTROL_NET;
    if (!tsr__weights_find(file, "adapter.body.0.resnets.0.block1.weight")) return AS_IT_IS;
    return tsr__weights_find(file, "adapter.body.0.out_conv.weight") ? ADAPTER_LIGHT : ADAPTER;
}

static tsr_status add_renamed(tsr__union *all, const tsr__weights *file, layout which, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__diffusers_shape shape = { 0 };
    char name[TSR__NAME_SIZE];
    for (size_t i = 0; i < tsr__weights_count(file); i++) tsr__diffusers_look(&shape, tsr__weights_at(file, i)->name);
    for (size_t i = 0; i < tsr__weights_count(file); i++) {
        const tsr__tensor_view *view = tsr__weights_at(file, i);
        if (strcmp(view->name, "scaled_fp8") == 0) continue; /* a mark; the scales stand with the views */
        if (!(which == CONTROL_NET ? tsr__diffusers_control_name(name, view->name, &shape)
                                   : tsr__diffusers_adapter_name(name, view->name, which == ADAPTER_LIGHT)))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: tensor \"%.200s\": %s of SD1, SD2 and SDXL have no such layer",
                     tsr__weights_path(file), view->name, which == CONTROL_NET ? "ControlNets" : "T2I-Adapters");
        TSR_TRY(tsr__union_add(all, name, view, err));
    }
done:
    return status;
}

/* --- differences from the model ------------------------------------------------------------------------------------------ */
static int is_encoder(const char *name) {
    static const char *const starts[] = { "input_blocks.", "middle_block.", "time_embed.", "label_emb." };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0) return 1;
    return 0;
}

static tsr_status fail_shape(const tsr__weights *file, const char *name, tsr_error *err) {
    return tsr__fail(err, TSR_UNSUPPORTED,
                     "%s: %s does not fit the model's layer: this is a difference from a model of another family",
                     tsr__weights_path(file), name);
}

/* The model's tensor plus up down. */
static tsr_status add_low_rank(tsr__union *all, const char *name, const tsr__tensor_view *view,
                               const tsr__weights *file, const tsr__tensor_view *up, const tsr__tensor_view *down,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    float *values = NULL;
    tsr__lora_layer layer = { .name = name, .name_length = strlen(name) };
    const size_t rows = view->rank && view->shape[0] ? (size_t)view->shape[0] : 1;
    layer.parts[TSR__LORA_UP] = up;
    layer.parts[TSR__LORA_DOWN] = down;
    TSR_TRY(tsr__union_floats(&values, all, name, view, err));
    TSR_TRY(tsr__tensor_to_f32(view, values, err));
    if (tsr__lora_layer_add(&layer, rows, view->count / rows, 1.0f, values, NULL) != TSR_OK)
        TSR_TRY(fail_shape(file, up->name, err));
done:
    return status;
}

/* Part `end` of the layer that a weight belongs to: "up" of "input_blocks.0.0.weight". */
static const tsr__tensor_view *find_factor(const tsr__weights *file, const char *name, const char *end) {
    char factor[TSR__NAME_SIZE];
    if (!tsr__ends_with(name, strlen(name), ".weight")) return NULL;
    (void)snprintf(factor, sizeof factor, "%.*s%s", (int)(strlen(name) - strlen("weight")), name, end);
    return tsr__weights_find(file, factor);
}

/* Stability's control-LoRA: the model's encoder, changed where the file has factors, replaced where it has the tensor itself;
 * the rest of the file is what the model does not have. */
static tsr_status add_control_lora(tsr__union *all, const tsr__weights *file, const tsr__weights *base,
                                   tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(UNET_PREFIX);
    size_t used = 0, factors = 0;
    for (size_t i = 0; i < tsr__weights_count(base); i++) {
        const tsr__tensor_view *view = tsr__weights_at(base, i);
        if (strncmp(view->name, UNET_PREFIX, length) != 0 || !is_encoder(view->name + length)) continue;
        const char *name = view->name + length;
        if (tsr__weights_find(file, name)) continue;
        const tsr__tensor_view *up = find_factor(file, name, "up"), *down = find_factor(file, name, "down");
        if (!up || !down) {
            TSR_TRY(tsr__union_add(all, name, view, err));
            continue;
        }
        TSR_TRY(add_low_rank(all, name, view, file, up, down, err));
        used += 2;
    }
    for (size_t i = 0; i < tsr__weights_count(file); i++) {
        const tsr__tensor_view *view = tsr__weights_at(file, i);
        const size_t size = strlen(view->name);
        if (tsr__ends_with(view->name, size, ".up") || tsr__ends_with(view->name, size, ".down")) factors++;
        else if (strcmp(view->name, "lora_controlnet") != 0) TSR_TRY(tsr__union_add(all, view->name, view, err));
    }
    if (used != factors)
        TSR_FAIL(err, TSR_UNSUPPORTED,
                 "%s: %zu of its %zu factors have no layer in the model: this is a control-LoRA for another family",
                 tsr__weights_path(file), factors - used, factors);
done:
    return status;
}

/* Every tensor that the model has too is the difference from it. */
static tsr_status add_difference(tsr__union *all, const tsr__weights *file, const tsr__weights *base, tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(CONTROL_PREFIX);
    float *room = NULL;
    for (size_t i = 0; i < tsr__weights_count(file); i++) {
        const tsr__tensor_view *view = tsr__weights_at(file, i), *own = NULL;
        char name[2 * TSR__NAME_SIZE];
        float *values = NULL;
        if (strncmp(view->name, CONTROL_PREFIX, length) != 0) continue;
        (void)snprintf(name, sizeof name, UNET_PREFIX "%s", view->name + length);
        own = tsr__weights_find(base, name);
        if (!own) {
            TSR_TRY(tsr__union_add(all, view->name, view, err));
            continue;
        }
        if (own->count != view->count) TSR_TRY(fail_shape(file, view->name, err));
        TSR_TRY(tsr__union_floats(&values, all, view->name, view, err));
        TSR_ALLOC(err, room, view->count + 1);
        TSR_TRY(tsr__tensor_to_f32(view, values, err));
        TSR_TRY(tsr__tensor_to_f32(own, room, err));
        for (size_t k = 0; k < view->count; k++) values[k] += room[k];
        free(room);
        room = NULL;
    }
done:
    free(room);
    return status;
}

int tsr__control_is_difference(const tsr__weights *file) {
    return tsr__weights_find(file, "lora_controlnet") || tsr__weights_find(file, "difference");
}

size_t tsr__control_values(const tsr__weights *file, const tsr__weights *base) {
    const size_t length = strlen(UNET_PREFIX);
    size_t values = 0;
    for (size_t i = 0; i < tsr__weights_count(file); i++) values += tsr__weights_at(file, i)->count;
    if (!tsr__weights_find(file, "lora_controlnet")) return values;
    for (size_t i = 0; i < tsr__weights_count(base); i++) {
        const tsr__tensor_view *view = tsr__weights_at(base, i);
        if (strncmp(view->name, UNET_PREFIX, length) == 0 && is_encoder(view->name + length)) values += view->count;
    }
    return values;
}

/* --- opening -------------------------------------------------------------------------------------------------------------- */
tsr_status tsr__control_open(tsr__weights **out, const char *path, const tsr__weights *base, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *file = NULL;
    tsr__union *all = NULL;
    char *whole = NULL;
    tsr__checkpoint_info info;
    *out = NULL;
    TSR_TRY(tsr__control_path(&whole, path, err));
    TSR_TRY(tsr__weights_open_any(&file, whole, err));
    tsr__checkpoint_describe(&info, file);
    const int is_lora = info.kind == TSR_CHECKPOINT_CONTROL_LORA,
              is_difference = info.kind == TSR_CHECKPOINT_CONTROL_DIFFERENCE;
    const layout which = find_layout(file);
    if (which == AS_IT_IS && (!base || (!is_lora && !is_difference))) {
        *out = file;
        file = NULL;
        goto done;
    }
    if (which == AS_IT_IS && tsr__packed_info_of(base))
        TSR_FAIL(err, TSR_UNSUPPORTED,
                 "%s: a difference from the model, whose numbers a packed cache does not keep: give the checkpoint "
                 "itself",
                 whole);
    tsr__weights *source = file;
    TSR_TRY(tsr__union_new(&all, whole, err));
    file = NULL; /* the union's, also after a failure */
    TSR_TRY(tsr__union_own(all, source, err));
    if (which != AS_IT_IS) TSR_TRY(add_renamed(all, source, which, err));
    else if (is_lora) TSR_TRY(add_control_lora(all, source, base, err));
    else TSR_TRY(add_difference(all, source, base, err));
    TSR_TRY(set_config(all, which == AS_IT_IS ? base : source, whole, err));
    status = tsr__union_finish(out, all, err);
    all = NULL;
done:
    tsr__union_free(all);
    tsr__weights_close(file);
    free(whole);
    return status;
}
