/* weights/taesd_files.c - see taesd_files.h. */
#include "weights/taesd_files.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "weights/diffusers_names.h"
#include "weights/pth.h"

#define VAE_PREFIX   "first_stage_model."
#define ENCODER      "taesd_encoder."
#define DECODER      "taesd_decoder."
#define TINY_ENCODER "encoder.layers."
#define TINY_DECODER "decoder.layers."

/* What models scale their latents by, and how their files are called. Source: ComfyUI 0.8.0, VAELoader. */
static const struct family {
    tsr__checkpoint_kind kind;
    const char *name, *models;
    float scale;
} FAMILIES[] = {
    { TSR_CHECKPOINT_SDXL, "taesdxl", "SDXL", 0.13025f },
    { TSR_CHECKPOINT_SD1, "taesd", "SD1 and SD2", 0.18215f },
};
enum { FAMILY_COUNT = sizeof FAMILIES / sizeof *FAMILIES };

static const char *const ENDINGS[] = { ".safetensors", ".pth", ".pt", ".bin" };

static const struct family *family_of(tsr__checkpoint_kind kind) {
    if (kind == TSR_CHECKPOINT_SD2) kind = TSR_CHECKPOINT_SD1;
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (FAMILIES[i].kind == kind) return &FAMILIES[i];
    return NULL;
}

const char *tsr__taesd_models(tsr__checkpoint_kind family) {
    const struct family *row = family_of(family);
    return row ? row->models : "other models";
}

const char *tsr__taesd_name(tsr__checkpoint_kind kind) {
    const struct family *row = family_of(kind);
    return row ? row->name : NULL;
}

/* --- names ---------------------------------------------------------------------------------------------------------------- */
/* Weights in memory have none. */
static const char *path_of(const tsr__weights *source) {
    const char *path = tsr__weights_path(source);
    return path ? path : "weights";
}

static int starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static const tsr__tensor_view *find(const tsr__weights *source, const char *prefix, const char *name) {
    char whole[TSR__NAME_SIZE];
    (void)snprintf(whole, sizeof whole, "%s%s", prefix, name);
    return tsr__weights_find(source, whole);
}

/* The first layers of both halves, where they are; 0: neither. */
static int look_for(tsr__taesd_found *out, const tsr__weights *source, const char *prefix, const char *encoder,
                    const char *decoder) {
    const tsr__tensor_view *in = find(source, prefix, encoder), *out_of = find(source, prefix, decoder);
    out->has_encoder = in && in->rank == 4;
    out->has_decoder = out_of && out_of->rank == 4;
    out->prefix = prefix;
    if (out->has_encoder) out->width = in->shape[0];
    if (out->has_decoder) {
        out->width = out_of->shape[0];
        out->channels = out_of->shape[1];
    }
    return out->has_encoder || out->has_decoder;
}

/* The name that a file goes by, small letters: its own, or its folder's where diffusers gave it the usual one. */
static void own_name(char *out, size_t size, const char *path) {
    static const char usual[] = "diffusion_pytorch_model";
    const char *end = path + strlen(path), *start = strrchr(path, '/');
    start = start ? start + 1 : path;
    if (starts_with(start, usual) && start > path) {
        end = start - 1;
        for (start = end; start > path && start[-1] != '/'; start--) {}
    }
    size_t n = 0;
    for (; start < end && n + 1 < size; start++) out[n++] = (char)tolower((unsigned char)*start);
    out[n] = 0;
}

static void tell_family(tsr__taesd_found *out, const tsr__weights *source) {
    const tsr__tensor_view *scale = find(source, out->prefix, "vae_scale");
    const char *path = path_of(source);
    char name[256];
    float value = 0.0f;
    if (scale && scale->count == 1 && tsr__tensor_to_f32(scale, &value, NULL) == TSR_OK) {
        out->told_by = "its vae_scale";
        for (int i = 0; i < FAMILY_COUNT; i++)
            if (fabsf(value - FAMILIES[i].scale) < 1e-3f) out->family = FAMILIES[i].kind;
        return;
    }
    own_name(name, sizeof name, path);
    for (int i = 0; i < FAMILY_COUNT && !out->told_by; i++)
        if (strstr(name, FAMILIES[i].name)) {
            out->told_by = "its name";
            out->family = FAMILIES[i].kind;
        }
}

int tsr__taesd_find(tsr__taesd_found *out, const tsr__weights *source) {
    static const char *const prefixes[] = { VAE_PREFIX, "vae.", "" };
    int found = 0;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && !found; i++)
        found = look_for(out, source, prefixes[i], ENCODER "0.weight", DECODER "1.weight") ||
                (find(source, prefixes[i], TINY_DECODER "2.conv.0.weight") &&
                 look_for(out, source, prefixes[i], TINY_ENCODER "0.weight", TINY_DECODER "0.weight")) ||
                (find(source, prefixes[i], TINY_ENCODER "1.conv.0.weight") &&
                 look_for(out, source, prefixes[i], TINY_ENCODER "0.weight", TINY_DECODER "0.weight"));
    if (!found &&
        find(source, "", "3.conv.0.weight")) /* both halves have a block there; only an encoder begins with 0 */
        found = out->is_bare = find(source, "", "0.weight") ? look_for(out, source, "", "0.weight", "")
                                                            : look_for(out, source, "", "", "1.weight");
    if (found) tell_family(out, source);
    return found;
}

/* Its name in a union, less VAE_PREFIX; 0: it is no part of a TAESD. name: without the file's prefix. */
static int translate(char out[TSR__NAME_SIZE], const tsr__taesd_found *found, const char *name) {
    const char *half = NULL;
    char *rest = NULL;
    long place = 0;
    if (strlen(name) >= TSR__NAME_SIZE - sizeof DECODER) return 0;
    if (starts_with(name, ENCODER) || starts_with(name, DECODER) || strcmp(name, "vae_scale") == 0 ||
        strcmp(name, "vae_shift") == 0) {
        (void)snprintf(out, TSR__NAME_SIZE, "%s", name);
        return 1;
    }
    if (starts_with(name, TINY_ENCODER)) half = ENCODER;
    else if (starts_with(name, TINY_DECODER)) half = DECODER;
    else if (found->is_bare) half = found->has_encoder ? ENCODER : DECODER;
    if (!half) return 0;
    const char *number = found->is_bare ? name : name + sizeof TINY_ENCODER - 1;
    if (!isdigit((unsigned char)*number)) return 0;
    place = strtol(number, &rest, 10);
    if (*rest != '.' || place > 1000) return 0;
    if (!found->is_bare && strcmp(half, DECODER) == 0) place++; /* diffusers' sequence lacks the clamp */
    (void)snprintf(out, TSR__NAME_SIZE, "%s%ld%s", half, place, rest);
    return 1;
}

static tsr_status add_tensors(tsr__union *all, const tsr__weights *source, const tsr__taesd_found *found,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    const size_t length = strlen(found->prefix);
    char name[TSR__NAME_SIZE], whole[TSR__NAME_SIZE + sizeof VAE_PREFIX];
    for (size_t i = 0; i < tsr__weights_count(source); i++) {
        const tsr__tensor_view *view = tsr__weights_at(source, i);
        if (strncmp(view->name, found->prefix, length) != 0) continue;
        if (!translate(name, found, view->name + length))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: tensor \"%.200s\": a TAESD has no such layer", path_of(source),
                     view->name);
        (void)snprintf(whole, sizeof whole, "%s%s", VAE_PREFIX, name);
        TSR_TRY(tsr__union_add(all, whole, view, err));
    }
done:
    return status;
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */
static int is_file(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

char *tsr__taesd_with_ending(const char *folder, const char *stem) {
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        char *path = tsr__format("%s/%s%s", folder, stem, ENDINGS[i]);
        if (path && is_file(path)) return path;
        free(path);
    }
    return NULL;
}

/* "dir/taesd_decoder.pth" -> "dir/taesd_encoder.safetensors", the first that is there; NULL: none. */
static char *find_other_half(const char *path, int has_encoder) {
    const char *own = has_encoder ? "encoder" : "decoder", *other = has_encoder ? "decoder" : "encoder";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *at = strstr(name, own);
    const char *dot = strrchr(name, '.');
    if (!at || !dot || dot < at + strlen(own)) return NULL;
    const char *after = at + strlen(own);
    char *stem = tsr__format("%.*s%s%.*s", (int)(at - name), name, other, (int)(dot - after), after);
    char *folder = slash ? tsr__format("%.*s", (int)(slash - path), path) : tsr__strdup(".");
    char *found = stem && folder ? tsr__taesd_with_ending(*folder ? folder : "/", stem) : NULL;
    free(stem);
    free(folder);
    return found;
}

static tsr_status add_other_half(tsr__union *all, const tsr__weights *source, const tsr__taesd_found *found,
                                 tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__weights *other = NULL;
    tsr__taesd_found half;
    char *path = find_other_half(path_of(source), found->has_encoder);
    if (!path) return TSR_OK;
    TSR_TRY(tsr__weights_open_any(&other, path, err));
    TSR_TRY(tsr__union_own(all, other, err));
    if (!tsr__taesd_find(&half, other) || !half.is_bare || half.has_encoder == found->has_encoder)
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: this is not TAESD's %s, as its name says", path,
                 found->has_encoder ? "decoder" : "encoder");
    TSR_TRY(add_tensors(all, other, &half, err));
done:
    free(path);
    return status;
}

/* What the file says of itself against the model that it is for. */
static tsr_status check_family(const tsr__weights *source, const tsr__taesd_found *found, tsr__checkpoint_kind kind,
                               tsr_error *err) {
    const char *path = path_of(source);
    const struct family *wanted = family_of(kind), *told = family_of(found->family);
    if (!wanted && !found->told_by)
        return tsr__fail(err, TSR_UNSUPPORTED,
                         "%s: a TAESD that does not say for which model: name the file taesd... (SD1, SD2) or "
                         "taesdxl... (SDXL)",
                         path);
    if (!wanted || !found->told_by || wanted == told) return TSR_OK;
    return tsr__fail(err, TSR_UNSUPPORTED, "%s: by %s a TAESD for %s; the model's latents are those of %s: give a %s%s",
                     path, found->told_by, tsr__taesd_models(found->family), wanted->models, wanted->name,
                     strcmp(found->told_by, "its name") == 0 ? ", or name the file rightly" : "");
}

tsr_status tsr__taesd_add(tsr__union *all, const tsr__weights *source, tsr__checkpoint_kind kind, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__taesd_found found;
    if (!tsr__taesd_find(&found, source))
        TSR_FAIL(err, TSR_UNSUPPORTED, "%s: there is no TAESD in it", path_of(source));
    TSR_TRY(check_family(source, &found, kind, err));
    TSR_TRY(add_tensors(all, source, &found, err));
    if (found.is_bare) TSR_TRY(add_other_half(all, source, &found, err));
    const struct family *family = family_of(found.family) ? family_of(found.family) : family_of(kind);
    if (!find(source, found.prefix, "vae_scale"))
        TSR_TRY(tsr__union_add_number(all, VAE_PREFIX "vae_scale", family->scale, err));
done:
    return status;
}

tsr_status tsr__taesd_in_folder(char **out, const char *folder, tsr__checkpoint_kind kind, tsr_error *err) {
    const struct family *wanted = family_of(kind);
    *out = NULL;
    for (int i = 0; i < FAMILY_COUNT; i++) {
        char stem[32];
        if (wanted && wanted != &FAMILIES[i]) continue;
        (void)snprintf(stem, sizeof stem, "%s_decoder", FAMILIES[i].name);
        char *path = tsr__taesd_with_ending(folder, stem);
        if (path && *out) {
            free(path);
            free(*out);
            *out = NULL;
            return tsr__fail(err, TSR_UNSUPPORTED, "%s: it holds TAESDs for several models: give the file", folder);
        }
        if (path) *out = path;
    }
    if (!*out) *out = tsr__taesd_with_ending(folder, "diffusion_pytorch_model");
    if (*out) return TSR_OK;
    return tsr__fail(
        err, TSR_NOT_FOUND,
        "%s: no model_index.json, no %s_decoder.safetensors and no diffusion_pytorch_model.safetensors in it", folder,
        wanted ? wanted->name : "taesd");
}
