/* engine/engine_embeddings.c - where the files of "embedding:NAME" lie: embeddings/ beside the model or beside its folder; and which
 * files a prompt names. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "engine/engine_priv.h"

static int is_file(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

const char *const tsr__embedding_endings[TSR__EMBEDDING_ENDINGS] = { "", ".safetensors", ".pt", ".bin" };

char *tsr__embedding_folder(const tsr_engine *engine, int index) {
    static const char *const folders[TSR__EMBEDDING_FOLDERS] = { "embeddings", "../embeddings" };
    const char *slash = strrchr(engine->model, '/');
    return slash ? tsr__format("%.*s/%s", (int)(slash - engine->model), engine->model, folders[index])
                 : tsr__strdup(folders[index]);
}

tsr_status tsr__embedding_find_file(void *user, const char *name, char **path, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *folder = NULL, *made = NULL;
    *path = NULL;
    if (*name == '/' || strstr(name, "..")) return TSR_OK; /* prompts come from anywhere */
    for (int i = 0; i < TSR__EMBEDDING_FOLDERS && !*path; i++) {
        folder = tsr__embedding_folder(user, i);
        for (int k = 0; k < TSR__EMBEDDING_ENDINGS && !*path; k++) {
            made = folder ? tsr__format("%s/%s%s", folder, name, tsr__embedding_endings[k]) : NULL;
            if (!made) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
            if (is_file(made)) *path = made;
            else free(made);
        }
        free(folder);
        folder = NULL;
    }
done:
    free(folder);
    return status;
}

typedef struct listing {
    const tsr_engine *engine;
    tsr__embedding_file_fn take;
    void *user;
} listing;

/* A tsr__embedding_source that reads nothing: it only hears the names. */
static tsr_status hear_name(void *user, const char *name, size_t length, int *found, int *first, int *count,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    const listing *to = user;
    char *copy = tsr__format("%.*s", (int)length, name), *path = NULL;
    *found = 0;
    *first = 0;
    *count = 1;
    if (!copy) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    TSR_TRY(tsr__embedding_find_file((void *)(uintptr_t)to->engine, copy, &path, err));
    if (!path) goto done;
    *found = 1;
    TSR_TRY(to->take(to->user, path, err));
done:
    free(copy);
    free(path);
    return status;
}

tsr_status tsr__embedding_list_files(tsr_engine *engine, const char *prompt, tsr__embedding_file_fn take, void *user,
                                     tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__token_chunks chunks = { 0 };
    listing to = { engine, take, user };
    const tsr__embedding_source source = { &to, hear_name };
    if (!prompt || !strstr(prompt, "embedding:")) return TSR_OK;
    if (!engine->tokenizer) TSR_TRY(tsr__tokenizer_new(&engine->tokenizer, err));
    TSR_TRY(tsr__tokenize_with(engine->tokenizer, &chunks, prompt, 0, &source, err));
done:
    tsr__token_chunks_clear(&chunks);
    return status;
}
