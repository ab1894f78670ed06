/* engine/engine_budget.c - see engine_budget.h. Sizes are estimated from the file's tensors until a part has been there. */
#include "engine/engine_budget.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_priv.h"
#include "weights/packed_file.h"

#define TOKENS ((size_t)77)
/* oneDNN's blocks are filled up, folded upsamplers are larger than the file's, and some weights get a second layout. */
#define WITH_PACKING(bytes) ((bytes) + (bytes) / 8)

void tsr__budget_join(tsr_engine *engine, tsr__budget *budget) {
    tsr__budget_leave(engine);
    engine->budget = budget;
    engine->next_member = budget->members;
    budget->members = engine;
}

void tsr__budget_leave(tsr_engine *engine) {
    tsr_engine **at = engine->budget ? &engine->budget->members : NULL;
    while (at && *at != engine) at = &(*at)->next_member;
    if (at) *at = engine->next_member;
    engine->budget = NULL;
    engine->next_member = NULL;
}

int tsr__budget_is_on(const tsr_engine *engine) {
    return engine->budget->limit != 0;
}

int tsr__engine_is_ready(void *user) {
    return ((const tsr_engine *)user)->unet != NULL;
}

/* --- what parts take ---------------------------------------------------------------------------------------------------------- */
/* -1: of no part, or never packed. */
static int part_of(const tsr__tensor_view *view) {
    if (!tsr__dtype_is_float(view->dtype) || strstr(view->name, "token_embedding")) return -1;
    switch (tsr__checkpoint_part_of(view->name)) {
    case TSR_PART_UNET: return TSR__NETWORK_UNET;
    case TSR_PART_VAE: return TSR__NETWORK_VAE;
    case TSR_PART_TEXT: return TSR__NETWORK_TEXT;
    default: return -1;
    }
}

static size_t value_bytes(const tsr_engine *engine, int part) {
    return part != TSR__NETWORK_TEXT && tsr__nn_precision(engine->nn) == TSR__BF16 ? 2 : 4;
}

static size_t part_bytes(const tsr_engine *engine, tsr__network part) {
    size_t count = 0, bytes;
    if (part == TSR__NETWORK_CONTROL) return WITH_PACKING(tsr__controls_bytes(engine, 0));
    if (engine->part_use.seen[part]) return engine->part_use.seen[part];
    for (size_t i = 0; i < tsr__weights_count(engine->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(engine->weights, i);
        if (part_of(view) == (int)part) count += view->count;
    }
    bytes = WITH_PACKING(count * value_bytes(engine, part));
    return part == TSR__NETWORK_UNET ? bytes + tsr__adapters_bytes(engine) : bytes;
}

static size_t nn_held(const tsr_engine *engine) {
    size_t bytes = tsr__nn_held_bytes(engine->nn);
    if (engine->text_nn && engine->text_nn != engine->nn) bytes += tsr__nn_held_bytes(engine->text_nn);
    return bytes;
}

static size_t held(const tsr__budget *budget) {
    size_t bytes = 0;
    for (const tsr_engine *at = budget->members; at; at = at->next_member) bytes += nn_held(at) + at->merged_bytes;
    return bytes;
}

size_t tsr__budget_rest(const tsr_engine *engine) {
    const tsr__budget *budget = engine->budget;
    if (!budget->limit) return SIZE_MAX;
    size_t now = held(budget);
    return now < budget->limit ? budget->limit - now : 0;
}

/* --- making room ---------------------------------------------------------------------------------------------------------------- */
static int has_part(const tsr_engine *engine, tsr__network part) {
    switch (part) {
    case TSR__NETWORK_TEXT: return engine->text != NULL;
    case TSR__NETWORK_VAE: return engine->vae != NULL;
    case TSR__NETWORK_CONTROL: return tsr__controls_are_packed(engine);
    default: return engine->unet != NULL;
    }
}

/* Conditionings keep their values and contexts: neither lies in a part. */
static void drop_part(tsr_engine *engine, tsr__network part) {
    size_t before = nn_held(engine);
    if (part == TSR__NETWORK_TEXT) {
        tsr__adapters_unbind(engine, part);
        tsr__text_stack_free(engine->text);
        engine->text = NULL;
        tsr__packed_drop(engine->weights, TSR_PART_TEXT);
        tsr__nn_trim(engine->text_nn);
    } else if (part == TSR__NETWORK_VAE) {
        tsr__vae_free(engine->vae);
        engine->vae = NULL;
        tsr__packed_drop(engine->weights, TSR_PART_VAE);
    } else if (part == TSR__NETWORK_CONTROL) {
        tsr__controls_unpack(engine);
    } else {
        tsr__adapters_unbind(engine, part);
        tsr__unet_free(engine->unet);
        engine->unet = NULL;
        tsr__packed_drop(engine->weights, TSR_PART_UNET);
    }
    tsr__nn_trim(engine->nn);
    size_t after = nn_held(engine), bytes = before > after ? before - after : 0;
    if (bytes) engine->part_use.seen[part] = bytes;
}

/* A UNet and its control networks answer one call together. */
static int go_together(tsr__network a, tsr__network b) {
    return a >= TSR__NETWORK_UNET && b >= TSR__NETWORK_UNET;
}

/* Whose part of that kind, or whose UNet or control networks, were used longest ago and are not `part` of `engine`. */
static tsr_engine *oldest_with(tsr__network kind, const tsr_engine *engine, tsr__network part) {
    tsr_engine *oldest = NULL;
    for (tsr_engine *at = engine->budget->members; at; at = at->next_member) {
        int has = has_part(at, kind) || (kind == TSR__NETWORK_UNET && has_part(at, TSR__NETWORK_CONTROL));
        if (!has || (at == engine && (kind == part || go_together(kind, part)))) continue;
        if (!oldest || at->part_use.used_at < oldest->part_use.used_at) oldest = at;
    }
    return oldest;
}

/* The next part to go, so that `part` of `engine` can come: parts that will not be needed soon before UNets, and a UNet's
 * control networks before itself. */
static tsr_engine *choose_victim(tsr__network *victim, const tsr_engine *engine, tsr__network part) {
    static const tsr__network order[] = { TSR__NETWORK_TEXT, TSR__NETWORK_VAE, TSR__NETWORK_UNET };
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        tsr_engine *oldest = oldest_with(order[i], engine, part);
        *victim = order[i];
        if (!oldest) continue;
        if (order[i] == TSR__NETWORK_UNET && has_part(oldest, TSR__NETWORK_CONTROL)) *victim = TSR__NETWORK_CONTROL;
        return oldest;
    }
    return NULL;
}

static const char *part_name(tsr__network part) {
    static const char *const names[] = { "text encoder", "VAE", "UNet", "control network" };
    return names[part];
}

tsr_status tsr__budget_make_room(tsr_engine *engine, tsr__network part, size_t call, tsr_error *err) {
    tsr__budget *budget = engine->budget;
    tsr_engine *from;
    tsr__network victim;
    if (!budget->limit) return TSR_OK;
    if (part == TSR__NETWORK_UNET) engine->part_use.used_at = ++budget->clock;
    for (const tsr_engine *at = budget->members; at; at = at->next_member) /* idle activations of who computed last */
        if (at != engine) tsr__nn_trim(at->nn);
    size_t missing = WITH_PACKING(tsr__controls_bytes(engine, 1)),
           weights = part == TSR__NETWORK_CONTROL ? missing
                     : has_part(engine, part)     ? 0
                                                  : part_bytes(engine, part),
           needed = weights + (budget->is_planned ? budget->calls[part] : call);
    while (tsr__budget_rest(engine) < needed && (from = choose_victim(&victim, engine, part)) != NULL)
        drop_part(from, victim);
    if (budget->is_planned || tsr__budget_rest(engine) >= needed) return TSR_OK;
    return tsr__fail(err, TSR_TOO_LARGE,
                     "memory: %.1f MB cannot hold what must be there at once: the %s of %s with %.1f MB of activations "
                     "takes about %.1f MB; give at least that%s",
                     (double)budget->limit / 1e6, part_name(part), engine->model, (double)call / 1e6,
                     (double)(held(budget) + needed) / 1e6, call ? ", or a smaller picture" : "");
}

void tsr__budget_used(tsr_engine *engine) {
    tsr__budget *budget = engine->budget;
    size_t now = held(budget);
    if (now > budget->peak) budget->peak = now;
}

void tsr__budget_swapped(tsr_engine *engine, size_t bytes, double seconds) {
    engine->budget->swaps++;
    engine->budget->swap_bytes += bytes;
    engine->budget->swap_seconds += seconds;
}

void tsr__budget_built(tsr_engine *engine, tsr__network part, double seconds) {
    tsr__budget_used(engine);
    if (part != TSR__NETWORK_UNET) return;
    if (engine->part_use.was_packed) tsr__budget_swapped(engine, part_bytes(engine, part), seconds);
    engine->part_use.was_packed = 1;
}

void tsr__budget_begin(tsr__budget *budget) {
    budget->swaps = 0;
    budget->swap_bytes = 0;
    budget->swap_seconds = 0.0;
    budget->peak = 0;
    for (tsr_engine *at = budget->members; at; at = at->next_member) {
        at->part_use.was_packed = at->unet != NULL;
        tsr__controls_begin_run(at);
    }
}

void tsr__budget_end_job(tsr__budget *budget) {
    budget->is_planned = 0;
    memset(budget->calls, 0, sizeof budget->calls);
}

tsr_status tsr__budget_check_parts(const tsr_engine *engine, tsr_error *err) {
    size_t limit = engine->budget->limit;
    for (int part = 0; limit && part < TSR__NETWORK_COUNT; part++) {
        size_t bytes = part_bytes(engine, (tsr__network)part) + engine->merged_bytes;
        if (bytes > limit)
            return tsr__fail(
                err, TSR_TOO_LARGE,
                "memory: %.1f MB cannot hold the %s of %s, which takes about %.1f MB; give at least that and "
                "room for its activations",
                (double)limit / 1e6, part_name((tsr__network)part), engine->model, (double)bytes / 1e6);
    }
    return TSR_OK;
}

int tsr__budget_has_room_for_vae(const tsr_engine *engine, size_t call) {
    return tsr__budget_rest(engine) >= (engine->vae ? 0 : part_bytes(engine, TSR__NETWORK_VAE)) + call;
}

/* --- the plan --------------------------------------------------------------------------------------------------------------------- */
/* Region k's engine and positive (0: the base's); NULL where the job has none yet. */
static const tsr_guide *guide_at(const tsr__job *job, int k) {
    const tsr_guide *guide = k == 0 ? &job->base.guide : job->regions ? &job->regions[k - 1].guide : NULL;
    return guide && guide->denoiser ? guide : NULL;
}

/* Whether the job paints with that engine's UNet. */
static int uses(const tsr_engine *host, const tsr__job *job, const tsr_engine *engine) {
    int found = engine == host && !guide_at(job, 0);
    for (int k = 0; k <= job->region_count && !found; k++)
        found = guide_at(job, k) && guide_at(job, k)->denoiser->user == engine;
    return found;
}

/* Keys and values of one text in every cross-attention. */
static size_t context_bytes(const tsr_engine *engine) {
    size_t columns = 0;
    for (size_t i = 0; i < tsr__weights_count(engine->weights); i++) {
        const tsr__tensor_view *view = tsr__weights_at(engine->weights, i);
        if (part_of(view) != TSR__NETWORK_UNET) continue;
        if (strstr(view->name, "attn2.to_k.weight") || strstr(view->name, "attn2.to_v.weight"))
            columns += (size_t)view->shape[0];
    }
    return columns * TOKENS * value_bytes(engine, TSR__NETWORK_UNET);
}

/* What the run needs at least, by phase, and what it would like to keep. A UNet counts with its control networks. */
typedef struct need {
    size_t text, vae, unet; /* the largest of each */
    size_t all_unets, all;  /* together */
    size_t fixed;           /* contexts and merged copies: they stay */
    int models, controls;
} need;

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static need count_need(const tsr_engine *host, const tsr__job *job) {
    const tsr__budget *budget = host->budget;
    need n = { 0 };
    for (const tsr_engine *at = budget->members; at; at = at->next_member) {
        if (!uses(host, job, at)) continue;
        size_t text = part_bytes(at, TSR__NETWORK_TEXT), control = part_bytes(at, TSR__NETWORK_CONTROL),
               unet = part_bytes(at, TSR__NETWORK_UNET) + control;
        n.models++;
        n.controls += control != 0;
        n.text = larger(n.text, text);
        n.unet = larger(n.unet, unet);
        n.all_unets += unet;
        n.all += text + unet;
        n.fixed += at->merged_bytes;
    }
    for (int k = 0; k <= job->region_count; k++)
        if (guide_at(job, k)) n.fixed += 2 * context_bytes(guide_at(job, k)->denoiser->user);
    n.vae = part_bytes(host, TSR__NETWORK_VAE);
    n.all += n.vae + n.fixed + larger(budget->calls[TSR__NETWORK_UNET], budget->calls[TSR__NETWORK_VAE]);
    n.all_unets += n.fixed + budget->calls[TSR__NETWORK_UNET];
    return n;
}

/* How many UNets are in memory at once, the largest of them first. */
static int count_fitting(const tsr_engine *host, const need *n) {
    size_t room = host->budget->limit - n->fixed - host->budget->calls[TSR__NETWORK_UNET];
    size_t fitting = n->unet ? room / n->unet : 1;
    return fitting < 1 ? 1 : fitting > (size_t)n->models ? n->models : (int)fitting;
}

/* Activations of one call: the largest of the job's models, where a control network comes before the UNet and leaves its
 * tensors to it. */
static size_t call_bytes(const tsr_engine *engine, const tsr__job *job) {
    size_t bytes = 0, cells = (size_t)(job->width / 8) * (size_t)(job->height / 8) * (size_t)job->batch;
    for (const tsr_engine *at = engine->budget->members; at; at = at->next_member)
        if (uses(engine, job, at)) bytes = larger(bytes, cells * tsr__engine_cell_bytes(at));
    return bytes;
}

tsr_status tsr__budget_check(tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__budget *budget = engine->budget;
    if (!budget->limit) return TSR_OK;
    for (int k = 0; k <= job->region_count; k++)
        if (guide_at(job, k))
            TSR_TRY(tsr__controls_look(((const tsr__conditioning *)guide_at(job, k)->positive)->controls, err));
    budget->calls[TSR__NETWORK_UNET] = budget->calls[TSR__NETWORK_CONTROL] = call_bytes(engine, job);
    need n = count_need(engine, job);
    int tile = tsr__scene_int(job->scene, TSR__OPT_VAE_TILE);
    size_t whole = tsr__engine_vae_bytes(engine, job->width, job->height, tile),
           least = tsr__engine_vae_bytes_least(engine, job->width, job->height, tile);
    budget->calls[TSR__NETWORK_VAE] = n.vae + n.fixed + whole <= budget->limit ? whole : least;
    budget->is_planned = 1;
    size_t text = n.text, unet = n.unet + n.fixed + budget->calls[TSR__NETWORK_UNET], vae = n.vae + n.fixed + least;
    size_t needed = larger(text, larger(unet, vae));
    if (needed <= budget->limit) return TSR_OK;
    const char *what = needed == vae    ? "the VAE and a tile"
                       : needed == text ? "a text encoder"
                       : n.controls     ? "a UNet, its control networks and one call"
                                        : "a UNet and one call of it";
    TSR_FAIL(err, TSR_TOO_LARGE,
             "memory: %.1f MB cannot hold what must be there at once: %s take about %.1f MB at %dx%d, batch %d; "
             "give at least that, or a smaller picture",
             (double)budget->limit / 1e6, what, (double)needed / 1e6, job->width, job->height, job->batch);
done:
    if (status != TSR_OK) tsr__budget_end_job(budget);
    return status;
}

int tsr__budget_holds_all(tsr_engine *engine, const tsr__job *job) {
    need n = count_need(engine, job);
    return !engine->budget->limit || n.all <= engine->budget->limit;
}

tsr_status tsr__budget_text(char **out, tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    const tsr__budget *budget = engine->budget;
    need n = count_need(engine, job);
    double limit = (double)budget->limit / 1e6;
    int fitting = budget->limit ? count_fitting(engine, &n) : n.models;
    const char *with = n.controls ? "with their control networks and activations" : "with activations";
    if (!budget->limit) {
        *out = tsr__strdup("");
    } else if (n.all <= budget->limit) {
        *out = tsr__format("memory: %.1f MB hold everything, which takes about %.1f MB\n", limit, (double)n.all / 1e6);
    } else if (n.all_unets <= budget->limit || n.models == 1) {
        *out =
            tsr__format("memory: %.1f MB hold every UNet (about %.1f MB %s); text encoders and VAE are released when "
                        "they are not needed\n",
                        limit, (double)n.all_unets / 1e6, with);
    } else {
        *out =
            tsr__format("memory: %.1f MB hold %d of %d UNets (all: about %.1f MB %s); text encoders and VAE are "
                        "released when they are not needed\nswap: %d packed again from the file in every step, for "
                        "each network call of a step that has several: up to %.1f MB each time, %.1f MB a step of one "
                        "call; the run says how long that took\n",
                        limit, fitting, n.models, (double)n.all_unets / 1e6, with, n.models - fitting,
                        (double)n.unet / 1e6, (double)(n.models - fitting) * (double)n.unet / 1e6);
    }
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}
