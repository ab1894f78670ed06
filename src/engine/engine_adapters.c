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
    size_t values; /* of its terms, about */
} adapter;

struct tsr__adapter_set {
    adapter items[MAX_ADAPTERS];
    int count;
    int text_bound, unet_bound; /* the terms are there */
    int seen;                   /* networks that they were made for, since the files were opened */
    int checked;                /* against all networks */
    char *warning;              /* not told yet */
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
        a->values = tsr__lora_term_values(a->lora);
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

/* The networks that the engine has: one of a file of its own has not all. */
static int networks_of(const tsr_engine *engine) {
    return (engine->checkpoint.parts[TSR_PART_UNET].tensors ? TSR__LORA_UNET : 0) |
           (engine->checkpoint.parts[TSR_PART_TEXT].tensors ? TSR__LORA_TEXT : 0);
}

/* When all networks have been seen, what no layer took is known. */
static tsr_status settle(tsr__adapter_set *set, const tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    const int networks = networks_of(engine);
    if (!set->checked && (set->seen & networks) != networks) return TSR_OK;
    for (int i = 0; i < set->count && !set->checked; i++) {
        const adapter *a = &set->items[i];
        const char *first = NULL;
        TSR_TRY(tsr__lora_require_used(a->lora, networks, err));
        const size_t unused = tsr__lora_unused_of(a->lora, networks, &first);
        if (!unused) continue;
        char *line = tsr__format("%s%s%s: %zu of its %zu layers are not in the model and are left out (%s)",
                                 set->warning ? set->warning : "", set->warning ? "; " : "", a->path, unused,
                                 tsr__lora_unused(a->lora) + tsr__lora_used(a->lora), first);
        free(set->warning);
        set->warning = line;
        if (!line) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    set->checked = 1;
    for (int i = 0; i < set->count; i++) close_file(&set->items[i]);
done:
    return status;
}

/* The terms of one network, of all adapters. */
static tsr_status bind_network(tsr__nn_terms **terms, tsr__adapter_set *set, tsr_engine *engine, tsr__nn *nn,
                               const tsr__weight_log *log, int is_text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__net_adapter adapters[MAX_ADAPTERS];
    for (int k = 0; k < set->count; k++) {
        adapters[k].lora = set->items[k].lora;
        adapters[k].strength = (float)(is_text ? set->items[k].clip : set->items[k].model);
    }
    tsr__nn_terms_free(*terms);
    *terms = NULL;
    TSR_TRY(tsr__nn_terms_new(terms, nn, err));
    if (log) TSR_TRY(tsr__net_terms_add(*terms, nn, log, engine->weights, adapters, set->count, err));
done:
    if (status != TSR_OK) {
        tsr__nn_terms_free(*terms);
        *terms = NULL;
    }
    return status;
}

tsr_status tsr__adapters_bind_text(tsr__adapter_set *set, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!set || set->text_bound) return TSR_OK;
    TSR_TRY(tsr__engine_need_text(engine, err));
    TSR_TRY(need_files(set, err));
    for (int i = 0; i < ENCODERS; i++)
        TSR_TRY(bind_network(&set->text[i], set, engine, engine->text_nn, tsr__text_weights(engine->text, i), 1, err));
    set->text_bound = 1;
    set->seen |= TSR__LORA_TEXT;
    TSR_TRY(settle(set, engine, err));
done:
    return status;
}

tsr_status tsr__adapters_bind_unet(tsr__adapter_set *set, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!set || set->unet_bound) return TSR_OK;
    TSR_TRY(tsr__engine_need_unet(engine, err));
    TSR_TRY(need_files(set, err));
    TSR_TRY(bind_network(&set->unet, set, engine, engine->nn, tsr__unet_weights(engine->unet), 0, err));
    set->unet_bound = 1;
    set->seen |= TSR__LORA_UNET;
    TSR_TRY(settle(set, engine, err));
done:
    return status;
}

tsr_status tsr__adapters_bind(tsr__adapter_set *set, tsr_engine *engine, char **warning, tsr_error *err) {
    const int networks = networks_of(engine);
    tsr_status status = TSR_OK;
    *warning = NULL;
    if (networks & TSR__LORA_TEXT) status = tsr__adapters_bind_text(set, engine, err);
    if (status == TSR_OK && networks & TSR__LORA_UNET) status = tsr__adapters_bind_unet(set, engine, err);
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
