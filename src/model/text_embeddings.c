/* model/text_embeddings.c - see text_embeddings.h.
 *
 *   A1111       string_to_param: { "*": [n, width] }
 *   diffusers   "<name>": [width] or [n, width]
 *   kohya       emb_params: [n, width]
 *   SDXL        clip_l: [n, 768], clip_g: [n, 1280]
 *   older .pt   a tensor alone, or a list of tensors or dicts, which follow each other */
#include "model/text_embeddings.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "weights/pth.h"

typedef struct embedding {
    char *name;
    int first, count;
    float *values[TSR__EMBEDDING_ENCODERS]; /* [count, width] */
    struct embedding *next;
} embedding;

struct tsr__embeddings {
    int widths[TSR__EMBEDDING_ENCODERS], encoders;
    const char *keys[TSR__EMBEDDING_ENCODERS];
    tsr__embedding_path_fn find;
    void *user;
    embedding *read;
    const float **rows[TSR__EMBEDDING_ENCODERS]; /* [count] */
    int count;
};

tsr_status tsr__embeddings_new(tsr__embeddings **out, const int *widths, const char *const *keys, int encoders,
                               tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->encoders = encoders;
    for (int i = 0; i < encoders; i++) {
        (*out)->widths[i] = widths[i];
        (*out)->keys[i] = keys[i];
    }
done:
    return status;
}

static void free_embedding(embedding *e) {
    if (!e) return;
    for (int i = 0; i < TSR__EMBEDDING_ENCODERS; i++) free(e->values[i]);
    free(e->name);
    free(e);
}

void tsr__embeddings_free(tsr__embeddings *embeddings) {
    if (!embeddings) return;
    while (embeddings->read) {
        embedding *next = embeddings->read->next;
        free_embedding(embeddings->read);
        embeddings->read = next;
    }
    for (int i = 0; i < TSR__EMBEDDING_ENCODERS; i++) free(embeddings->rows[i]);
    free(embeddings);
}

void tsr__embeddings_look(tsr__embeddings *embeddings, tsr__embedding_path_fn find, void *user) {
    embeddings->find = find;
    embeddings->user = user;
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */

static int fits(const tsr__tensor_view *view, int width) {
    return view && tsr__dtype_is_float(view->dtype) && (view->rank == 1 || view->rank == 2) &&
           view->shape[view->rank - 1] == width && view->count > 0;
}

/* The tensor for an encoder: A1111's, the encoder's own, else the first of its width. NULL: none. */
static const tsr__tensor_view *choose(const tsr__weights *weights, const char *key, int width) {
    static const char A1111[] = "string_to_param.";
    for (size_t i = 0; i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (strncmp(view->name, A1111, sizeof A1111 - 1) == 0 && fits(view, width)) return view;
    }
    if (fits(tsr__weights_find(weights, key), width)) return tsr__weights_find(weights, key);
    for (size_t i = 0; i < tsr__weights_count(weights); i++)
        if (fits(tsr__weights_at(weights, i), width)) return tsr__weights_at(weights, i);
    return NULL;
}

static int is_listed(const tsr__tensor_view *view) {
    return strncmp(view->name, "list.", 5) == 0;
}

/* How many values an encoder gets: the first tensor's, or of a list all that fit. */
static size_t count_values(const tsr__weights *weights, const tsr__tensor_view *first, int width) {
    size_t count = first->count;
    for (size_t i = 0; is_listed(first) && i < tsr__weights_count(weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (view != first && is_listed(view) && fits(view, width)) count += view->count;
    }
    return count;
}

static tsr_status copy_values(float *to, const tsr__weights *weights, const tsr__tensor_view *first, int width,
                              tsr_error *err) {
    if (!is_listed(first)) return tsr__tensor_to_f32(first, to, err);
    for (size_t i = 0; i < tsr__weights_count(weights); i++) { /* sorted by name, which is the list's order */
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (!is_listed(view) || !fits(view, width)) continue;
        tsr_status status = tsr__tensor_to_f32(view, to, err);
        if (status != TSR_OK) return status;
        to += view->count;
    }
    return TSR_OK;
}

static tsr_status read_values(embedding *e, const tsr__embeddings *embeddings, const tsr__weights *weights,
                              tsr_error *err) {
    tsr_status status = TSR_OK;
    for (int i = 0; i < embeddings->encoders; i++) {
        const int width = embeddings->widths[i];
        const tsr__tensor_view *view = choose(weights, embeddings->keys[i], width);
        if (!view)
            TSR_FAIL(err, TSR_UNSUPPORTED,
                     "%s: holds no vectors of %d values, which this model's text encoder \"%s\" takes: it is made for "
                     "another kind of model",
                     tsr__weights_path(weights), width, embeddings->keys[i]);
        const size_t values = count_values(weights, view, width), count = values / (size_t)width;
        if (count > TSR__EMBEDDING_MAX_ROWS || (i && count != (size_t)e->count))
            TSR_FAIL(err, TSR_UNSUPPORTED, "%s: \"%s\" is %zu vectors; %d to %d are taken", tsr__weights_path(weights),
                     view->name, count, i ? e->count : 1, i ? e->count : TSR__EMBEDDING_MAX_ROWS);
        e->count = (int)count;
        TSR_ALLOC(err, e->values[i], values);
        TSR_TRY(copy_values(e->values[i], weights, view, width, err));
    }
done:
    return status;
}

/* Takes the embedding into the table of rows, numbered behind those that are there. */
static tsr_status number_rows(tsr__embeddings *embeddings, embedding *e, tsr_error *err) {
    const size_t all = (size_t)embeddings->count + (size_t)e->count;
    e->first = embeddings->count;
    for (int i = 0; i < embeddings->encoders; i++) {
        const float **grown = realloc(embeddings->rows[i], all * sizeof *grown);
        if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        embeddings->rows[i] = grown;
        for (int k = 0; k < e->count; k++)
            grown[e->first + k] = e->values[i] + (size_t)k * (size_t)embeddings->widths[i];
    }
    embeddings->count = (int)all;
    e->next = embeddings->read;
    embeddings->read = e;
    return TSR_OK;
}

/* *out stays NULL when there is no such file. Takes name over. */
static tsr_status read_file(embedding **out, tsr__embeddings *embeddings, char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    embedding *made = NULL;
    tsr__weights *weights = NULL;
    char *path = NULL;
    TSR_TRY(embeddings->find(embeddings->user, name, &path, err));
    if (!path) goto done;
    TSR_TRY(tsr__weights_open_any(&weights, path, err));
    TSR_ALLOC_ZERO(err, made, 1);
    TSR_TRY(read_values(made, embeddings, weights, err));
    TSR_TRY(number_rows(embeddings, made, err));
    made->name = name;
    *out = made;
    made = NULL;
    name = NULL;
done:
    tsr__weights_close(weights);
    free_embedding(made);
    free(path);
    free(name);
    return status;
}

static tsr_status find_rows(void *user, const char *name, size_t length, int *found, int *first, int *count,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__embeddings *embeddings = user;
    embedding *e = embeddings->read;
    *found = 0;
    while (e && (strlen(e->name) != length || memcmp(e->name, name, length) != 0)) e = e->next;
    if (!e && embeddings->find) {
        char *copy = tsr__format("%.*s", (int)length, name);
        if (!copy) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
        TSR_TRY(read_file(&e, embeddings, copy, err));
    }
    if (!e) goto done;
    *found = 1;
    *first = e->first;
    *count = e->count;
done:
    return status;
}

tsr__embedding_source tsr__embeddings_source(tsr__embeddings *embeddings) {
    return (tsr__embedding_source){ embeddings, find_rows };
}

const float *const *tsr__embeddings_rows(const tsr__embeddings *embeddings, int encoder, int *count) {
    *count = embeddings->count;
    return embeddings->rows[encoder];
}
