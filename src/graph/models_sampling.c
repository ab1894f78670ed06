/* graph/models_sampling.c - what a workflow makes of a model's output, and the denoisers for that. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

tsr_status tsr__model_sampling_new(tsr__model_sampling **out, tsr__output_rule rule, double data,
                                   tsr_sigma_table *table, const char *key, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__model_sampling *made = NULL;
    *out = NULL;
    TSR_ALLOC_ZERO(err, made, 1);
    made->refs = 1;
    made->key = tsr__strdup(key);
    if (!made->key) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    made->rule.rule = rule;
    made->rule.data = data;
    made->rule.table = made->table = table;
    table = NULL;
    *out = made;
    made = NULL;
done:
    tsr__model_sampling_unref(made);
    tsr_sigma_table_free(table);
    return status;
}

void tsr__model_sampling_unref(tsr__model_sampling *sampling) {
    if (!sampling || --sampling->refs > 0) return;
    tsr_sigma_table_free(sampling->table);
    free(sampling->key);
    free(sampling);
}

const tsr_sigma_table *tsr__model_table(const tsr__value *model, const tsr_engine *engine) {
    return model->sampling ? model->sampling->table : engine->table;
}

void tsr__value_copy_patches(tsr__value *to, const tsr__value *model) {
    to->differential = model->differential;
    to->rescale = model->rescale;
    to->sampling = model->sampling;
    if (to->sampling) to->sampling->refs++;
}

tsr_status tsr__value_patched(tsr__value **out, const tsr__value *model, tsr_error *err) {
    tsr_status status = tsr__value_new(out, TSR__V_MODEL, err);
    if (status != TSR_OK) return status;
    (*out)->slot = model->slot;
    tsr__value_copy_patches(*out, model);
    return TSR_OK;
}

/* --- faces ------------------------------------------------------------------------------------------------------------------ */
static int same_sampling(const tsr__model_sampling *a, const tsr__model_sampling *b) {
    return a == b || (a && b && strcmp(a->key, b->key) == 0);
}

tsr_status tsr__slot_face(tsr__face **out, tsr__slot *slot, tsr__model_sampling *sampling, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = tsr__slot_now(slot);
    if (!slot->engine) slot = slot->base; /* whose engine it is */
    *out = NULL;
    for (tsr__face *at = slot->faces; at && !*out; at = at->next)
        if (same_sampling(at->sampling, sampling)) *out = at;
    if (*out) return TSR_OK;
    TSR_ALLOC_ZERO(err, *out, 1);
    (*out)->sampling = sampling;
    if (sampling) sampling->refs++;
    (*out)->denoiser = sampling ? &(*out)->sampled.denoiser : &engine->denoiser;
    if (sampling) tsr__sampled_denoiser_init(&(*out)->sampled, engine, &sampling->rule);
    (*out)->next = slot->faces;
    slot->faces = *out;
done:
    return status;
}

void tsr__slot_free_faces(tsr__slot *slot) {
    while (slot->faces) {
        tsr__face *next = slot->faces->next;
        tsr__model_sampling_unref(slot->faces->sampling);
        free(slot->faces);
        slot->faces = next;
    }
}
