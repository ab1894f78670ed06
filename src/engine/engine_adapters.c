/* engine/engine_adapters.c - lists of adapter files: parsed, found, opened, and made terms beside an engine's networks. */
#include "engine/engine_adapters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "engine/engine_priv.h"
#include "model/net_terms.h"
#include "weights/pth.h"

enum { MAX_ADAPTERS = 64, ENCODERS = 2 };

typedef struct adapter {
    char *path;
    double model, clip;
    tsr__weights *file; /* NULL once the terms are made */
    tsr__lora *lora;
    size_t values; /* in the file */
} adapter;

struct tsr__adapter_set {
    adapter items[MAX_ADAPTERS];
    int count;
    int text_bound, unet_bound; /* the terms are there */
    int text_seen, unet_seen;   /* they were, since the files were opened */
    int checked;                /* against both networks */
    char *warning;              /* not told yet */
    int needs_merging;          /* some file is DoRA */
    tsr__nn_terms *unet, *text[ENCODERS];
    struct tsr__adapter_set *next;
};

static void close_file(adapter *a) {
    tsr__lora_free(a->lora);
    tsr__weights_close(a->file);
    a->lora = NULL;
    a->file = NULL;
}

static void free_set(tsr__adapter_set *set) {
    if (!set) return;
    for (int i = 0; i < set->count; i++) {
        close_file(&set->items[i]);
        free(set->items[i].path);
    }
    tsr__nn_terms_free(set->unet);
    for (int i = 0; i < ENCODERS; i++) tsr__nn_terms_free(set->text[i]);
    free(set->warning);
    free(set);
}

const char *tsr__adapters_file(const tsr__adapter_set *set, int index) {
    return set && index >= 0 && index < set->count ? set->items[index].path : NULL;
}

int tsr__adapters_need_merging(const tsr__adapter_set *set) {
    return set && set->needs_merging;
}

tsr_status tsr__adapters_list(tsr_adapter **out, int *n, const tsr__adapter_set *set, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, set->count + 1);
    for (int i = 0; i < set->count; i++) {
        (*out)[i].path = set->items[i].path;
        (*out)[i].strength_model = (float)set->items[i].model;
        (*out)[i].strength_clip = (float)set->items[i].clip;
    }
    *n = set->count;
done:
    return status;
}

void tsr__adapters_free_all(tsr_engine *engine) {
    while (engine->adapters) {
        tsr__adapter_set *next = engine->adapters->next;
        free_set(engine->adapters);
        engine->adapters = next;
    }
}

/* --- lists ---------------------------------------------------------------------------------------------------------------- */
/* Cuts ":NUMBER" off the end of text. 1 when there was one. */
static int cut_number(char *text, double *number) {
    char *colon = strrchr(text, ':'), *end = NULL;
    if (!colon || !colon[1]) return 0;
    double value = strtod(colon + 1, &end);
    if (*end || !isfinite(value)) return 0;
    *colon = '\0';
    *number = value;
    return 1;
}

/* "FILE", "FILE:STRENGTH" or "FILE:MODEL:CLIP". */
static tsr_status parse_item(adapter *out, const char *text, size_t length, const char *who, tsr_error *err) {
    tsr_status status = TSR_OK;
    double last = 1.0, before = 1.0;
    out->path = tsr__format("%.*s", (int)length, text);
    if (!out->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (cut_number(out->path, &last)) {
        out->model = out->clip = last;
        if (cut_number(out->path, &before)) out->model = before;
    } else {
        out->model = out->clip = 1.0;
    }
    if (!*out->path) TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: lora '%.*s' names no file", who, (int)length, text);
    if (fabs(out->model) > 100.0 || fabs(out->clip) > 100.0)
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "%s: lora %s: a strength of %g; -100 to 100 are taken", who, out->path,
                 fabs(out->model) > fabs(out->clip) ? out->model : out->clip);
done:
    return status;
}

static tsr_status parse_list(tsr__adapter_set *set, const char *list, const char *who, tsr_error *err) {
    tsr_status status = TSR_OK;
    while (*list) {
        size_t length = strcspn(list, ";");
        while (length && *list == ' ') list++, length--;
        if (length) {
            if (set->count == MAX_ADAPTERS)
                TSR_FAIL(err, TSR_TOO_LARGE, "%s: more than %d adapters", who, MAX_ADAPTERS);
            TSR_TRY(parse_item(&set->items[set->count++], list, length, who, err));
        }
        list += length;
        if (*list == ';') list++;
    }
done:
    return status;
}

/* --- files ---------------------------------------------------------------------------------------------------------------- */
static tsr_status find_files(tsr__adapter_set *set, const tsr_engine *engine, tsr_error *err) {
    for (int i = 0; i < set->count; i++) {
        char *found = tsr__find_beside(engine, "loras", set->items[i].path);
        if (!found) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        free(set->items[i].path);
        set->items[i].path = found;
    }
    return TSR_OK;
}

static tsr_status open_files(tsr__adapter_set *set, const char *who, tsr_error *err) {
    tsr_error inner = TSR_ERROR_INIT;
    for (int i = 0; i < set->count; i++) {
        adapter *a = &set->items[i];
        tsr_status status = tsr__weights_open_any(&a->file, a->path, &inner);
        if (status == TSR_OK) status = tsr__lora_open(&a->lora, a->file, &inner);
        if (status != TSR_OK) return tsr__fail(err, status, "%s: lora %s", who, inner.message);
        a->values = 0;
        for (size_t k = 0; k < tsr__weights_count(a->file); k++) a->values += tsr__weights_at(a->file, k)->count;
        set->needs_merging |= tsr__lora_is_dora(a->lora);
    }
    return TSR_OK;
}

static int same_sets(const tsr__adapter_set *a, const tsr__adapter_set *b) {
    if (a->count != b->count) return 0;
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->items[i].path, b->items[i].path) != 0 || a->items[i].model != b->items[i].model ||
            a->items[i].clip != b->items[i].clip)
            return 0;
    return 1;
}

/* Takes `made` over: kept, or freed where an equal set is there. */
static tsr_status keep_set(tsr__adapter_set **out, tsr_engine *engine, tsr__adapter_set *made, const char *who,
                           tsr_error *err) {
    tsr_status status = find_files(made, engine, err);
    if (status != TSR_OK) {
        free_set(made);
        return status;
    }
    for (tsr__adapter_set *at = engine->adapters; at; at = at->next) {
        if (!same_sets(at, made)) continue;
        free_set(made);
        *out = at;
        return TSR_OK;
    }
    status = open_files(made, who, err);
    if (status != TSR_OK) {
        free_set(made);
        return status;
    }
    made->next = engine->adapters;
    engine->adapters = made;
    *out = made;
    return TSR_OK;
}

tsr_status tsr__adapters_get(tsr__adapter_set **out, tsr_engine *engine, const char *list, const char *who,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__adapter_set *made = NULL;
    *out = NULL;
    if (!list || !*list) return TSR_OK;
    TSR_ALLOC_ZERO(err, made, 1);
    TSR_TRY(parse_list(made, list, who, err));
    if (made->count) {
        status = keep_set(out, engine, made, who, err);
        made = NULL;
    }
done:
    free_set(made);
    return status;
}

tsr_status tsr__adapters_get_files(tsr__adapter_set **out, tsr_engine *engine, const tsr_adapter *adapters, int n,
                                   tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__adapter_set *made = NULL;
    *out = NULL;
    if (n < 1) return TSR_OK;
    if (n > MAX_ADAPTERS) return tsr__fail(err, TSR_TOO_LARGE, "more than %d adapters", MAX_ADAPTERS);
    TSR_ALLOC_ZERO(err, made, 1);
    for (; made->count < n; made->count++) {
        adapter *a = &made->items[made->count];
        a->model = (double)adapters[made->count].strength_model;
        a->clip = (double)adapters[made->count].strength_clip;
        a->path = tsr__strdup(adapters[made->count].path);
        if (!a->path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    status = keep_set(out, engine, made, "adapter", err);
    made = NULL;
done:
    free_set(made);
    return status;
}

/* --- terms ---------------------------------------------------------------------------------------------------------------- */
static tsr_status need_files(tsr__adapter_set *set, tsr_error *err) {
    return set->count == 0 || set->items[0].lora ? TSR_OK : open_files(set, "again", err);
}

/* When text encoders and UNet have both been seen, what no layer took is known. */
static tsr_status settle(tsr__adapter_set *set, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!set->checked && !(set->text_seen && set->unet_seen)) return TSR_OK;
    for (int i = 0; i < set->count && !set->checked; i++) {
        const adapter *a = &set->items[i];
        TSR_TRY(tsr__lora_require_used(a->lora, err));
        if (!tsr__lora_unused(a->lora) || set->warning) continue;
        set->warning =
            tsr__format("%s: %zu of its %zu layers have no place beside the model's weights and are left "
                        "out (%s)",
                        a->path, tsr__lora_unused(a->lora), tsr__lora_unused(a->lora) + tsr__lora_used(a->lora),
                        tsr__lora_first_unused(a->lora));
        if (!set->warning) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    set->checked = 1;
    for (int i = 0; i < set->count; i++) close_file(&set->items[i]);
done:
    return status;
}

tsr_status tsr__adapters_bind_text(tsr__adapter_set *set, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!set || set->text_bound) return TSR_OK;
    TSR_TRY(tsr__engine_need_text(engine, err));
    TSR_TRY(need_files(set, err));
    for (int i = 0; i < ENCODERS; i++) {
        const tsr__weight_log *weights = tsr__text_weights(engine->text, i);
        if (!set->text[i]) TSR_TRY(tsr__nn_terms_new(&set->text[i], engine->text_nn, err));
        for (int k = 0; weights && k < set->count; k++)
            TSR_TRY(tsr__net_terms_add(set->text[i], engine->text_nn, weights, set->items[k].lora,
                                       (float)set->items[k].clip, err));
    }
    set->text_bound = set->text_seen = 1;
    TSR_TRY(settle(set, err));
done:
    return status;
}

tsr_status tsr__adapters_bind_unet(tsr__adapter_set *set, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!set || set->unet_bound) return TSR_OK;
    TSR_TRY(tsr__engine_need_unet(engine, err));
    TSR_TRY(need_files(set, err));
    if (!set->unet) TSR_TRY(tsr__nn_terms_new(&set->unet, engine->nn, err));
    for (int k = 0; k < set->count; k++)
        TSR_TRY(tsr__net_terms_add(set->unet, engine->nn, tsr__unet_weights(engine->unet), set->items[k].lora,
                                   (float)set->items[k].model, err));
    set->unet_bound = set->unet_seen = 1;
    TSR_TRY(settle(set, err));
done:
    return status;
}

tsr_status tsr__adapters_bind(tsr__adapter_set *set, tsr_engine *engine, char **warning, tsr_error *err) {
    *warning = NULL;
    tsr_status status = tsr__adapters_bind_text(set, engine, err);
    if (status == TSR_OK) status = tsr__adapters_bind_unet(set, engine, err);
    if (status == TSR_OK) *warning = tsr__adapters_take_warning(set);
    return status;
}

char *tsr__adapters_take_warning(tsr__adapter_set *set) {
    char *warning = set ? set->warning : NULL;
    if (set) set->warning = NULL;
    return warning;
}

void tsr__adapters_unbind(tsr_engine *engine, tsr__network part) {
    for (tsr__adapter_set *set = engine->adapters; set; set = set->next) {
        if (part == TSR__NETWORK_UNET) {
            tsr__nn_terms_free(set->unet);
            set->unet = NULL;
            set->unet_bound = 0;
        }
        for (int i = 0; i < ENCODERS && part == TSR__NETWORK_TEXT; i++) {
            tsr__nn_terms_free(set->text[i]);
            set->text[i] = NULL;
            set->text_bound = 0;
        }
    }
}

size_t tsr__adapters_bytes(const tsr_engine *engine) {
    size_t bytes = 0, each = tsr__nn_precision(engine->nn) == TSR__BF16 ? 2 : 4;
    for (const tsr__adapter_set *set = engine->adapters; set; set = set->next)
        for (int i = 0; i < set->count; i++) bytes += set->items[i].values * each;
    return bytes;
}

const tsr__nn_terms *tsr__adapters_unet(const tsr__adapter_set *set) {
    return set ? set->unet : NULL;
}

const tsr__nn_terms *tsr__adapters_text(const tsr__adapter_set *set, int encoder) {
    return set ? set->text[encoder] : NULL;
}

/* --- prompts -------------------------------------------------------------------------------------------------------------- */
/* "<lora:NAME:STRENGTH>" at text: its length, and NAME:STRENGTH; 0 when it is none. A1111's lyco: is the same. */
static size_t tag_at(const char *text, const char **inside, size_t *inside_length) {
    static const char *const starts[] = { "<lora:", "<lyco:" };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        size_t start = strlen(starts[i]);
        if (strncmp(text, starts[i], start) != 0) continue;
        *inside = text + start;
        *inside_length = strcspn(*inside, "<>\n;");
        if ((*inside)[*inside_length] != '>' || !*inside_length) return 0;
        return start + *inside_length + 1;
    }
    return 0;
}

/* Whether a name leads upwards or starts at the root. */
static int leaves_folder(const char *name, size_t length) {
    for (size_t i = 0; i + 1 < length; i++)
        if (name[i] == '.' && name[i + 1] == '.') return 1;
    return *name == '/';
}

tsr_status tsr__adapters_from_prompt(char **clean, char **list, const char *prompt, tsr_error *err) {
    tsr_status status = TSR_OK;
    size_t used = 0, listed = 0, size = strlen(prompt) + 1;
    char *text = NULL, *names = NULL;
    *clean = *list = NULL;
    TSR_ALLOC_ZERO(err, text, size);
    TSR_ALLOC_ZERO(err, names, size);
    while (*prompt) {
        const char *inside = NULL;
        size_t length = 0, tag = tag_at(prompt, &inside, &length);
        if (!tag) {
            text[used++] = *prompt++;
            continue;
        }
        if (leaves_folder(inside, length))
            TSR_FAIL(err, TSR_BAD_ARGUMENT, "<lora:%.*s>: a name below loras/ is needed", (int)length, inside);
        if (listed) names[listed++] = ';';
        memcpy(names + listed, inside, length);
        listed += length;
        prompt += tag;
    }
    *clean = text;
    *list = names;
    text = names = NULL;
done:
    free(text);
    free(names);
    return status;
}
