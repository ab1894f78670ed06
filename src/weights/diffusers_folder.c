/* weights/diffusers_folder.c - a diffusers folder as one checkpoint; see model_open.h.
 *
 * The JSON of a folder comes from strangers: sizes are limited, and files are only looked for in the folder's own parts. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "weights/model_open.h"
#include "weights/model_parts.h"
#include "weights/pth.h"
#include "weights/weights_priv.h"

enum { MAX_SHARDS = 256, MAX_SHARD_NAME = 200 };
static const size_t MAX_INDEX_BYTES = (size_t)32 << 20, MAX_CONFIG_BYTES = (size_t)1 << 20;

/* --- JSON --------------------------------------------------------------------------------------------------------------- */
static tsr_status parse(json_t **out, const char *text, size_t size, const char *path, tsr_error *err) {
    json_error_t problem;
    *out = json_loadb(text, size, 0, &problem);
    if (!*out) return tsr__fail(err, TSR_BAD_FORMAT, "%s: line %d: %s", path, problem.line, problem.text);
    if (json_is_object(*out)) return TSR_OK;
    json_decref(*out);
    *out = NULL;
    return tsr__fail(err, TSR_BAD_FORMAT, "%s: not a JSON object", path);
}

/* A file's JSON object; *out NULL and OK when there is no such file. */
static tsr_status load(json_t **out, const char *folder, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    void *text = NULL;
    size_t size = 0;
    tsr_error inner = TSR_ERROR_INIT;
    char *path = tsr__format("%s/%s", folder, name);
    *out = NULL;
    if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    tsr_status reading = tsr__read_file(&text, &size, path, MAX_CONFIG_BYTES, &inner);
    if (reading == TSR_NOT_FOUND) goto done;
    if (reading != TSR_OK) TSR_FAIL(err, reading, "%s", inner.message);
    TSR_TRY(parse(out, text, size, path, err));
done:
    free(text);
    free(path);
    return status;
}

/* ["diffusers", "UNet2DConditionModel"]; [null, null] means that the part is not there. */
static int has_part(const json_t *index, const char *name) {
    return json_is_string(json_array_get(json_object_get(index, name), 0));
}

tsr_status tsr__pipeline_read(tsr__pipeline *out, const char *text, size_t size, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *index = NULL;
    memset(out, 0, sizeof *out);
    TSR_TRY(parse(&index, text, size, path, err));
    const char *class = json_string_value(json_object_get(index, "_class_name"));
    if (!class) TSR_FAIL(err, TSR_BAD_FORMAT, "%s: no \"_class_name\": not a diffusers model", path);
    (void)snprintf(out->name, sizeof out->name, "%s", class);
    out->unet = has_part(index, "unet");
    out->vae = has_part(index, "vae");
    out->text[0] = has_part(index, "text_encoder");
    out->text[1] = has_part(index, "text_encoder_2");
    if (!out->unet)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: this is a %s without a UNet; an SD1, SD2 or SDXL pipeline is needed", path,
                 out->name);
done:
    json_decref(index);
    return status;
}

/* No separators, no hidden files: a name that stays in its folder. */
static int is_plain_name(const char *name) {
    const size_t length = strlen(name);
    if (length == 0 || length > MAX_SHARD_NAME || name[0] == '.') return 0;
    for (const char *at = name; *at; at++)
        if (*at == '/' || *at == '\\' || (unsigned char)*at < 0x20) return 0;
    return 1;
}

void tsr__shards_free(char **files) {
    for (int i = 0; files && files[i]; i++) free(files[i]);
    free(files);
}

tsr_status tsr__shards_read(char ***files_out, const char *text, size_t size, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *index = NULL, *value;
    const char *key;
    char **files = NULL;
    int count = 0;
    *files_out = NULL;
    TSR_TRY(parse(&index, text, size, path, err));
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: no \"weight_map\" with tensors", path);
    TSR_ALLOC_ZERO(err, files, MAX_SHARDS + 1);
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        int known = 0;
        if (!name || !is_plain_name(name))
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tensor \"%.200s\": its file must be a plain name in this folder", path,
                     key);
        for (int i = 0; i < count && !known; i++) known = strcmp(files[i], name) == 0;
        if (known) continue;
        if (count == MAX_SHARDS) TSR_FAIL(err, TSR_TOO_LARGE, "%s: more than %d files", path, MAX_SHARDS);
        files[count] = tsr__strdup(name);
        if (!files[count]) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        count++;
    }
    *files_out = files;
    files = NULL;
done:
    json_decref(index);
    tsr__shards_free(files);
    return status;
}

/* --- a part's files ----------------------------------------------------------------------------------------------------- */
/* All tensors of the shards, each under its own name. */
static tsr_status open_shards(tsr__weights **out, const char *folder, const char *index_path, tsr_error *err) {
    tsr_status status = TSR_OK;
    void *text = NULL;
    size_t size = 0;
    char **files = NULL, *path = NULL;
    tsr__union *all = NULL;
    *out = NULL;
    TSR_TRY(tsr__read_file(&text, &size, index_path, MAX_INDEX_BYTES, err));
    TSR_TRY(tsr__shards_read(&files, text, size, index_path, err));
    TSR_TRY(tsr__union_new(&all, index_path, err));
    for (int i = 0; files[i]; i++) {
        tsr__weights *shard = NULL;
        free(path);
        path = tsr__format("%s/%s", folder, files[i]);
        if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        TSR_TRY(tsr__weights_open_any(&shard, path, err));
        TSR_TRY(tsr__union_own(all, shard, err));
        for (size_t k = 0; k < tsr__weights_count(shard); k++) {
            const tsr__tensor_view *view = tsr__weights_at(shard, k);
            TSR_TRY(tsr__union_add(all, view->name, view, err));
        }
    }
    status = tsr__union_finish(out, all, err);
    all = NULL;
done:
    free(text);
    free(path);
    tsr__shards_free(files);
    tsr__union_free(all);
    return status;
}

/* The first of the names that diffusers writes; both kinds of numbers, shards, and PyTorch's own format last. */
static tsr_status open_part(tsr__weights **out, const char *folder, const char *part, const char *stem,
                            const char *torch_stem, tsr_error *err) {
    const struct {
        const char *stem, *end;
        int is_index;
    } names[] = {
        { stem, ".safetensors", 0 },
        { stem, ".safetensors.index.json", 1 },
        { stem, ".fp16.safetensors", 0 },
        { stem, ".safetensors.index.fp16.json", 1 },
        { stem, ".fp16.safetensors.index.json", 1 },
        { torch_stem, ".bin", 0 },
        { torch_stem, ".bin.index.json", 1 },
        { torch_stem, ".fp16.bin", 0 },
    };
    tsr_status status = TSR_OK;
    char *inner = tsr__format("%s/%s", folder, part), *path = NULL;
    struct stat info;
    *out = NULL;
    if (!inner) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        free(path);
        path = tsr__format("%s/%s%s", inner, names[i].stem, names[i].end);
        if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        if (stat(path, &info) != 0) continue;
        TSR_TRY(names[i].is_index ? open_shards(out, inner, path, err) : tsr__weights_open_any(out, path, err));
        goto done;
    }
    TSR_FAIL(err, TSR_NOT_FOUND, "%s: no %s.safetensors, no index of shards and no %s.bin in it", inner, stem,
             torch_stem);
done:
    free(path);
    free(inner);
    return status;
}

/* --- what the JSON says of the networks -------------------------------------------------------------------------------- */
static tsr_status read_heads(json_t *config, const char *folder, const char *file, const char *from, const char *key,
                             tsr_error *err) {
    json_t *json = NULL;
    tsr_status status = load(&json, folder, file, err);
    const json_t *heads = json_object_get(json, from);
    if (status == TSR_OK && json_is_integer(heads) && json_integer_value(heads) > 0 &&
        json_integer_value(heads) <= 1024)
        (void)json_object_set_new(config, key, json_integer(json_integer_value(heads)));
    json_decref(json);
    return status;
}

static tsr_status read_scheduler(json_t *config, const char *folder, tsr_error *err) {
    json_t *json = NULL;
    tsr_status status = load(&json, folder, "scheduler/scheduler_config.json", err);
    const char *type = json_string_value(json_object_get(json, "prediction_type"));
    if (status == TSR_OK && type && strcmp(type, "epsilon") != 0 && strcmp(type, "v_prediction") != 0)
        status = tsr__fail(err, TSR_UNSUPPORTED,
                           "%s: its network predicts \"%.60s\"; epsilon or v_prediction is needed", folder, type);
    if (status == TSR_OK && type)
        (void)json_object_set_new(config, "prediction", json_string(*type == 'v' ? "v" : "eps"));
    if (json_is_true(json_object_get(json, "rescale_betas_zero_snr")))
        (void)json_object_set_new(config, "zsnr", json_true());
    json_decref(json);
    return status;
}

/* diffusers' "attention_head_dim" of a UNet is, for these families, the number of heads; lists of them are what the widths
 * say anyway. */
static tsr_status make_config(tsr__union *all, const char *folder, const tsr__pipeline *pipeline, tsr_error *err) {
    tsr_status status = TSR_OK;
    json_t *config = json_object();
    TSR_TRY(read_heads(config, folder, "unet/config.json", "attention_head_dim", "unet_heads", err));
    if (pipeline->text[0])
        TSR_TRY(read_heads(config, folder, "text_encoder/config.json", "num_attention_heads", "text_heads", err));
    if (pipeline->text[1])
        TSR_TRY(read_heads(config, folder, "text_encoder_2/config.json", "num_attention_heads", "text2_heads", err));
    TSR_TRY(read_scheduler(config, folder, err));
    TSR_TRY(tsr__union_set_config(all, config, err));
done:
    json_decref(config);
    return status;
}

/* --- the folder --------------------------------------------------------------------------------------------------------- */
int tsr__diffusers_is_model(const char *folder) {
    struct stat info;
    char *path = tsr__format("%s/model_index.json", folder);
    const int found = path && stat(path, &info) == 0;
    free(path);
    return found;
}

static tsr_status read_pipeline(tsr__pipeline *out, const char *folder, tsr_error *err) {
    tsr_status status = TSR_OK;
    void *text = NULL;
    size_t size = 0;
    struct stat info;
    char *path = tsr__format("%s/model_index.json", folder);
    if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (stat(path, &info) != 0 && errno == ENOENT)
        TSR_FAIL(err, TSR_NOT_FOUND, "%s: a folder without model_index.json, which a diffusers model has", folder);
    TSR_TRY(tsr__read_file(&text, &size, path, MAX_CONFIG_BYTES, err));
    TSR_TRY(tsr__pipeline_read(out, text, size, path, err));
done:
    free(text);
    free(path);
    return status;
}

static tsr_status add_part(tsr__weights **out, tsr__union *all, const char *folder, const char *part, const char *stem,
                           const char *torch_stem, tsr_error *err) {
    tsr_status status = open_part(out, folder, part, stem, torch_stem, err);
    if (status == TSR_OK) status = tsr__union_own(all, *out, err);
    return status;
}

tsr_status tsr__diffusers_open(tsr__weights **out, const char *folder, tsr_error *err) {
    static const char *const encoders[2] = { "text_encoder", "text_encoder_2" };
    static const char stem[] = "diffusion_pytorch_model";
    tsr_status status = TSR_OK;
    tsr__union *all = NULL;
    tsr__weights *unet = NULL, *other = NULL;
    tsr__pipeline pipeline;
    tsr__encoders found = { .count = 0 };
    *out = NULL;
    TSR_TRY(read_pipeline(&pipeline, folder, err));
    TSR_TRY(tsr__union_new(&all, folder, err));
    TSR_TRY(make_config(all, folder, &pipeline, err));
    TSR_TRY(add_part(&unet, all, folder, "unet", stem, stem, err));
    TSR_TRY(tsr__parts_add_unet(all, unet, err));
    for (int i = 0; i < 2; i++) {
        if (!pipeline.text[i]) continue;
        TSR_TRY(add_part(&other, all, folder, encoders[i], "model", "pytorch_model", err));
        if (!tsr__parts_find_text(&found, other))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: holds no CLIP text encoder", tsr__weights_path(other));
    }
    if (found.count) TSR_TRY(tsr__parts_add_text(all, &found, tsr__parts_needs(unet), folder, err));
    if (pipeline.vae) {
        TSR_TRY(add_part(&other, all, folder, "vae", stem, stem, err));
        TSR_TRY(tsr__parts_add_vae(all, other, tsr__parts_needs(unet).kind, err));
    }
    status = tsr__union_finish(out, all, err);
    all = NULL;
done:
    tsr__union_free(all);
    return status;
}
