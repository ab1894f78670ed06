/* engine/convert_folder.c - a model as a diffusers folder: weights in a temporary folder that is renamed at the end.
 *
 * Names are single-file names the other way round (diffusers_names.h); what diffusers asks for beside weights is made by
 * convert_config.c and convert_tokenizer.c. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "engine/convert_target.h"
#include "engine/engine_family.h"
#include "weights/diffusers_names.h"

/* --- folders -------------------------------------------------------------------------------------------------------------- */
/* Removes a folder of this file's making: files and folders with files. */
static void remove_folder(const char *path, int depth) {
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *inner = tsr__format("%s/%s", path, entry->d_name);
        if (inner && unlink(inner) != 0 && depth) remove_folder(inner, depth - 1);
        free(inner);
    }
    if (folder) closedir(folder);
    (void)rmdir(path);
}

static tsr_status make_folder(const char *folder, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *path = tsr__format("%s/%s", folder, name);
    if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        TSR_FAIL(err, TSR_IO, "%s: cannot be made: %s", path, strerror(errno));
done:
    free(path);
    return status;
}

/* A folder with something in it is never touched. */
static tsr_status check_free(const char *path, tsr_error *err) {
    struct stat info;
    int entries = 0;
    if (stat(path, &info) != 0) return TSR_OK;
    DIR *folder = S_ISDIR(info.st_mode) ? opendir(path) : NULL;
    if (!folder) return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: is there already and is no folder", path);
    while (readdir(folder)) entries++;
    closedir(folder);
    if (entries <= 2) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: is there already; a folder with something in it is not replaced",
                     path);
}

tsr_status tsr__convert_text_file(const char *folder, const char *name, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__outfile *file = NULL;
    char *path = tsr__format("%s/%s", folder, name);
    if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__outfile_open(&file, path, err));
    TSR_TRY(tsr__outfile_write(file, text, strlen(text), err));
    tsr__outfile *whole = file;
    file = NULL;
    TSR_TRY(tsr__outfile_commit(whole, err));
done:
    tsr__outfile_abort(file);
    free(path);
    return status;
}

/* --- lists ---------------------------------------------------------------------------------------------------------------- */
static tsr_status list_network(tsr__convert_list *list, tsr__conversion *c, const char *prefix, int is_vae,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(prefix);
    tsr__diffusers_shape shape = { 0 };
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        const char *name = tsr__weights_at(c->weights, i)->name;
        if (strncmp(name, prefix, length) == 0) tsr__single_file_look(&shape, name + length);
    }
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        tsr__tensor_view view = *tsr__weights_at(c->weights, i);
        char name[TSR__NAME_SIZE];
        if (strncmp(view.name, prefix, length) != 0 || tsr__convert_is_factor(c->weights, &view)) continue;
        const int known = is_vae ? tsr__single_file_vae_name(name, view.name + length, &shape)
                                 : tsr__single_file_unet_name(name, view.name + length, &shape);
        if (!known)
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: tensor \"%.200s\": diffusers has no name for it",
                     tsr__weights_path(c->weights), view.name);
        if (is_vae && view.rank == 4 && strstr(name, ".attentions.")) view.rank = 2; /* a 1x1 convolution is a matrix */
        TSR_TRY(tsr__convert_list_add(list, name, &view, 0, err));
    }
done:
    return status;
}

static tsr_status list_text(tsr__convert_list *list, tsr__conversion *c, const char *prefix, int kind, tsr_error *err) {
    return tsr__convert_parts_text(list, c, prefix, kind == 3, err);
}

/* A family's parts; kind: 0 UNet, 1 VAE, 2 text in Hugging Face's names, 3 in OpenCLIP's. */
typedef struct part {
    const char *folder, *stem, *prefix;
    int kind;
} part;
static const char NETWORK[] = "diffusion_pytorch_model";
static const part SD1_PARTS[] = {
    { "unet", NETWORK, "model.diffusion_model.", 0 },
    { "vae", NETWORK, "first_stage_model.", 1 },
    { "text_encoder", "model", "cond_stage_model.transformer.", 2 },
    { NULL, NULL, NULL, 0 },
};
static const part SD2_PARTS[] = {
    { "unet", NETWORK, "model.diffusion_model.", 0 },
    { "vae", NETWORK, "first_stage_model.", 1 },
    { "text_encoder", "model", "cond_stage_model.model.", 3 },
    { NULL, NULL, NULL, 0 },
};
static const part XL_PARTS[] = {
    { "unet", NETWORK, "model.diffusion_model.", 0 },
    { "vae", NETWORK, "first_stage_model.", 1 },
    { "text_encoder", "model", "conditioner.embedders.0.transformer.", 2 },
    { "text_encoder_2", "model", "conditioner.embedders.1.model.", 3 },
    { NULL, NULL, NULL, 0 },
};
enum { MOST_PARTS = 4 };

static const part *parts_of(tsr__checkpoint_kind kind) {
    return kind == TSR_CHECKPOINT_SDXL ? XL_PARTS : kind == TSR_CHECKPOINT_SD2 ? SD2_PARTS : SD1_PARTS;
}

/* What no part of the folder takes: noise tables and other left-overs of training. */
static void count_others(tsr__conversion *c, const part *parts) {
    for (size_t i = 0; i < tsr__weights_count(c->weights); i++) {
        const char *name = tsr__weights_at(c->weights, i)->name;
        int known = 0;
        for (const part *p = parts; p->folder; p++) known |= strncmp(name, p->prefix, strlen(p->prefix)) == 0;
        if (strncmp(name, "model_ema.", strlen("model_ema.")) == 0) c->averages++;
        else if (!known && strcmp(name, "v_pred") != 0 && strcmp(name, "ztsnr") != 0) c->others++;
    }
}

/* --- writing --------------------------------------------------------------------------------------------------------------- */
static tsr_status write_weights(tsr__conversion *c, const char *folder, tsr_error *err) {
    static const char *const metadata[] = { "format", "pt", NULL };
    tsr_status status = TSR_OK;
    tsr__convert_list lists[MOST_PARTS] = { { 0 } };
    const part *parts = parts_of(c->info.kind);
    char *path = NULL;
    for (int i = 0; parts[i].folder; i++) {
        lists[i].weights = c->weights;
        lists[i].watch = &c->watch;
        if (parts[i].kind < 2) TSR_TRY(list_network(&lists[i], c, parts[i].prefix, parts[i].kind, err));
        else TSR_TRY(list_text(&lists[i], c, parts[i].prefix, parts[i].kind, err));
        tsr__convert_parts_types(&lists[i], c->type);
        c->watch.total += tsr__convert_list_bytes(&lists[i]);
    }
    for (int i = 0; parts[i].folder; i++) {
        free(path);
        path = tsr__format("%s/%s/%s.safetensors", folder, parts[i].folder, parts[i].stem);
        if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        TSR_TRY(make_folder(folder, parts[i].folder, err));
        TSR_TRY(tsr__convert_list_ready(&lists[i], err));
        TSR_TRY(tsr__safetensors_save_made(path, lists[i].out, lists[i].count, metadata, tsr__convert_list_make,
                                           &lists[i], err));
        tsr__convert_list_clear(&lists[i]);
    }
done:
    free(path);
    for (int i = 0; i < MOST_PARTS; i++) tsr__convert_list_clear(&lists[i]);
    return status;
}

static tsr_status write_tokenizers(const tsr__conversion *c, const char *folder, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(make_folder(folder, "tokenizer", err));
    TSR_TRY(tsr__convert_tokenizer(folder, "tokenizer", c->info.kind != TSR_CHECKPOINT_SD2, err));
    if (c->info.kind != TSR_CHECKPOINT_SDXL) goto done;
    TSR_TRY(make_folder(folder, "tokenizer_2", err));
    TSR_TRY(tsr__convert_tokenizer(folder, "tokenizer_2", 0, err));
done:
    return status;
}

static tsr_status check(const tsr__conversion *c, tsr_error *err) {
    const tsr__family *family;
    if (c->part != TSR_CONVERT_ALL)
        return tsr__fail(err, TSR_BAD_ARGUMENT,
                         "%s: a folder holds whole models; a part goes into a file (.safetensors, "
                         ".gguf)",
                         c->path);
    if (tsr__dtype_block(tsr__convert_dtype(c->type)) > 1)
        return tsr__fail(err, TSR_BAD_ARGUMENT, "%s: a diffusers folder cannot hold %s; name a file .gguf", c->path,
                         tsr__convert_type_name(c->type));
    return tsr__family_find(&family, c->weights, &c->info, 0, err);
}

tsr_status tsr__convert_folder(tsr__conversion *c, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *path = tsr__strdup(c->path), *temporary = NULL;
    int made = 0;
    if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    for (size_t end = strlen(path); end > 1 && path[end - 1] == '/'; end--) path[end - 1] = '\0';
    TSR_TRY(check(c, err));
    TSR_TRY(check_free(path, err));
    temporary = tsr__format("%s.XXXXXX", path);
    if (!temporary) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (!mkdtemp(temporary)) TSR_FAIL(err, TSR_IO, "%s: cannot be made: %s", path, strerror(errno));
    made = 1;
    (void)chmod(temporary, 0755);
    TSR_TRY(make_folder(temporary, "scheduler", err));
    TSR_TRY(write_weights(c, temporary, err));
    TSR_TRY(tsr__convert_configs(c, temporary, err));
    TSR_TRY(write_tokenizers(c, temporary, err));
    count_others(c, parts_of(c->info.kind));
    if (rename(temporary, path) != 0) TSR_FAIL(err, TSR_IO, "%s: cannot be given its name: %s", path, strerror(errno));
    made = 0;
done:
    if (made) remove_folder(temporary, 1);
    free(path);
    free(temporary);
    return status;
}
