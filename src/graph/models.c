/* graph/models.c - what MODEL, CLIP and VAE values stand for: engines, each opened once, and texts bound to them. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* --- slots ---------------------------------------------------------------------------------------------------------------- */
static void clear_bound(tsr__slot *slot) {
    while (slot->bound) {
        tsr__bound *next = slot->bound->next;
        tsr__unet_context_free(slot->bound->cond->context);
        tsr__controls_drop(slot->bound->cond);
        free(slot->bound->cond->values);
        free(slot->bound->cond->pooled);
        free(slot->bound->cond->prompt);
        free(slot->bound->cond);
        tsr__text_unref(slot->bound->text);
        tsr__control_unref(slot->bound->control);
        tsr__value_unref(slot->bound->concat);
        free(slot->bound);
        slot->bound = next;
    }
    while (slot->pairs) {
        tsr__pair *next = slot->pairs->next;
        tsr__cond_pair_free(slot->pairs->pair);
        for (int i = 0; i < 2; i++) tsr__value_unref(slot->pairs->sides[i]);
        free(slot->pairs);
        slot->pairs = next;
    }
    tsr__slot_free_faces(slot);
}

static void free_slot(tsr__slot *slot) {
    if (!slot) return;
    clear_bound(slot);
    tsr_engine_close(slot->engine);
    for (int i = 0; i < slot->n_adapters; i++) free(slot->adapters[i].path);
    free(slot->adapters);
    if (slot->base) slot->base->refs--;
    free(slot->checkpoint);
    free(slot->second);
    free(slot->warning);
    free(slot->key);
    free(slot);
}

void tsr__slots_free(tsr_graph *graph) {
    while (graph->slots) {
        tsr__slot *next = graph->slots->next;
        free_slot(graph->slots);
        graph->slots = next;
    }
}

void tsr__slot_refs(tsr__slot *slot, int change) {
    slot->refs += change;
}

/* What others made with it goes first. */
static void close_engine(tsr_graph *graph, tsr__slot *slot) {
    for (tsr__slot *at = graph->slots; at; at = at->next) {
        if (at != slot && at->base != slot) continue;
        clear_bound(at);
        at->set = NULL;
    }
    tsr_engine_close(slot->engine);
    slot->engine = NULL;
}

tsr_engine *tsr__slot_now(const tsr__slot *slot) {
    return slot->base ? slot->base->engine : slot->engine;
}

/* Values may stand for a slot whose engine is closed; it is opened again when one is used. */
static void free_unused(tsr_graph *graph) {
    tsr__slot **at = &graph->slots;
    while (*at) {
        tsr__slot *slot = *at;
        if (slot->engine || slot->refs || slot->last_run == graph->runs) {
            at = &slot->next;
        } else {
            *at = slot->next;
            free_slot(slot);
        }
    }
}

static tsr__slot *longest_idle(const tsr_graph *graph) {
    tsr__slot *found = NULL;
    for (tsr__slot *at = graph->slots; at; at = at->next)
        if (at->engine && at->last_run != graph->runs && (!found || at->last_run < found->last_run)) found = at;
    return found;
}

static size_t idle_bytes(const tsr_graph *graph) {
    size_t bytes = 0;
    for (const tsr__slot *at = graph->slots; at; at = at->next)
        if (at->engine && at->last_run != graph->runs) bytes += tsr__engine_bytes(at->engine);
    return bytes;
}

void tsr__slots_end_run(tsr_graph *graph) {
    for (tsr__slot *slot = graph->slots; slot; slot = slot->next) {
        clear_bound(slot);
        if (slot->engine) slot->engine->callbacks = NULL;
    }
    graph->painter = NULL;
    for (tsr__slot *idle = longest_idle(graph); idle && idle_bytes(graph) > graph->model_memory;
         idle = longest_idle(graph))
        close_engine(graph, idle);
    free_unused(graph);
}

void tsr__slots_close_engines(tsr_graph *graph) {
    for (tsr__slot *slot = graph->slots; slot; slot = slot->next) {
        close_engine(graph, slot);
        slot->last_run = 0;
    }
    free_unused(graph);
}

size_t tsr__slots_bytes(const tsr_graph *graph, int *count_out) {
    size_t bytes = 0;
    *count_out = 0;
    for (const tsr__slot *slot = graph->slots; slot; slot = slot->next) {
        if (!slot->engine) continue;
        bytes += tsr__engine_bytes(slot->engine);
        (*count_out)++;
    }
    return bytes;
}

/* A file that can be read is told with its time and size: one that was replaced is another model. */
static char *name_file(const char *path) {
    char *identity = tsr__file_identity(path, NULL);
    return identity ? identity : tsr__strdup(path);
}

/* What a slot is opened from. */
typedef struct source {
    tsr__slot_role role;
    const char *checkpoint, *second;
} source;

static char *key_of(source from, const tsr__adapter *adapters, int n) {
    char *first = name_file(from.checkpoint), *second = from.second ? name_file(from.second) : tsr__strdup("");
    char *key = first && second ? tsr__format("%d|%s|%s", (int)from.role, first, second) : NULL;
    free(first);
    free(second);
    for (int i = 0; key && i < n; i++) {
        char *file = name_file(adapters[i].path);
        char *more = file ? tsr__format("%s|%s|%.9g|%.9g", key, file, adapters[i].model, adapters[i].clip) : NULL;
        free(file);
        free(key);
        key = more;
    }
    return key;
}

static tsr_status get(tsr__slot **out, tsr_graph *graph, source from, const tsr__adapter *adapters, int n,
                      tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__slot *slot = NULL;
    char *key = key_of(from, adapters, n);
    *out = NULL;
    if (!key) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    for (tsr__slot *at = graph->slots; at && !*out; at = at->next)
        if (strcmp(at->key, key) == 0) *out = at;
    if (*out) {
        (*out)->last_run = graph->runs;
        goto done;
    }
    TSR_ALLOC_ZERO(err, slot, 1);
    slot->role = from.role;
    slot->checkpoint = tsr__strdup(from.checkpoint);
    slot->second = tsr__strdup(from.second);
    TSR_ALLOC_ZERO(err, slot->adapters, n + 1);
    for (int i = 0; i < n; i++) {
        slot->adapters[i] = adapters[i];
        slot->adapters[i].path = tsr__strdup(adapters[i].path);
        slot->n_adapters = i + 1;
        if (!slot->adapters[i].path) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    }
    if (!slot->checkpoint || (from.second && !slot->second)) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (n) { /* the model itself is opened once for all its adapters */
        TSR_TRY(get(&slot->base, graph, from, NULL, 0, err));
        slot->base->refs++;
    }
    slot->key = key;
    key = NULL;
    slot->last_run = graph->runs;
    slot->next = graph->slots;
    graph->slots = *out = slot;
    slot = NULL;
done:
    free_slot(slot);
    free(key);
    return status;
}

tsr_status tsr__slot_get(tsr__slot **out, tsr_graph *graph, const char *checkpoint, tsr_error *err) {
    const source from = { TSR__SLOT_WHOLE, checkpoint, NULL };
    return get(out, graph, from, NULL, 0, err);
}

tsr_status tsr__slot_get_part(tsr__slot **out, tsr_graph *graph, tsr__slot_role role, const char *path,
                              const char *second, tsr_error *err) {
    const source from = { role, path, second };
    return get(out, graph, from, NULL, 0, err);
}

tsr_status tsr__slot_adapt(tsr__slot **out, tsr_graph *graph, const tsr__slot *slot, const char *path, double model,
                           double clip, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__adapter *adapters = NULL;
    int n = slot->n_adapters;
    *out = NULL;
    TSR_ALLOC_ZERO(err, adapters, n + 1);
    memcpy(adapters, slot->adapters, (size_t)n * sizeof *adapters);
    tsr__adapter added = { (char *)(uintptr_t)path, model, clip };
    adapters[n] = added;
    const source from = { slot->role, slot->checkpoint, slot->second };
    TSR_TRY(get(out, graph, from, adapters, n + 1, err));
done:
    free(adapters);
    return status;
}

/* The slot's adapters as the engine's options take them; released with free(). */
static tsr_status list_adapters(tsr_adapter **out, const tsr__slot *slot, tsr_error *err) {
    tsr_status status = TSR_OK;
    *out = NULL;
    TSR_ALLOC_ZERO(err, *out, slot->n_adapters + 1);
    for (int i = 0; i < slot->n_adapters; i++) {
        tsr_adapter adapter = { slot->adapters[i].path, (float)slot->adapters[i].model, (float)slot->adapters[i].clip };
        (*out)[i] = adapter;
    }
done:
    return status;
}

static tsr_status open_engine(tsr__slot *slot, tsr_graph *graph, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine_options options = TSR_ENGINE_OPTIONS_INIT;
    switch (slot->role) {
    case TSR__SLOT_WHOLE: options.model = slot->checkpoint; break;
    case TSR__SLOT_UNET: options.parts.unet = slot->checkpoint; break;
    case TSR__SLOT_TEXT: options.parts.text_encoder = slot->checkpoint; break;
    case TSR__SLOT_VAE: options.parts.vae = slot->checkpoint; break;
    }
    if (slot->role == TSR__SLOT_TEXT) options.parts.text_encoder_2 = slot->second; /* a TAESD's is found beside it */
    options.partial = slot->role != TSR__SLOT_WHOLE;
    options.precision = graph->precision;
    options.threads = graph->threads;
    TSR_TRY(tsr_engine_open(&slot->engine, &options, err));
    tsr__budget_join(slot->engine, &graph->budget);
    status = tsr__budget_check_parts(slot->engine, err);
    if (status == TSR_OK) goto done;
    tsr_engine_close(slot->engine);
    slot->engine = NULL;
done:
    return status;
}

/* Terms beside the base's weights; under a memory budget each network's when its turn comes. */
static tsr_status make_set(tsr__slot *slot, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_adapter *adapters = NULL;
    TSR_TRY(list_adapters(&adapters, slot, err));
    TSR_TRY(tsr__adapters_get_files(&slot->set, engine, adapters, slot->n_adapters, err));
    free(slot->warning);
    slot->warning = NULL;
    if (!tsr__budget_is_on(engine)) TSR_TRY(tsr__adapters_bind(slot->set, engine, &slot->warning, err));
done:
    if (status != TSR_OK) slot->set = NULL;
    free(adapters);
    return status;
}

tsr_status tsr__slot_engine(tsr_engine **out, tsr_graph *graph, tsr__slot *slot, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    *out = NULL;
    slot->last_run = graph->runs;
    if (slot->base) {
        TSR_TRY(tsr__slot_engine(&engine, graph, slot->base, err));
        if (!slot->set) TSR_TRY(make_set(slot, engine, err));
    } else {
        if (!slot->engine) TSR_TRY(open_engine(slot, graph, err));
        engine = slot->engine;
    }
    engine->callbacks = graph->callbacks;
    *out = engine;
done:
    return status;
}

tsr_status tsr__slots_tell(const tsr__call *call, tsr_error *err) {
    tsr_status status = TSR_OK;
    for (tsr__slot *slot = call->graph->slots; slot && status == TSR_OK; slot = slot->next) {
        if (!slot->warning) slot->warning = tsr__adapters_take_warning(slot->set);
        if (!slot->warning) continue;
        status = tsr__call_note(call, slot->warning, err);
        free(slot->warning);
        slot->warning = NULL;
    }
    return status;
}

/* --- texts ---------------------------------------------------------------------------------------------------------------- */
/* Makes what the network reads of a text, and says when it is one of another family. */
static tsr_status read_text(tsr__conditioning *cond, const tsr__slot *slot, tsr_engine *engine, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr__adapters_bind_unet(cond->adapters, engine, err));
    TSR_TRY(tsr__engine_need_unet(engine, err));
    const int label = tsr__unet_label_width(engine->unet);
    const int pooled_width = label ? label - TSR__SIZE_VALUES * TSR__SIZE_WIDTH : 0;
    if (cond->width != tsr__unet_context_width(engine->unet))
        TSR_FAIL(err, TSR_UNSUPPORTED, "the conditioning has %d values a token, the model %s takes %d", cond->width,
                 slot->checkpoint, tsr__unet_context_width(engine->unet));
    if (cond->pooled_width != pooled_width)
        TSR_FAIL(err, TSR_UNSUPPORTED, "the conditioning has %d pooled values, the model %s takes %d",
                 cond->pooled_width, slot->checkpoint, pooled_width);
    TSR_TRY(tsr__engine_make_context(engine, cond, err));
done:
    return status;
}

/* The handle of a text for one model; the same text gives the same handle, so that sampling evaluates it once. Under a
 * memory budget the network reads it when it is first asked: it would not be packed for that alone. */
static tsr_status bind_text(const void **out, tsr__slot *slot, const tsr__face *face, const tsr__cond *from,
                            tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__text *text = from->text;
    tsr__bound *bound = NULL;
    tsr__conditioning *cond = NULL;
    tsr_engine *engine = tsr__slot_now(slot);
    *out = NULL;
    for (tsr__bound *at = slot->bound; at; at = at->next) {
        if (at->text != text || at->control != from->control || at->concat != from->concat ||
            (from->control && at->face != face))
            continue;
        *out = at->cond;
        return TSR_OK;
    }
    size_t count = (size_t)text->tokens * (size_t)text->width;
    TSR_ALLOC_ZERO(err, cond, 1);
    cond->clip_skip = 1;
    cond->tokens = text->tokens;
    cond->width = text->width;
    cond->pooled_width = text->pooled_width;
    TSR_ALLOC(err, cond->values, count);
    memcpy(cond->values, text->values, count * sizeof *cond->values);
    if (text->pooled) {
        TSR_ALLOC(err, cond->pooled, text->pooled_width);
        memcpy(cond->pooled, text->pooled, (size_t)text->pooled_width * sizeof *cond->pooled);
    }
    cond->adapters = slot->set;
    cond->concat = from->concat ? from->concat->latent : NULL;
    TSR_TRY(tsr__control_bind(&cond->controls, engine, face->denoiser->table, from->control, err));
    if (!tsr__budget_is_on(engine)) TSR_TRY(read_text(cond, slot, engine, err));
    TSR_ALLOC_ZERO(err, bound, 1);
    bound->text = text;
    text->refs++;
    bound->control = from->control;
    if (from->control) from->control->refs++;
    bound->concat = tsr__value_ref(from->concat);
    bound->face = face;
    bound->cond = cond;
    bound->next = slot->bound;
    slot->bound = bound;
    *out = cond;
    cond = NULL;
done:
    if (cond) {
        tsr__controls_drop(cond);
        tsr__unet_context_free(cond->context);
        free(cond->values);
        free(cond->pooled);
    }
    free(cond);
    return status;
}

/* One conditioning everywhere, at full strength, all the time: no list is needed, and the numbers of a plain call stay what they
 * are to the bit. */
static int is_plain(const tsr__value *list) {
    const tsr__cond *only = list->conds;
    return list->n_conds == 1 && only->area_kind == TSR__AREA_NONE && !only->mask && only->strength == 1.0f &&
           only->start <= 0.0 && only->end >= 1.0;
}

static tsr_status entries_of(tsr__cond_entry **out, tsr__slot *slot, const tsr__face *face, const tsr__value *list,
                             tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__cond_entry *entries = NULL;
    const tsr_sigma_table *table = face->denoiser->table;
    *out = NULL;
    TSR_ALLOC_ZERO(err, entries, list->n_conds + 1);
    for (int i = 0; i < list->n_conds; i++) {
        const tsr__cond *from = &list->conds[i];
        tsr__cond_entry *to = &entries[i];
        TSR_TRY(bind_text(&to->cond, slot, face, from, err));
        to->strength = from->strength;
        to->area_kind = from->area_kind;
        memcpy(to->area, from->area, sizeof to->area);
        if (from->mask) TSR_TRY(tsr__one_mask(&to->mask, from->mask, "a conditioning's mask", err));
        to->mask_strength = from->mask_strength;
        to->mask_bounds = from->mask_bounds;
        to->start_sigma = tsr_sigma_of_percent(table, from->start);
        to->end_sigma = tsr_sigma_of_percent(table, from->end);
    }
    *out = entries;
    entries = NULL;
done:
    free(entries);
    return status;
}

/* The same two lists give the same pair, so that sampling sees equal handles. */
static tsr_status bind_pair(const tsr__cond_pair **out, tsr__slot *slot, const tsr__face *face, tsr__value *positive,
                            tsr__value *negative, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__cond_entry *entries[2] = { NULL, NULL };
    tsr__pair *made = NULL;
    tsr__value *steered = NULL;
    *out = NULL;
    for (tsr__pair *at = slot->pairs; at; at = at->next) {
        if (at->face != face || at->sides[0] != positive || at->sides[1] != negative) continue;
        *out = at->pair;
        return TSR_OK;
    }
    TSR_ALLOC_ZERO(err, made, 1);
    TSR_TRY(entries_of(&entries[0], slot, face, positive, err));
    TSR_TRY(tsr__control_negative(&steered, positive, negative, err));
    TSR_TRY(entries_of(&entries[1], slot, face, steered, err));
    TSR_TRY(tsr__cond_pair_new(&made->pair, entries[0], positive->n_conds, entries[1], negative->n_conds, err));
    made->face = face;
    made->sides[0] = tsr__value_ref(positive);
    made->sides[1] = tsr__value_ref(negative);
    made->next = slot->pairs;
    slot->pairs = made;
    *out = made->pair;
    made = NULL;
done:
    tsr__value_unref(steered);
    free(made);
    free(entries[0]);
    free(entries[1]);
    return status;
}

tsr_status tsr__slot_guide(tsr_guide *out, tsr_graph *graph, const tsr__value *model, tsr__value *positive,
                           tsr__value *negative, double cfg, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__slot *slot = model->slot;
    tsr_engine *engine = NULL;
    tsr__face *face = NULL;
    const tsr__cond_pair *pair = NULL;
    tsr__value *steered = NULL;
    memset(out, 0, sizeof *out);
    out->cfg = (float)cfg;
    out->differential = model->differential;
    out->rescale = model->rescale;
    if (!negative) negative = positive;
    TSR_TRY(tsr__slot_engine(&engine, graph, slot, err));
    graph->painter = slot;
    if (!tsr__budget_is_on(engine)) TSR_TRY(tsr__engine_need_unet(engine, err));
    TSR_TRY(tsr__slot_face(&face, slot, model->sampling, err));
    out->denoiser = face->denoiser;
    tsr__run_prepare_preview(graph, slot);
    if (is_plain(positive) && is_plain(negative)) {
        TSR_TRY(bind_text(&out->positive, slot, face, &positive->conds[0], err));
        TSR_TRY(tsr__control_negative(&steered, positive, negative, err));
        TSR_TRY(bind_text(&out->negative, slot, face, &steered->conds[0], err));
        goto done;
    }
    TSR_TRY(bind_pair(&pair, slot, face, positive, negative, err));
    tsr__cond_denoiser_init(&face->lists, out->denoiser);
    out->denoiser = &face->lists.denoiser;
    out->positive = tsr__cond_pair_side(pair, 0);
    out->negative = tsr__cond_pair_side(pair, 1);
done:
    tsr__value_unref(steered);
    return status;
}
