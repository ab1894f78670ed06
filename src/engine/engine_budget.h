/* engine/engine_budget.h - a bound on what the networks of a run take together: packed weights and activations.
 *
 * One budget counts for all its members: an engine and its guests, or all engines of a graph. Before a part is built, parts
 * that the run can do without are released until it fits: text encoders first, then VAEs, then the UNet that was used longest
 * ago with its control networks. Each is packed again from its file when it is asked for. docs/memory.md tells it from
 * outside. */
#ifndef TSR_ENGINE_BUDGET_H
#define TSR_ENGINE_BUDGET_H

#include "tessera/engine.h"

struct tsr__job;

/* CONTROL: all control networks of an engine. */
typedef enum tsr__network {
    TSR__NETWORK_TEXT,
    TSR__NETWORK_VAE,
    TSR__NETWORK_UNET,
    TSR__NETWORK_CONTROL,
    TSR__NETWORK_COUNT
} tsr__network;

/* An engine's own share of it. */
typedef struct tsr__network_use {
    size_t seen[TSR__NETWORK_COUNT]; /* bytes that a part took when it was last here; 0: it never was */
    long used_at;                    /* the UNet, by the budget's clock */
    int was_packed;                  /* the UNet, in this run */
} tsr__network_use;

typedef struct tsr__budget {
    size_t limit;                     /* 0: none */
    size_t calls[TSR__NETWORK_COUNT]; /* of the job in hand: activations that a call of a part may need */
    int is_planned;                   /* there is such a job, and it was checked */
    size_t peak;                      /* the most that was held when a part had been built or a call ended */
    long clock;
    int swaps; /* networks packed again in this run: UNets and control networks */
    size_t swap_bytes;
    double swap_seconds;
    tsr_engine *members; /* linked by next_member */
} tsr__budget;

/* An engine counts in one budget; leaving is for closing it. */
void tsr__budget_join(tsr_engine *engine, tsr__budget *budget);
void tsr__budget_leave(tsr_engine *engine);

/* A run begins: nothing is counted yet. */
void tsr__budget_begin(tsr__budget *budget);
/* Sizes the activations for the job's picture. TOO_LARGE with what is needed when the budget cannot hold one part of one model
 * with them. The job may have no guides yet: then this engine alone is looked at. */
tsr_status tsr__budget_check(tsr_engine *engine, const struct tsr__job *job, tsr_error *err);
/* The job is over: what is needed is found out at each call again. */
void tsr__budget_end_job(tsr__budget *budget);
/* TOO_LARGE with what is needed when some part of the engine cannot be there even alone. */
tsr_status tsr__budget_check_parts(const tsr_engine *engine, tsr_error *err);
/* What fits and what is swapped, a line or two; "" without a budget. *out is released with free(). */
tsr_status tsr__budget_text(char **out, tsr_engine *engine, const struct tsr__job *job, tsr_error *err);
/* Whether a preview may build the VAE beside the UNets without making any of them go. */
int tsr__budget_holds_all(tsr_engine *engine, const struct tsr__job *job);
/* Whether the VAE can be there, with so many bytes of activations, without anything going for it. */
int tsr__budget_has_room_for_vae(const tsr_engine *engine, size_t call);

/* Before a part is built, or used where it is there: releases what must go for it and for `call` bytes of activations.
 * TOO_LARGE with what is needed when nothing is left to release; not so within a job, which was checked as a whole and whose
 * own activations count instead of `call`. */
tsr_status tsr__budget_make_room(tsr_engine *engine, tsr__network part, size_t call, tsr_error *err);
/* After it was built: how long that took. */
void tsr__budget_built(tsr_engine *engine, tsr__network part, double seconds);
/* A control network was packed that had been packed in this run before. */
void tsr__budget_swapped(tsr_engine *engine, size_t bytes, double seconds);
/* After a part was used. */
void tsr__budget_used(tsr_engine *engine);
/* What is left for activations, or SIZE_MAX without a budget. */
size_t tsr__budget_rest(const tsr_engine *engine);
int tsr__budget_is_on(const tsr_engine *engine);
/* tsr_denoiser's is_ready. */
int tsr__engine_is_ready(void *user);

#endif /* TSR_ENGINE_BUDGET_H */
