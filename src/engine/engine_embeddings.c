/* engine/engine_embeddings.c - where the files of "embedding:NAME" lie: embeddings/ beside the model or beside its folder. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "engine/engine_priv.h"

static int is_file(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

tsr_status tsr__embedding_find_file(void *user, const char *name, char **path, tsr_error *err) {
    static const char *const folders[] = { "embeddings", "../embeddings" };
    static const char *const endings[] = { "", ".safetensors", ".pt", ".bin" };
    const tsr_engine *engine = user;
    const char *slash = strrchr(engine->model, '/');
    *path = NULL;
    if (*name == '/' || strstr(name, "..")) return TSR_OK; /* prompts come from anywhere */
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
            char *made = slash ? tsr__format("%.*s/%s/%s%s", (int)(slash - engine->model), engine->model, folders[i],
                                             name, endings[k])
                               : tsr__format("%s/%s%s", folders[i], name, endings[k]);
            if (!made) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
            if (is_file(made)) {
                *path = made;
                return TSR_OK;
            }
            free(made);
        }
    return TSR_OK;
}
