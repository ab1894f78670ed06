/* engine/engine_budget.c - see engine_budget.h. Sizes are estimated from the file's tensors until a part has been there. */
#include "engine/engine_budget.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/engine_priv.h"

#define TOKENS ((size_t)77)
/* oneDNN's blocks are filled up, folded upsamplers are larger than the file's, and some weights get a second layout. */
#define WITH_PACKING(bytes) ((bytes) + (bytes) / 8)

static tsr_engine *host_of(const tsr_engine *engine) {
    return engine->host ? engine->host : (tsr_engine *)(uintptr_t)engine;
}

static const tsr_engine *next_engine(const tsr_engine *host, const tsr_engine *at) {
    return at == host ? host->guests : at->next_guest;
}

int tsr__budget_is_on(const tsr_engine *engine) {
    return host_of(engine)->budget.limit != 0;
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

static size_t held(const tsr_engine *host) {
    size_t bytes = 0;
    for (const tsr_engine *at = host; at; at = next_engine(host, at)) bytes += nn_held(at);
    return bytes;
}

size_t tsr__budget_rest(const tsr_engine *engine) {
    const tsr_engine *host = host_of(engine);
    if (!host->budget.limit) return SIZE_MAX;
    size_t now = held(host);
    return now < host->budget.limit ? host->budget.limit - now : 0;
}

/* --- making room ---------------------------------------------------------------------------------------------------------------- */
static int has_part(const tsr_engine *engine, tsr__network part) {
    switch (part) {
    case TSR__NETWORK_TEXT: return engine->text != NULL;
    case TSR__NETWORK_VAE: return engine->vae != NULL;
    default: return engine->unet != NULL;
    }
}

/* Conditionings keep their values and contexts: neither lies in a part. */
static void drop_part(tsr_engine *engine, tsr__network part) {
    size_t before = nn_held(engine);
    tsr__adapters_unbind(engine, part);
    if (part == TSR__NETWORK_TEXT) {
        tsr__text_stack_free(engine->text);
        engine->text = NULL;
        tsr__nn_trim(engine->text_nn);
    } else if (part == TSR__NETWORK_VAE) {
        tsr__vae_free(engine->vae);
        engine->vae = NULL;
    } else {
        tsr__unet_free(engine->unet);
        engine->unet = NULL;
    }
    tsr__nn_trim(engine->nn);
    size_t after = nn_held(engine), bytes = before > after ? before - after : 0;
    if (bytes) engine->part_use.seen[part] = bytes;
}

/* The next part to go, so that `part` of `engine` can come: parts that will not be needed soon before UNets. */
static tsr_engine *choose_victim(tsr__network *victim, tsr_engine *engine, tsr__network part) {
    static const tsr__network order[] = { TSR__NETWORK_TEXT, TSR__NETWORK_VAE, TSR__NETWORK_UNET };
    const tsr_engine *host = host_of(engine);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const tsr_engine *oldest = NULL;
        for (const tsr_engine *at = host; at; at = next_engine(host, at)) {
            if (!has_part(at, order[i]) || (at == engine && order[i] == part)) continue;
            if (!oldest || at->part_use.used_at < oldest->part_use.used_at) oldest = at;
        }
        *victim = order[i];
        if (oldest) return (tsr_engine *)(uintptr_t)oldest;
    }
    return NULL;
}

void tsr__budget_make_room(tsr_engine *engine, tsr__network part) {
    tsr_engine *host = host_of(engine), *from;
    tsr__network victim;
    if (!host->budget.limit) return;
    if (part == TSR__NETWORK_UNET) engine->part_use.used_at = ++host->budget.clock;
    for (const tsr_engine *at = host; at; at = next_engine(host, at)) /* idle activations of who computed last */
        if (at != engine) tsr__nn_trim(at->nn);
    size_t needed = host->budget.calls[part] + (has_part(engine, part) ? 0 : part_bytes(engine, part));
    while (tsr__budget_rest(engine) < needed && (from = choose_victim(&victim, engine, part)) != NULL)
        drop_part(from, victim);
}

void tsr__budget_used(tsr_engine *engine) {
    tsr_engine *host = host_of(engine);
    size_t now = held(host);
    if (now > host->budget.peak) host->budget.peak = now;
}

void tsr__budget_built(tsr_engine *engine, tsr__network part, double seconds) {
    tsr_engine *host = host_of(engine);
    tsr__budget_used(engine);
    if (part != TSR__NETWORK_UNET) return;
    if (engine->part_use.was_packed) {
        host->budget.swaps++;
        host->budget.swap_seconds += seconds;
    }
    engine->part_use.was_packed = 1;
}

void tsr__budget_begin(tsr_engine *engine) {
    engine->budget.swaps = 0;
    engine->budget.swap_seconds = 0.0;
    engine->budget.peak = 0;
    engine->part_use.was_packed = engine->unet != NULL;
    for (tsr_engine *at = engine->guests; at; at = at->next_guest) at->part_use.was_packed = at->unet != NULL;
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

/* The control networks of a guide; about: their files may be of another precision. */
static size_t control_bytes(const tsr_guide *guide) {
    const tsr__conditioning *cond = guide->positive;
    const tsr_engine *engine = guide->denoiser->user;
    size_t bytes = 0;
    struct stat file;
    for (int i = 0; tsr__controls_file(cond->controls, i); i++)
        if (stat(tsr__controls_file(cond->controls, i), &file) == 0)
            bytes += (size_t)file.st_size * value_bytes(engine, TSR__NETWORK_UNET) / 2;
    return bytes;
}

/* What the run needs at least, by phase, and what it would like to keep. */
typedef struct need {
    size_t text, vae, unet; /* the largest of each */
    size_t all_unets, all;  /* together */
    size_t fixed;           /* contexts and control networks: they stay */
    int models;
} need;

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static need count_need(const tsr_engine *host, const tsr__job *job) {
    need n = { 0 };
    const tsr_engine *at = host;
    do {
        if (!uses(host, job, at)) continue;
        size_t text = part_bytes(at, TSR__NETWORK_TEXT), unet = part_bytes(at, TSR__NETWORK_UNET);
        n.models++;
        n.text = larger(n.text, text);
        n.unet = larger(n.unet, unet);
        n.all_unets += unet;
        n.all += text + unet;
    } while ((at = next_engine(host, at)));
    for (int k = 0; k <= job->region_count; k++)
        if (guide_at(job, k))
            n.fixed += 2 * context_bytes(guide_at(job, k)->denoiser->user) + control_bytes(guide_at(job, k));
    n.vae = part_bytes(host, TSR__NETWORK_VAE);
    n.all += n.vae + n.fixed + larger(host->budget.calls[TSR__NETWORK_UNET], host->budget.calls[TSR__NETWORK_VAE]);
    n.all_unets += n.fixed + host->budget.calls[TSR__NETWORK_UNET];
    return n;
}

/* How many UNets are in memory at once, the largest of them first. */
static int count_fitting(const tsr_engine *host, const need *n) {
    size_t room = host->budget.limit - n->fixed - host->budget.calls[TSR__NETWORK_UNET];
    size_t fitting = n->unet ? room / n->unet : 1;
    return fitting < 1 ? 1 : fitting > (size_t)n->models ? n->models : (int)fitting;
}

tsr_status tsr__budget_check(tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    tsr__budget *budget = &engine->budget;
    size_t cells = (size_t)(job->width / 8) * (size_t)(job->height / 8);
    if (!budget->limit) return TSR_OK;
    budget->calls[TSR__NETWORK_UNET] = 0;
    for (const tsr_engine *at = engine; at; at = next_engine(engine, at))
        if (uses(engine, job, at))
            budget->calls[TSR__NETWORK_UNET] =
                larger(budget->calls[TSR__NETWORK_UNET], cells * (size_t)job->batch * tsr__engine_cell_bytes(at));
    need n = count_need(engine, job);
    int tile = tsr__scene_int(job->scene, TSR__OPT_VAE_TILE);
    size_t whole = tsr__engine_vae_bytes(job->width, job->height, tile),
           least = tsr__engine_vae_bytes_least(job->width, job->height, tile);
    budget->calls[TSR__NETWORK_VAE] = n.vae + n.fixed + whole <= budget->limit ? whole : least;
    size_t text = n.text, unet = n.unet + n.fixed + budget->calls[TSR__NETWORK_UNET], vae = n.vae + n.fixed + least;
    size_t needed = larger(text, larger(unet, vae));
    if (needed <= budget->limit) return TSR_OK;
    const char *what = needed == unet  ? "a UNet and one call of it"
                       : needed == vae ? "the VAE and a tile"
                                       : "a text encoder";
    return tsr__fail(
        err, TSR_TOO_LARGE,
        "memory: %.1f MB cannot hold what must be there at once: %s take about %.1f MB at %dx%d, batch %d; "
        "give at least that, or a smaller picture",
        (double)budget->limit / 1e6, what, (double)needed / 1e6, job->width, job->height, job->batch);
}

int tsr__budget_holds_all(tsr_engine *engine, const tsr__job *job) {
    need n = count_need(engine, job);
    return !engine->budget.limit || n.all <= engine->budget.limit;
}

tsr_status tsr__budget_text(char **out, tsr_engine *engine, const tsr__job *job, tsr_error *err) {
    const tsr__budget *budget = &engine->budget;
    need n = count_need(engine, job);
    double limit = (double)budget->limit / 1e6;
    int fitting = budget->limit ? count_fitting(engine, &n) : n.models;
    if (!budget->limit) {
        *out = tsr__strdup("");
    } else if (n.all <= budget->limit) {
        *out = tsr__format("memory: %.1f MB hold everything, which takes about %.1f MB\n", limit, (double)n.all / 1e6);
    } else if (n.all_unets <= budget->limit || n.models == 1) {
        *out =
            tsr__format("memory: %.1f MB hold every UNet (about %.1f MB with activations); text encoders and VAE are "
                        "released when they are not needed\n",
                        limit, (double)n.all_unets / 1e6);
    } else {
        *out =
            tsr__format("memory: %.1f MB hold %d of %d UNets (all: about %.1f MB with activations); text encoders and "
                        "VAE are released when they are not needed\nswap: %d packed again from the file in every step, "
                        "for each network call of a step that has several; about %.1f MB each time\n",
                        limit, fitting, n.models, (double)n.all_unets / 1e6, n.models - fitting, (double)n.unet / 1e6);
    }
    return *out ? TSR_OK : tsr__fail(err, TSR_NO_MEMORY, "out of memory");
}
