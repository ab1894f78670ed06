/* engine/engine_convert.c - a model of any layout written as another, tensor by tensor. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "core/text.h"
#include "engine/convert_target.h"
#include "weights/model_open.h"
#include "weights/packed_file.h"

/* --- the kinds of targets, told by the name ------------------------------------------------------------------------------ */
static const char *last_component(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int is_folder(const char *path) {
    struct stat info;
    return !strchr(last_component(path), '.') || (stat(path, &info) == 0 && S_ISDIR(info.st_mode));
}

static int is_gguf(const char *path) {
    return tsr__ends_with(path, strlen(path), ".gguf");
}

static int is_packed(const char *path) {
    return tsr__ends_with(path, strlen(path), ".tsrpack");
}

static tsr_status refuse_packed(tsr__conversion *c, tsr_error *err) {
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: a packed cache is written by tsr_pack_model", c->path);
}

static int is_any(const char *path) {
    (void)path;
    return 1;
}

static const struct target {
    int (*is)(const char *path);
    tsr_status (*write)(tsr__conversion *conversion, tsr_error *err);
} TARGETS[] = {
    { is_gguf, tsr__convert_gguf },
    { is_packed, refuse_packed },
    { is_folder, tsr__convert_folder },
    { is_any, tsr__convert_safetensors },
};

tsr_status tsr__convert_safetensors(tsr__conversion *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__convert_list list = { .weights = c->weights, .watch = &c->watch };
    const char **metadata = NULL;
    const tsr__dtype dtype = tsr__convert_dtype(c->type);
    if (dtype < TSR_DTYPE_COUNT_ && tsr__dtype_block(dtype) > 1)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: safetensors cannot hold %s; name the file .gguf", c->path,
                 tsr__convert_type_name(c->type));
    TSR_TRY(tsr__convert_parts_list(&list, c, err));
    tsr__convert_parts_types(&list, c->type);
    TSR_TRY(tsr__convert_list_ready(&list, err));
    c->watch.total = tsr__convert_list_bytes(&list);
    TSR_TRY(tsr__weights_all_metadata(&metadata, c->weights, err));
    TSR_TRY(tsr__safetensors_save_made(c->path, list.out, list.count, metadata, tsr__convert_list_make, &list, err));
done:
    free(metadata);
    tsr__convert_list_clear(&list);
    return status;
}

/* --- what is read -------------------------------------------------------------------------------------------------------------- */
/* A file that is asked for one of its parts is opened as that part, so it may hold nothing else. */
static tsr__model_files files_of(const char *model, const tsr_model_parts *parts, tsr_convert_part part) {
    tsr__model_files files = { .model = model };
    if (parts) {
        files.unet = parts->unet;
        files.text[0] = parts->text_encoder;
        files.text[1] = parts->text_encoder_2;
        files.vae = parts->vae;
    }
    const char **places[] = { NULL, &files.unet, &files.text[0], &files.text[0], &files.vae };
    if (part == TSR_CONVERT_ALL || tsr__model_files_given(&files) || !(model && *model)) return files;
    *places[part] = model;
    files.model = NULL;
    return files;
}

static tsr_status describe(char **report, const tsr__conversion *c, tsr_error *err) {
    char *left = c->averages ? tsr__format("left out: %zu tensors of training averages (model_ema.*)\n", c->averages)
                             : tsr__strdup("");
    char *more = c->others ? tsr__format("left out: %zu tensors that such a file has no place for\n", c->others)
                           : tsr__strdup("");
    if (left && more)
        *report = tsr__format("%s: %s, %zu tensors, %.2f M parameters, %.1f MiB\n%s%s", c->path,
                              tsr__checkpoint_kind_name(c->info.kind), c->info.tensors,
                              (double)c->info.parameters * 1e-6, (double)c->watch.total / (1 << 20), left, more);
    free(left);
    free(more);
    return *report ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}

tsr_status tsr_convert_model(char **report, const char *path, const char *model, const tsr_model_parts *parts,
                             const tsr_convert_options *options, tsr_error *err) {
    static const tsr_convert_options plain = { TSR_WEIGHT_KEEP, TSR_CONVERT_ALL, NULL, NULL };
    const tsr_convert_options *o = options ? options : &plain;
    tsr_status status = TSR_OK;
    tsr__weights *weights = NULL;
    tsr__conversion c = { .path = path, .type = o->type, .part = o->part, .watch = { o->progress, o->user, 0, 0 } };
    if (report) *report = NULL;
    if ((unsigned)o->type > TSR_WEIGHT_Q2_K) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no such type of weights");
    if ((unsigned)o->part > TSR_CONVERT_VAE) TSR_FAIL(err, TSR_BAD_ARGUMENT, "no such part of a model");
    const tsr__model_files files = files_of(model, parts, o->part);
    if (!(model && *model) && !tsr__model_files_given(&files))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "nothing to convert: give a model or its parts");
    TSR_TRY(tsr__model_open(&weights, &files, err));
    TSR_TRY(tsr__packed_refuse(weights, "be converted", err));
    if (tsr__weights_count(weights) == 0)
        TSR_FAIL(err, TSR_BAD_FORMAT, "%s: no tensors in it", tsr__weights_path(weights));
    c.weights = weights;
    tsr__checkpoint_describe(&c.info, weights);
    for (const struct target *target = TARGETS;; target++) {
        if (!target->is(path)) continue;
        TSR_TRY(target->write(&c, err));
        break;
    }
    if (report) TSR_TRY(describe(report, &c, err));
done:
    tsr__weights_close(weights);
    return status;
}
