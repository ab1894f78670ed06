/* engine/embedding_words.c - prompts as AUTOMATIC1111's web UI writes them: the bare name of an embedding's file is a word of the
 * prompt. They become ComfyUI's "embedding:NAME" before anything else reads them. */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "core/text.h"
#include "engine/engine_priv.h"

enum { MAX_NAMES = 4096 };

typedef struct names {
    char *items[MAX_NAMES];
    int count;
} names;

/* --- which names there are -------------------------------------------------------------------------------------------- */
/* "bad-hands.pt" gives 9; 0: no embedding's file. */
static size_t stem_of(const char *file) {
    const size_t length = strlen(file);
    for (int i = 0; i < TSR__EMBEDDING_ENDINGS; i++)
        if (*tsr__embedding_endings[i] && tsr__ends_with(file, length, tsr__embedding_endings[i]))
            return length - strlen(tsr__embedding_endings[i]);
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
    tsr_status status = TSR_OK;
    char *folder = NULL;
    for (int i = 0; i < TSR__EMBEDDING_FOLDERS; i++) {
        folder = tsr__embedding_folder(engine, i);
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

tsr_status tsr__embedding_words(char **out, const tsr_engine *engine, const char *prompt, tsr_error *err) {
    tsr_status status = TSR_OK;
    names *list = NULL;
    tsr__growing_text text = { 0 };
    *out = NULL;
    TSR_ALLOC_ZERO(err, list, 1);
    TSR_TRY(list_names(list, engine, err));
    TSR_TRY(tsr__growing_add(&text, "", 0, err));
    for (const char *at = prompt; *at;) {
        const char *name = name_at(list, prompt, at);
        if (!name) {
            TSR_TRY(tsr__growing_add(&text, at++, 1, err));
            continue;
        }
        /* The mark counts at the start of a text or behind white space; the name ends at white space. */
        const char before = text.used ? text.data[text.used - 1] : ' ';
        if (!isspace((unsigned char)before) && before != '(') TSR_TRY(tsr__growing_add(&text, " ", 1, err));
        TSR_TRY(tsr__growing_add(&text, "embedding:", 10, err));
        TSR_TRY(tsr__growing_add(&text, name, strlen(name), err));
        at += strlen(name);
        if (*at && !isspace((unsigned char)*at) && *at != ')') TSR_TRY(tsr__growing_add(&text, " ", 1, err));
    }
    *out = text.data;
    text.data = NULL;
done:
    for (int i = 0; list && i < list->count; i++) free(list->items[i]);
    free(list);
    free(text.data);
    return status;
}
