/* engine/engine_find.c - where the model that ships with Tessera lies, and files that belong to a model.
 *
 * Looks around the library's own file and the program's, upwards: a build tree finds the source tree's models/, an
 * installed library finds share/tessera/models/. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_priv.h"
#include "weights/taesd_files.h"

#define MODEL_FILE "tessera-demo.safetensors"

/* Looks in the folder of `file` and up to five folders above it. */
static char *search_upwards(const char *file) {
    static const char *const places[] = { "models/" MODEL_FILE, "share/tessera/models/" MODEL_FILE };
    char *folder = realpath(file, NULL);
    char *found = NULL;
    for (int up = 0; folder && up < 6 && !found && strcmp(folder, "/") != 0; up++) {
        char *slash = strrchr(folder, '/');
        if (!slash) break;
        slash[slash == folder] = 0;
        for (int i = 0; i < 2 && !found; i++) {
            char *path = tsr__format("%s/%s", folder, places[i]);
            if (path && access(path, R_OK) == 0) found = path;
            else free(path);
        }
    }
    free(folder);
    return found;
}

tsr_status tsr_engine_find_model(char **out, tsr_error *err) {
    const char *wanted = getenv("TESSERA_MODEL");
    Dl_info library;
    *out = NULL;
    if (wanted && *wanted) {
        *out = tsr__strdup(wanted);
        return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    }
    if (dladdr((const void *)(uintptr_t)tsr_engine_find_model, &library) && library.dli_fname)
        *out = search_upwards(library.dli_fname);
    if (!*out) *out = search_upwards("/proc/self/exe");
    if (*out) return TSR_OK;
    return tsr__fail(
        err, TSR_NOT_FOUND,
        "the model that ships with Tessera (%s) is not beside the program, nor installed; give --model, or set "
        "TESSERA_MODEL",
        MODEL_FILE);
}

char *tsr__find_beside(const tsr_engine *engine, const char *folder, const char *name) {
    const struct {
        const char *start, *folder, *end;
    } places[] = { { "/", folder, "/" }, { "/../", folder, "/" }, { "/", "", "" } };
    static const char *const endings[] = { "", ".safetensors" };
    const char *slash = strrchr(engine->model, '/'), *model = slash ? engine->model : ".";
    int length = slash ? (int)(slash - engine->model) : 1;
    if (access(name, R_OK) == 0 || *name == '/' || strstr(name, "..")) return tsr__strdup(name);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
            char *path = tsr__format("%.*s%s%s%s%s%s", length, model, places[i].start, places[i].folder, places[i].end,
                                     name, endings[k]);
            if (path && access(path, R_OK) == 0) return path;
            free(path);
        }
    return tsr__strdup(name);
}

char *tsr__find_taesd(const tsr_engine *engine, const char *name) {
    static const char *const places[] = { "vae_approx", "../vae_approx", "." };
    const char *slash = strrchr(engine->model, '/');
    char *found = NULL, *stem = tsr__format("%s_decoder", name);
    for (size_t i = 0; stem && i < sizeof places / sizeof *places && !found; i++) {
        char *folder =
            tsr__format("%.*s/%s", slash ? (int)(slash - engine->model) : 1, slash ? engine->model : ".", places[i]);
        if (folder) found = tsr__taesd_with_ending(folder, stem);
        if (folder && !found) found = tsr__taesd_with_ending(folder, name);
        free(folder);
    }
    free(stem);
    return found;
}
