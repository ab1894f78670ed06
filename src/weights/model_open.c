/* weights/model_open.c - see model_open.h. */
#include "weights/model_open.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "weights/model_parts.h"
#include "weights/packed_file.h"
#include "weights/pth.h"
#include "weights/taesd_files.h"
#include "weights/weights_priv.h"

static int given(const char *path) {
    return path && *path;
}

int tsr__model_files_given(const tsr__model_files *files) {
    return given(files->unet) || given(files->text[0]) || given(files->text[1]) || given(files->vae);
}

/* Takes file. */
static tsr_status name_again(tsr__weights **out, tsr__weights *file, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__union *all = NULL;
    tsr__encoders found = { .count = 0 };
    TSR_TRY(tsr__union_new(&all, path, err));
    status = tsr__union_own(all, file, err);
    tsr__weights *source = file;
    file = NULL;
    if (status != TSR_OK) goto done;
    const tsr__unet_needs needs = tsr__parts_needs(source);
    TSR_TRY(tsr__parts_add_unet(all, source, err));
    if (tsr__parts_find_text(&found, source)) TSR_TRY(tsr__parts_add_text(all, &found, needs, path, err));
    if (tsr__parts_has_vae(source)) TSR_TRY(tsr__parts_add_vae(all, source, needs.kind, err));
    status = tsr__union_finish(out, all, err);
    all = NULL;
done:
    tsr__weights_close(file);
    tsr__union_free(all);
    return status;
}

static tsr_status open_one(tsr__weights **out, const char *path, tsr_error *err) {
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return tsr__diffusers_open(out, path, err);
    tsr_status status = tsr__weights_open_any(out, path, err);
    if (status != TSR_OK || !tsr__parts_is_renamed(*out)) return status;
    tsr__weights *file = *out;
    *out = NULL;
    return name_again(out, file, path, err);
}

/* The files that are open, in the order of preference for metadata. */
typedef struct opened {
    tsr__weights *unet, *base, *vae, *text[2];
} opened;

static tsr_status open_source(tsr__weights **out, tsr__union *all, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    if (!given(path)) return TSR_OK;
    status = open_one(out, path, err);
    if (status == TSR_OK) status = tsr__union_own(all, *out, err);
    return status == TSR_OK ? tsr__packed_refuse(*out, "be joined with parts of other files", err) : status;
}

/* A VAE may also lie in a folder without a model_index.json. */
static tsr_status open_vae(tsr__weights **out, tsr__union *all, const char *path, tsr__checkpoint_kind kind,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    char *inner = NULL;
    struct stat info;
    *out = NULL;
    if (given(path) && stat(path, &info) == 0 && S_ISDIR(info.st_mode) && !tsr__diffusers_is_model(path)) {
        TSR_TRY(tsr__taesd_in_folder(&inner, path, kind, err));
        path = inner;
    }
    TSR_TRY(open_source(out, all, path, err));
done:
    free(inner);
    return status;
}

/* tessera.config of all files as one; the first file that tells a key decides. */
static tsr_status join_config(tsr__union *all, const opened *files, tsr_error *err) {
    const tsr__weights *const order[] = { files->unet, files->base, files->text[0], files->text[1], files->vae };
    json_t *config = json_object();
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const char *given_text = order[i] ? tsr__weights_metadata(order[i], "tessera.config") : NULL;
        json_t *more = given_text ? json_loads(given_text, 0, NULL) : NULL;
        if (given_text && !json_is_object(more)) {
            json_decref(more);
            TSR_FAIL(err, TSR_BAD_FORMAT, "%s: tessera.config is not a JSON object", tsr__weights_path(order[i]));
        }
        if (more) (void)json_object_update_missing(config, more);
        json_decref(more);
    }
    if (json_object_size(config) == 0) goto done;
    TSR_TRY(tsr__union_set_config(all, config, err));
done:
    json_decref(config);
    return status;
}

static tsr_status add_text(tsr__union *all, const opened *files, tsr__unet_needs needs, const char *path,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__encoders found = { .count = 0 };
    for (int i = 0; i < 2; i++)
        if (files->text[i] && !tsr__parts_find_text(&found, files->text[i]))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: holds no CLIP text encoder", tsr__weights_path(files->text[i]));
    if (files->base) (void)tsr__parts_find_text(&found, files->base);
    if (!found.count) goto done;
    if (needs.kind == TSR_CHECKPOINT_UNKNOWN) tsr__parts_guess_text(&needs, &found);
    TSR_TRY(tsr__parts_add_text(all, &found, needs, path, err));
done:
    return status;
}

static tsr_status join_parts(tsr__union *all, const tsr__model_files *files, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    opened open = { 0 };
    tsr__unet_needs needs = { TSR_CHECKPOINT_UNKNOWN, 0 };
    TSR_TRY(open_source(&open.base, all, files->model, err));
    TSR_TRY(open_source(&open.unet, all, files->unet, err));
    for (int i = 0; i < 2; i++) TSR_TRY(open_source(&open.text[i], all, files->text[i], err));
    const tsr__weights *unet = open.unet ? open.unet : open.base;
    if (unet) {
        needs = tsr__parts_needs(unet);
        TSR_TRY(tsr__parts_add_unet(all, unet, err));
    }
    TSR_TRY(open_vae(&open.vae, all, files->vae, needs.kind, err));
    const tsr__weights *vae = open.vae ? open.vae : open.base;
    TSR_TRY(add_text(all, &open, needs, path, err));
    if (vae && (open.vae || tsr__parts_has_vae(vae))) TSR_TRY(tsr__parts_add_vae(all, vae, needs.kind, err));
    TSR_TRY(join_config(all, &open, err));
done:
    return status;
}

tsr_status tsr__model_open(tsr__weights **out, const tsr__model_files *files, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__union *all = NULL;
    const char *const paths[] = { files->model, files->unet, files->text[0], files->vae, files->text[1] };
    const char *path = "";
    *out = NULL;
    if (!tsr__model_files_given(files)) return open_one(out, files->model, err);
    for (size_t i = 0; i < sizeof paths / sizeof *paths && !given(path); i++)
        if (given(paths[i])) path = paths[i];
    TSR_TRY(tsr__union_new(&all, path, err));
    TSR_TRY(join_parts(all, files, path, err));
    status = tsr__union_finish(out, all, err);
    all = NULL;
done:
    tsr__union_free(all);
    return status;
}
