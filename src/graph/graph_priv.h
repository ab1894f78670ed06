/* graph/graph_priv.h - what the parser, the checker and the runner share. */
#ifndef TSR_GRAPH_PRIV_H
#define TSR_GRAPH_PRIV_H

#include <jansson.h>

#include "engine/engine_priv.h"
#include "graph/node.h"
#include "sample/cond_list.h"
#include "tessera/two_samplers.h"
#include "upscale/upscale_model.h"

/* --- workflows --------------------------------------------------------------------------------------------------------- */
typedef struct tsr__workflow_node {
    const char *id;         /* borrowed from prompt */
    const char *class_type; /* borrowed */
    const char *title;      /* NULL or borrowed */
    json_t *inputs;         /* borrowed; an object */
    const tsr__node *row;   /* NULL: unknown */
} tsr__workflow_node;

struct tsr_workflow {
    json_t *prompt; /* API format: owns everything below */
    json_t *ui;     /* the UI format it was made of, or NULL: goes into saved pictures */
    tsr__workflow_node *nodes;
    int n_nodes;
};

/* workflow_text.c: JSON with integers beyond int64 and NaN, as Python writes it. Integers that jansson cannot hold
 * become strings that start with TSR__BIG_MARK; _dump undoes that. */
#define TSR__BIG_MARK '\x01'
tsr_status tsr__workflow_parse(json_t **out, const char *text, size_t size, tsr_error *err);
char *tsr__workflow_dump(const json_t *json, size_t flags); /* release with free(); NULL: no memory */

/* workflow_ui.c: UI format to API format. *out is a new reference. */
tsr_status tsr__workflow_from_ui(json_t **out, const json_t *ui, tsr_error *err);

/* A link's source, or -1 when it is no link or leads nowhere. */
int tsr__workflow_link(const tsr_workflow *workflow, const json_t *value, int *slot_out);
int tsr__workflow_find(const tsr_workflow *workflow, const char *id);
/* 1 when the value has the form of a link. */
int tsr__is_link(const json_t *value);
/* {"__value__": v} stands for v. */
const json_t *tsr__unwrap(const json_t *value);

/* --- literals (literal.c) ------------------------------------------------------------------------------------------------ */
/* Casts a JSON literal to the input's type as ComfyUI does. 0 and *out NULL when it cannot be cast. */
tsr_status tsr__literal(tsr__value **out, const tsr__input *input, const json_t *value, tsr_error *err);

/* --- checking (validate.c) ----------------------------------------------------------------------------------------------- */
typedef struct tsr__check {
    const tsr_workflow *workflow;
    const tsr_graph *graph;
    unsigned char *good;    /* [nodes]: reached from an output and without fault, nor anything above it */
    unsigned char *outputs; /* [nodes]: an output node that can run */
    json_t *errors;         /* node_errors */
    json_t *error;          /* the whole prompt's error, or NULL */
    int faults, good_outputs;
} tsr__check;
tsr_status tsr__check_run(tsr__check *check, const tsr_graph *graph, const tsr_workflow *workflow, tsr_error *err);
void tsr__check_clear(tsr__check *check);
/* "node 7 (KSampler): steps: ..." for each fault, a line each; release with free(). */
char *tsr__check_text(const tsr__check *check);

/* --- models (models.c) ---------------------------------------------------------------------------------------------------- */
typedef struct tsr__adapter {
    char *path;
    double model, clip;
} tsr__adapter;

/* A text as one model's network wants it. */
typedef struct tsr__bound {
    tsr__text *text;
    tsr__conditioning *cond;
    struct tsr__bound *next;
} tsr__bound;

/* Two lists of conditionings, likewise. */
typedef struct tsr__pair {
    tsr__value *sides[2];
    tsr__cond_pair *pair;
    struct tsr__pair *next;
} tsr__pair;

/* A checkpoint with adapters merged in: what MODEL, CLIP and VAE values refer to. Opened when first needed. */
typedef struct tsr__slot {
    char *key;
    char *checkpoint; /* path */
    tsr__adapter *adapters;
    int n_adapters;
    tsr_engine *engine;
    tsr__bound *bound;
    tsr__pair *pairs;
    tsr__cond_denoiser lists;
    int used; /* by the run in hand */
    struct tsr__slot *next;
} tsr__slot;

struct tsr_graph {
    char *models, *input, *output;
    tsr_history history;
    tsr_precision precision;
    int threads;
    tsr__slot *slots;
    const tsr_engine_callbacks *callbacks; /* of the run in hand, for text and pictures */
};

tsr_status tsr__slot_get(tsr__slot **out, tsr_graph *graph, const char *checkpoint, tsr_error *err);
/* The slot's model with one more adapter. */
tsr_status tsr__slot_adapt(tsr__slot **out, tsr_graph *graph, const tsr__slot *slot, const char *path, double model,
                           double clip, tsr_error *err);
tsr_status tsr__slot_engine(tsr_engine **out, tsr_graph *graph, tsr__slot *slot, tsr_error *err);
/* A guide for a MODEL and two CONDITIONINGs; negative may be NULL. Valid until the run ends. */
tsr_status tsr__slot_guide(tsr_guide *out, tsr_graph *graph, const tsr__value *model, tsr__value *positive,
                           tsr__value *negative, double cfg, tsr_error *err);
/* Forgets what one run bound; closes engines that it did not use. */
void tsr__slots_end_run(tsr_graph *graph);
void tsr__slots_free(tsr_graph *graph);

/* --- running (execute.c) ------------------------------------------------------------------------------------------------ */
typedef struct tsr__running {
    tsr_graph *graph;
    const tsr_workflow *workflow;
    const tsr_graph_callbacks *callbacks;
    tsr_workflow_outputs *outputs;
    tsr_graph_event event; /* of the node in hand */
    tsr_engine_callbacks engine_callbacks;
} tsr__running;

/* Adds an output of the node in hand, named prefix_00001_extension with the next free number; makes the folder. The
 * caller fills image or latent and saves to path when that is not NULL. temp: nothing is written. */
tsr_status tsr__add_output(tsr_workflow_output **out, tsr__call *call, const char *prefix, const char *extension,
                           int temp, tsr_error *err);

/* --- text (nodes_conditioning.c) ------------------------------------------------------------------------------------------------- */
tsr_status tsr__encode_text(tsr__value **out, tsr_graph *graph, const tsr__value *clip, const char *prompt,
                            tsr_error *err);

/* --- records (nodes_impact.c) ------------------------------------------------------------------------------------------------- */
/* A record of that class from named parts; the rest is absent. Parts are referenced, NULL ones absent. */
tsr_status tsr__make_record(tsr__value **out, tsr__type type, const char *class_type, const tsr__named_value *given,
                            int n, tsr_error *err);
tsr_status tsr__pipe_guide(tsr_guide *out, tsr_graph *graph, const tsr__value *pipe, double cfg, tsr_error *err);
/* What a KSAMPLER holds; strings are the record's. */
tsr_status tsr__provider(tsr_ksampler_provider *out, tsr_graph *graph, const tsr__value *provider, tsr_error *err);

/* --- upscale models (nodes_image.c) ------------------------------------------------------------------------------------------ */
tsr__upscale_model *tsr__value_upscale_model(const tsr__value *value);
/* In tiles; out [n, scale h, scale w, 3]. */
tsr_status tsr__upscale_pictures(tsr__upscale_model *model, tsr_graph *graph, float *out, const float *rgb, int n,
                                 int h, int w, tsr_error *err);

/* --- masks (nodes_mask.c) --------------------------------------------------------------------------------------------------------- */
/* 1 where a picture has exactly the colour 0xRRGGBB. */
tsr_status tsr__color_masks(tsr__value **out, const tsr__pictures *pictures, unsigned rgb, tsr_error *err);

/* --- pixels (pictures.c) --------------------------------------------------------------------------------------------------- */
/* All of the batch. tile_px 0: whole, or tiles when memory is short. */
tsr_status tsr__decode(tsr__value **out, tsr_graph *graph, const tsr__value *vae, const tsr_latent *latent, int tile_px,
                       tsr_error *err);
/* Cropped to multiples of 8, centred. */
tsr_status tsr__encode(tsr_latent **out, tsr_graph *graph, const tsr__value *vae, const tsr__pictures *pictures,
                       int tile_px, tsr_error *err);
/* Resized as ComfyUI's common_upscale does; center: cropped to the target's proportions first. */
tsr_status tsr__scale(tsr__value **out, const tsr__pictures *pictures, int width, int height, const char *method,
                      int center, tsr_error *err);
tsr_status tsr__to_image(tsr_image **out, const tsr__pictures *pictures, int index, tsr_error *err);
/* The only mask of a batch of one; else BAD_ARGUMENT. */
tsr_status tsr__one_mask(const tsr_mask **out, const tsr__value *mask, const char *name, tsr_error *err);

#endif /* TSR_GRAPH_PRIV_H */
