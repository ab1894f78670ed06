/* graph/choices.c - the names that inputs choose from: samplers, schedulers, files. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "graph/graph_priv.h"
#include "weights/taesd_files.h"

enum { MAX_FILES = 10000, MAX_FOLDER_DEPTH = 4 };

const char *const tsr__scale_methods[] = { "nearest-exact", "bilinear", "area", "bicubic", "lanczos", NULL };

/* --- tables ----------------------------------------------------------------------------------------------------------------- */
tsr_status tsr__choices_samplers(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    (void)graph;
    for (int i = 0; tsr_sampler_name(i); i++) TSR_TRY(tsr__names_add(out, tsr_sampler_name(i), err));
done:
    return status;
}

/* The Impact Pack's names stand behind ComfyUI's own nine. */
enum { COMFY_SCHEDULERS = 9 };

static tsr_status schedulers(tsr__names *out, int most, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < most && i < tsr_scheduler_count(); i++)
        TSR_TRY(tsr__names_add(out, tsr_scheduler_name(i), err));
done:
    return status;
}

tsr_status tsr__choices_schedulers(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    (void)graph;
    return schedulers(out, COMFY_SCHEDULERS, err);
}

tsr_status tsr__choices_impact_schedulers(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    (void)graph;
    return schedulers(out, tsr_scheduler_count(), err);
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */
static int ends_with(const char *name, const char *const *extensions) {
    size_t n = strlen(name);
    for (int i = 0; extensions[i]; i++) {
        size_t m = strlen(extensions[i]);
        if (n > m && strcasecmp(name + n - m, extensions[i]) == 0) return 1;
    }
    return 0;
}

/* Files under root/below, named relative to root. A folder that is not there has none. */
static tsr_status list_files(tsr__names *out, const char *root, const char *below, const char *const *extensions,
                             int depth, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *folder = tsr__format("%s/%s", root, below), *name = NULL, *path = NULL;
    DIR *dir = folder ? opendir(folder) : NULL;
    struct dirent *entry;
    struct stat about;
    while (dir && (entry = readdir(dir)) && out->count < MAX_FILES) {
        if (entry->d_name[0] == '.') continue;
        free(name);
        free(path);
        name = tsr__format("%s%s%s", below, *below ? "/" : "", entry->d_name);
        path = name ? tsr__format("%s/%s", root, name) : NULL;
        if (!path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        if (stat(path, &about) != 0) continue;
        if (S_ISDIR(about.st_mode) && depth < MAX_FOLDER_DEPTH)
            TSR_TRY(list_files(out, root, name, extensions, depth + 1, err));
        else if (S_ISREG(about.st_mode) && ends_with(name, extensions)) TSR_TRY(tsr__names_add(out, name, err));
    }
done:
    if (dir) closedir(dir);
    free(name);
    free(path);
    free(folder);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* What ComfyUI called a folder before; both are in use. */
static const char *older_name(const char *folder) {
    if (strcmp(folder, "diffusion_models") == 0) return "unet";
    return strcmp(folder, "text_encoders") == 0 ? "clip" : NULL;
}

/* The folder of that name: of the models, or the input folder. A models folder without the subfolder holds its files
 * itself (that is how a single downloaded file lies). */
static char *folder_path(const tsr_graph *graph, const char *folder) {
    if (strcmp(folder, "input") == 0) return tsr__strdup(graph->input);
    const char *const names[] = { folder, older_name(folder) };
    for (int i = 0; i < 2 && names[i]; i++) {
        char *path = tsr__format("%s/%s", graph->models, names[i]);
        if (path && is_folder(path)) return path;
        free(path);
    }
    return tsr__strdup(graph->models);
}

static tsr_status names_in(tsr__names *out, const tsr_graph *graph, const char *folder, const char *const *extensions,
                           tsr_error *err) {
    tsr_status status = TSR_OK;
    char *root = NULL;
    if (!graph) return TSR_OK;
    root = folder_path(graph, folder);
    if (!root) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(list_files(out, root, "", extensions, 0, err));
    if (out->count) qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
done:
    free(root);
    return status;
}

static const char *const weight_files[] = { ".safetensors", NULL };
static const char *const checkpoint_files[] = { ".safetensors", ".tsrpack", ".gguf", ".ckpt",
                                                ".pth",         ".pt",      ".bin",  NULL };
static const char *const part_files[] = { ".safetensors", ".gguf", ".ckpt", ".pth", ".pt", ".bin", NULL };
static const char *const upscaler_files[] = { ".safetensors", ".pth", ".pt", NULL };
static const char *const picture_files[] = { ".png", ".jpg", ".jpeg", ".webp", NULL };
static const char *const latent_files[] = { ".latent", NULL };

tsr_status tsr__choices_checkpoints(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "checkpoints", checkpoint_files, err);
}

tsr_status tsr__choices_unets(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "diffusion_models", part_files, err);
}

tsr_status tsr__choices_text_encoders(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "text_encoders", part_files, err);
}

/* The pairs of vae_approx go by these names. Source: ComfyUI 0.8.0, VAELoader. */
static const char *const tiny_vaes[] = { "taesd", "taesdxl", NULL };

char *tsr__vae_approx(const tsr_graph *graph) {
    return folder_path(graph, "vae_approx");
}

static char *find_half(const tsr_graph *graph, const char *name, const char *half) {
    char *folder = tsr__vae_approx(graph), *stem = tsr__format("%s_%s", name, half);
    char *found = folder && stem ? tsr__taesd_with_ending(folder, stem) : NULL;
    free(folder);
    free(stem);
    return found;
}

tsr_status tsr__choices_vaes(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    tsr_status status = names_in(out, graph, "vae", part_files, err);
    for (int i = 0; graph && tiny_vaes[i] && status == TSR_OK; i++) {
        char *encoder = find_half(graph, tiny_vaes[i], "encoder"), *decoder = find_half(graph, tiny_vaes[i], "decoder");
        if (encoder && decoder) status = tsr__names_add(out, tiny_vaes[i], err);
        free(encoder);
        free(decoder);
    }
    return status;
}

tsr_status tsr__find_vae(char **out, char **encoder, const tsr_graph *graph, const char *name, tsr_error *err) {
    *out = *encoder = NULL;
    for (int i = 0; tiny_vaes[i]; i++) {
        if (strcmp(name, tiny_vaes[i]) != 0) continue;
        *encoder = find_half(graph, name, "encoder");
        *out = find_half(graph, name, "decoder");
        if (*out && *encoder) return TSR_OK;
        free(*out);
        free(*encoder);
        *out = *encoder = NULL;
    }
    return tsr__find_file(out, graph, "vae", name, err);
}

tsr_status tsr__choices_loras(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "loras", weight_files, err);
}

tsr_status tsr__choices_upscale_models(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "upscale_models", upscaler_files, err);
}

tsr_status tsr__choices_control_nets(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "controlnet", upscaler_files, err);
}

tsr_status tsr__choices_pictures(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "input", picture_files, err);
}

tsr_status tsr__choices_latents(tsr__names *out, const tsr_graph *graph, tsr_error *err) {
    return names_in(out, graph, "input", latent_files, err);
}

tsr_status tsr_graph_embeddings(char **out, const tsr_graph *graph, int with_endings, tsr_error *err) {
    static const char *const endings[] = { ".safetensors", ".pt", ".bin", NULL };
    tsr_status status = TSR_OK;
    tsr__names names = { 0 };
    json_t *list = json_array();
    char *folder = tsr__format("%s/embeddings", graph->models);
    *out = NULL;
    if (!folder || !list) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(list_files(&names, folder, "", endings, 0, err));
    if (names.count) qsort(names.items, (size_t)names.count, sizeof *names.items, by_name);
    for (int i = 0; i < names.count; i++) {
        char *dot = with_endings ? NULL : strrchr(names.items[i], '.');
        if (dot) *dot = '\0';
        if (json_array_append_new(list, json_string(names.items[i])) != 0) continue; /* no UTF-8: no prompt names it */
    }
    *out = tsr__workflow_dump(list, JSON_COMPACT);
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
done:
    tsr__names_clear(&names);
    json_decref(list);
    free(folder);
    return status;
}

const char *tsr__choices_folder(tsr__choices_fn choices) {
    static const struct {
        tsr__choices_fn choices;
        const char *folder;
    } rows[] = {
        { tsr__choices_checkpoints, "checkpoints" },
        { tsr__choices_unets, "diffusion_models" },
        { tsr__choices_text_encoders, "text_encoders" },
        { tsr__choices_vaes, "vae" },
        { tsr__choices_loras, "loras" },
        { tsr__choices_upscale_models, "upscale_models" },
        { tsr__choices_control_nets, "controlnet" },
        { tsr__choices_pictures, "input" },
        { tsr__choices_latents, "input" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (choices == rows[i].choices) return rows[i].folder;
    return NULL;
}

/* A name from a workflow must not reach other folders. */
static int leaves_folder(const char *name) {
    if (name[0] == '/' || name[0] == '~') return 1;
    for (const char *at = name; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == 0)) return 1;
    return 0;
}

/* "name.png [input]" is how the page marks a folder; Windows writes backslashes. */
static char *plain_name(const char *name) {
    char *plain = tsr__strdup(name);
    char *mark = plain ? strrchr(plain, '[') : NULL;
    if (mark && mark > plain + 1 && mark[-1] == ' ' && strcmp(mark, "[input]") == 0) mark[-1] = 0;
    for (char *at = plain; at && *at; at++)
        if (*at == '\\') *at = '/';
    return plain;
}

/* The input folder is written by strangers: a link in it must not lead out. The models folders are their owner's. */
static int is_inside(const char *root, const char *path) {
    char *real_root = realpath(root, NULL), *real = realpath(path, NULL);
    size_t n = real_root ? strlen(real_root) : 0;
    int inside =
        real_root && real && strncmp(real, real_root, n) == 0 && (real[n] == '/' || strcmp(real_root, "/") == 0);
    free(real_root);
    free(real);
    return inside;
}

tsr_status tsr__find_file(char **out, const tsr_graph *graph, const char *folder, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    struct stat about;
    char *plain = plain_name(name), *root = folder_path(graph, folder);
    *out = NULL;
    if (!plain || !root) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (!*plain || leaves_folder(plain))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "'%.200s' is not a name inside the %s folder", name, folder);
    *out = tsr__format("%s/%s", root, plain);
    if (!*out) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (stat(*out, &about) != 0 || !S_ISREG(about.st_mode))
        TSR_FAIL(err, TSR_NOT_FOUND, "there is no file '%.200s' in %.200s", plain, root);
    if (strcmp(folder, "input") == 0 && !is_inside(root, *out))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "'%.200s' leads out of the input folder", plain);
done:
    if (status != TSR_OK) {
        free(*out);
        *out = NULL;
    }
    free(plain);
    free(root);
    return status;
}
