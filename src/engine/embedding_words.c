/* engine/embedding_words.c - prompts as AUTOMATIC1111's web UI writes them: the bare name of an embedding's file is a word of the
 * prompt. They become ComfyUI's "embedding:NAME" before anything else reads them. */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "engine/engine_priv.h"

enum { MAX_NAMES = 4096 };

typedef struct names {
    char *items[MAX_NAMES];
    int count;
} names;

/* --- which names there are -------------------------------------------------------------------------------------------- */
/* "bad-hands.pt" gives 9; 0: no embedding's file. */
static size_t stem_of(const char *file) {
    static const char *const endings[] = { ".safetensors", ".pt", ".bin" };
    const char *dot = strrchr(file, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcmp(dot, endings[i]) == 0) return (size_t)(dot - file);
    return 0;
}

static tsr_status list_folder(names *list, const char *folder, tsr_error *err) {
    tsr_status status = TSR_OK;
    DIR *dir = opendir(folder);
    if (!dir) return TSR_OK; /* no embeddings */
    for (const struct dirent *entry = readdir(dir); entry && list->count < MAX_NAMES; entry = readdir(dir)) {
        size_t length = *entry->d_name == '.' ? 0 : stem_of(entry->d_name);
        if (!length || strcspn(entry->d_name, " \t,():\\") < length) continue; /* cannot be a word of a prompt */
        list->items[list->count] = tsr__format("%.*s", (int)length, entry->d_name);
        if (!list->items[list->count++]) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
done:
    closedir(dir);
    return status;
}

static int longer_first(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    size_t m = strlen(x), n = strlen(y);
    return m != n ? (m < n ? 1 : -1) : strcmp(x, y);
}

static tsr_status list_names(names *list, const tsr_engine *engine, tsr_error *err) {
    static const char *const folders[] = { "embeddings", "../embeddings" };
    tsr_status status = TSR_OK;
    const char *slash = strrchr(engine->model, '/');
    char *folder = NULL;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        folder = tsr__format("%.*s%s%s", slash ? (int)(slash - engine->model) : 0, engine->model, slash ? "/" : "",
                             folders[i]);
        if (!folder) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        TSR_TRY(list_folder(list, folder, err));
        free(folder);
        folder = NULL;
    }
    qsort(list->items, (size_t)list->count, sizeof *list->items, longer_first);
done:
    free(folder);
    return status;
}

/* --- words ------------------------------------------------------------------------------------------------------------- */
static int in_word(char c) {
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* The name that stands at `at` as a word, in whatever case; NULL: none. */
static const char *name_at(const names *list, const char *prompt, const char *at) {
    static const char mark[] = "embedding:";
    const size_t before = (size_t)(at - prompt), marked = sizeof mark - 1;
    if (before && in_word(at[-1]) && in_word(*at)) return NULL;
    if (before >= marked && strncasecmp(at - marked, mark, marked) == 0) return NULL; /* ComfyUI's way already */
    for (int i = 0; i < list->count; i++) {
        size_t length = strlen(list->items[i]);
        if (strncasecmp(at, list->items[i], length) != 0) continue;
        if (!in_word(at[length]) || !in_word(at[length - 1])) return list->items[i];
    }
    return NULL;
}

/* Appends to the text; *out NULL starts it. */
static tsr_status append(char **out, size_t *used, size_t *room, const char *text, size_t length, tsr_error *err) {
    if (*used + length + 1 > *room) {
        size_t more = 2 * (*room + length) + 64;
        char *grown = realloc(*out, more);
        if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        *out = grown;
        *room = more;
    }
    memcpy(*out + *used, text, length);
    *used += length;
    (*out)[*used] = 0;
    return TSR_OK;
}

tsr_status tsr__embedding_words(char **out, const tsr_engine *engine, const char *prompt, tsr_error *err) {
    tsr_status status = TSR_OK;
    names *list = NULL;
    size_t used = 0, room = 0;
    *out = NULL;
    TSR_ALLOC_ZERO(err, list, 1);
    TSR_TRY(list_names(list, engine, err));
    TSR_TRY(append(out, &used, &room, "", 0, err));
    for (const char *at = prompt; *at;) {
        const char *name = name_at(list, prompt, at);
        if (!name) {
            TSR_TRY(append(out, &used, &room, at++, 1, err));
            continue;
        }
        /* The mark counts at the start of a text or behind white space; the name ends at white space. */
        if (used && !isspace((unsigned char)(*out)[used - 1]) && (*out)[used - 1] != '(')
            TSR_TRY(append(out, &used, &room, " ", 1, err));
        TSR_TRY(append(out, &used, &room, "embedding:", 10, err));
        TSR_TRY(append(out, &used, &room, name, strlen(name), err));
        at += strlen(name);
        if (*at && !isspace((unsigned char)*at) && *at != ')') TSR_TRY(append(out, &used, &room, " ", 1, err));
    }
done:
    for (int i = 0; list && i < list->count; i++) free(list->items[i]);
    free(list);
    if (status != TSR_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}
