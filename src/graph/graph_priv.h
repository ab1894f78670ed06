/* graph/graph_priv.h - what the parser, the checker and the runner share. */
#ifndef TSR_GRAPH_PRIV_H
#define TSR_GRAPH_PRIV_H

#include <jansson.h>
#include <time.h>

#include "engine/engine_memory.h"
#include "engine/engine_preview.h"
#include "engine/engine_priv.h"
#include "engine/workflow_text.h"
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
    json_t *prompt;     /* API format: owns everything below */
    json_t *ui;         /* the UI format it was made of, or NULL: goes into saved pictures */
    json_t *extra;      /* an object whose members go into saved pictures, or NULL */
    tsr__names targets; /* ids of the output nodes that run; none: all */
    tsr__workflow_node *nodes;
    int n_nodes;
};

/* workflow_ui.c: UI format to API format. *out is a new reference. */
tsr_status tsr__workflow_from_ui(json_t **out, const json_t *ui, tsr_error *err);
/* workflow_subgraphs.c: {nodes, links} of a drawn workflow with all subgraphs laid out flat; their borders are nodes of type
 * TSR__UI_BORDER with `pass`: for each slot the link to follow, or a value. *out is a new reference. */
#define TSR__UI_BORDER "tessera/border"
tsr_status tsr__subgraphs_expand(json_t **out, const json_t *drawn, tsr_error *err);

/* A link's source, or -1 when it is no link or leads nowhere. */
int tsr__workflow_link(const tsr_workflow *workflow, const json_t *value, int *slot_out);
int tsr__workflow_find(const tsr_workflow *workflow, const char *id);
/* Whether the node is an output node that runs. */
int tsr__workflow_wants(const tsr_workflow *workflow, const tsr__workflow_node *node);
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

/* Another meaning of a model's output than its own, with its noise levels. Counted; never changed. */
typedef struct tsr__model_sampling {
    int refs;
    tsr__sampling rule;     /* its table is the next */
    tsr_sigma_table *table; /* owned */
    char *key;              /* equal keys, equal samplings */
} tsr__model_sampling;

/* An engine as one sampling sees it; sampling NULL: its own. */
typedef struct tsr__face {
    tsr__model_sampling *sampling; /* counted */
    const tsr_denoiser *denoiser;  /* the engine's own, or of the next */
    tsr__sampled_denoiser sampled;
    tsr__cond_denoiser lists;
    struct tsr__face *next;
} tsr__face;

/* A text, its control and its picture as one model's network wants them. */
typedef struct tsr__bound {
    tsr__text *text;
    tsr__control *control;
    tsr__value *concat;
    const tsr__face *face; /* whose noise levels the control's part of the sampling means */
    tsr__conditioning *cond;
    struct tsr__bound *next;
} tsr__bound;

/* Two lists of conditionings, likewise. */
typedef struct tsr__pair {
    const tsr__face *face; /* whose noise levels their parts of the sampling mean */
    tsr__value *sides[2];
    tsr__cond_pair *pair;
    struct tsr__pair *next;
} tsr__pair;

/* What a slot's files are: all of a model, or one part, from files of its own. */
typedef enum tsr__slot_role { TSR__SLOT_WHOLE, TSR__SLOT_UNET, TSR__SLOT_TEXT, TSR__SLOT_VAE } tsr__slot_role;

/* A checkpoint, perhaps with adapters: what MODEL, CLIP and VAE values refer to. Opened when first needed. */
typedef struct tsr__slot {
    char *key;
    tsr__slot_role role;
    char *checkpoint; /* path */
    char *second;     /* SDXL's other text encoder, TAESD's encoder, or NULL */
    tsr__adapter *adapters;
    int n_adapters;
    struct tsr__slot *base; /* with adapters: the slot without, whose engine serves both; NULL: engine is its own */
    tsr__adapter_set *set;  /* with a base: the adapters as terms beside its engine's weights; NULL: not made yet */
    char *warning;          /* what the adapters had to say, not told yet; or NULL */
    tsr_engine *engine;     /* see tsr__slot_now */
    tsr__bound *bound;
    tsr__pair *pairs;
    tsr__face *faces;         /* of the engine that it owns */
    tsr__preview_map preview; /* channels 0: not made yet */
    uint64_t tiny_run;        /* the run in which a TAESD for previews was last looked for */
    int has_tiny;             /* and whether it was found */
    int refs;                 /* values that stand for it */
    uint64_t last_run;        /* number of the newest run that used it */
    struct tsr__slot *next;
} tsr__slot;

typedef struct tsr__cache tsr__cache;

struct tsr_graph {
    char *models, *input, *output, *temp;
    char temp_prefix[24]; /* of PreviewImage's files */
    size_t model_memory;
    tsr__budget budget; /* of all engines */
    uint64_t swaps;     /* of all runs */
    double swap_seconds;
    tsr__cache *cache; /* NULL: nothing is kept */
    uint64_t runs;     /* so far; the one in hand counts */
    uint64_t unknowns; /* keys made so far that equal no other */
    tsr_history history;
    tsr_precision precision;
    int threads;
    tsr__slot *slots;
    const tsr_engine_callbacks *callbacks; /* of the run in hand, for text and pictures */
    double preview_seconds;                /* of that run; 0: no previews */
    tsr__slot *painter;                    /* whose network samples; for previews; NULL between runs */
};

/* The open engine that serves a slot, or NULL. */
tsr_engine *tsr__slot_now(const tsr__slot *slot);
tsr_status tsr__slot_get(tsr__slot **out, tsr_graph *graph, const char *checkpoint, tsr_error *err);
/* A part of a model; second: NULL, or the file of another text encoder. */
tsr_status tsr__slot_get_part(tsr__slot **out, tsr_graph *graph, tsr__slot_role role, const char *path,
                              const char *second, tsr_error *err);
/* The slot's model with one more adapter. */
tsr_status tsr__slot_adapt(tsr__slot **out, tsr_graph *graph, const tsr__slot *slot, const char *path, double model,
                           double clip, tsr_error *err);
tsr_status tsr__slot_engine(tsr_engine **out, tsr_graph *graph, tsr__slot *slot, tsr_error *err);
/* A guide for a MODEL and two CONDITIONINGs; negative may be NULL. Valid until the run ends. */
tsr_status tsr__slot_guide(tsr_guide *out, tsr_graph *graph, const tsr__value *model, tsr__value *positive,
                           tsr__value *negative, double cfg, tsr_error *err);
/* models_sampling.c: the noise levels of a MODEL. */
const tsr_sigma_table *tsr__model_table(const tsr__value *model, const tsr_engine *engine);
/* Takes table over, also when it fails. key: tells equal ones. */
tsr_status tsr__model_sampling_new(tsr__model_sampling **out, tsr__output_rule rule, double data,
                                   tsr_sigma_table *table, const char *key, tsr_error *err);
/* The face of the slot's engine for a sampling (NULL: its own), made when it is new; the engine is open. Slots that share an
 * engine share its faces, so that their evaluations go together. */
tsr_status tsr__slot_face(tsr__face **out, tsr__slot *slot, tsr__model_sampling *sampling, tsr_error *err);
void tsr__slot_free_faces(tsr__slot *slot);
/* models_control.c: the uses of a chain, as the engine takes them; *out is the caller's count. */
tsr_status tsr__control_bind(tsr__control_set **out, tsr_engine *engine, const tsr_sigma_table *table,
                             const tsr__control *control, tsr_error *err);
/* The negative as it is sampled beside the positive: itself, or a copy with the controls that ControlNetApply gives to both.
 * *out is the caller's reference. */
tsr_status tsr__control_negative(tsr__value **out, const tsr__value *positive, tsr__value *negative, tsr_error *err);
/* Notes of the call: what adapters had to say since the last one. */
tsr_status tsr__slots_tell(const tsr__call *call, tsr_error *err);
/* Forgets what one run bound; closes engines that it did not use, but for model_memory. */
void tsr__slots_end_run(tsr_graph *graph);
/* Closes all engines; slots that values stand for stay. */
void tsr__slots_close_engines(tsr_graph *graph);
size_t tsr__slots_bytes(const tsr_graph *graph, int *count_out);
void tsr__slots_free(tsr_graph *graph);

/* --- keys (cache_key.c) ---------------------------------------------------------------------------------------------------- */
/* Equal keys, equal results: made of the class, the inputs, the keys of what is linked, and the files that are read. */
typedef struct tsr__key {
    unsigned char bytes[32];
} tsr__key;
/* keys: [nodes], those of linked nodes filled. *file_bytes: size of the files that the node reads. */
tsr_status tsr__key_of(tsr__key *out, size_t *file_bytes, tsr_graph *graph, const tsr_workflow *workflow, int index,
                       const tsr__key *keys, tsr_error *err);
/* The n-th node of an equal key that must run by itself. */
void tsr__key_number(tsr__key *key, int n);
/* What tells a file from another, or from itself after a change: path, size, time, place; NULL when it cannot be read or
 * memory is out. Release with free(). */
char *tsr__file_identity(const char *path, size_t *bytes_out);

/* --- results kept from run to run (cache.c) ---------------------------------------------------------------------------------- */
typedef struct tsr__kept_file {
    tsr_workflow_output output; /* without node, picture and latent */
    char *identity;
} tsr__kept_file;

typedef struct tsr__kept {
    tsr__key key;
    tsr__value *results[TSR__MAX_OUTPUTS];
    tsr__kept_file *files;
    int n_files;
    size_t bytes;
    struct tsr__kept *newer, *older, *next; /* by use; in the bucket */
} tsr__kept;

tsr_status tsr__cache_new(tsr__cache **out, size_t limit, tsr_error *err);
void tsr__cache_free(tsr__cache *cache); /* NULL is allowed, as for all of these */
void tsr__cache_clear(tsr__cache *cache);
size_t tsr__cache_bytes(const tsr__cache *cache);
/* NULL when there is none, or its files are not what they were. Valid until the next call that takes the cache. */
const tsr__kept *tsr__cache_find(tsr__cache *cache, const tsr__key *key);
/* Keeps what fits. Nothing is kept of outputs that no file holds, or when memory is short. */
void tsr__cache_store(tsr__cache *cache, const tsr__key *key, tsr__value *const *results,
                      const tsr_workflow_output *outputs, int n_outputs);

/* --- running (execute.c) ------------------------------------------------------------------------------------------------ */
typedef struct tsr__running {
    tsr_graph *graph;
    const tsr_workflow *workflow;
    const tsr_graph_callbacks *callbacks;
    tsr_workflow_outputs *outputs;
    tsr_graph_event event; /* of the node in hand */
    tsr_engine_callbacks engine_callbacks;
    double last_preview, preview_cost;
    int told_no_tiny;
} tsr__running;

/* Adds an output of the node in hand, named prefix_00001_extension with the next free number; makes the folder. The
 * caller fills image or latent and saves to path when that is not NULL. temp: into the temp folder. */
tsr_status tsr__add_output(tsr_workflow_output **out, tsr__call *call, const char *prefix, const char *extension,
                           int temp, tsr_error *err);
/* filename_prefix.c: %width%, %height%, %year%, %month%, %day%, %hour%, %minute% and %second% become numbers; release with
 * free(). */
tsr_status tsr__fill_prefix(char **out, const char *prefix, int width, int height, time_t now, tsr_error *err);
/* Says that `output` is about to be written; not 0 stops the run. */
int tsr__run_tell_saving(tsr__running *run, const tsr_workflow_output *output);
/* One more, all NULL. */
tsr_status tsr__new_output(tsr_workflow_output **out, tsr_workflow_outputs *outputs, tsr_error *err);
void tsr__output_clear(tsr_workflow_output *output);

/* --- previews (run_preview.c) ------------------------------------------------------------------------------------------------ */
/* The picture so far, when it is time for one; else NULL. Release with tsr_image_free. */
tsr_image *tsr__run_preview(tsr__running *run, const tsr_progress *progress);
/* Under a memory budget, before a network samples: what previews need of the VAE is made while that costs no network. */
void tsr__run_prepare_preview(const tsr_graph *graph, tsr__slot *slot);

/* --- text (nodes_conditioning.c) ------------------------------------------------------------------------------------------------- */
tsr_status tsr__encode_text(tsr__value **out, tsr_graph *graph, const tsr__value *clip, const char *prompt,
                            tsr_error *err);

/* --- wildcards (wildcard.c) --------------------------------------------------------------------------------------------------- */
/* A prompt with the Impact Pack's tags. *model and *clip are owned references; LoRA tags replace them. */
tsr_status tsr__wildcard_encode(tsr__value **cond, tsr__value **model, tsr__value **clip, tsr_graph *graph,
                                const char *prompt, tsr_error *err);

/* --- scenes (nodes_scene.c) ---------------------------------------------------------------------------------------------------- */
/* The scene of a JSON text from a workflow: checked, its files found inside the graph's folders, its model not set. */
tsr_status tsr__scene_input(tsr_scene **out, const tsr_graph *graph, const char *text, tsr_error *err);
/* Calls visit for each file that painting it reads; 0 when it holds random seeds beside its own, which a node gives. */
typedef void (*tsr__scene_file_fn)(void *user, const char *path);
int tsr__scene_files(const tsr_scene *scene, tsr__scene_file_fn visit, void *user);

/* --- samplers (nodes_samplers.c) ------------------------------------------------------------------------------------------------ */
typedef struct tsr__sampler {
    const char *name; /* the value's, or static */
    tsr_solver_options options;
} tsr__sampler;
/* What a SAMPLER stands for. Refuses options that the solvers do not know. */
tsr_status tsr__sampler_of(tsr__sampler *out, const tsr__value *sampler, tsr_error *err);

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
/* The same in tiles of the caller's choice. */
tsr_status tsr__decode_tiles(tsr__value **out, tsr_graph *graph, const tsr__value *vae, const tsr_latent *latent,
                             tsr__vae_tiles tiles, tsr_error *err);
tsr_status tsr__encode_tiles(tsr_latent **out, tsr_graph *graph, const tsr__value *vae, const tsr__pictures *pictures,
                             tsr__vae_tiles tiles, tsr_error *err);
/* Resized as ComfyUI's common_upscale does; center: cropped to the target's proportions first. */
tsr_status tsr__scale(tsr__value **out, const tsr__pictures *pictures, int width, int height, const char *method,
                      int center, tsr_error *err);
tsr_status tsr__to_image(tsr_image **out, const tsr__pictures *pictures, int index, tsr_error *err);
/* A batch of masks as a latent's noise mask. */
tsr_status tsr__noise_mask(tsr_mask **out, const tsr__value *mask, tsr_error *err);
/* The only mask of a batch of one; else BAD_ARGUMENT. */
tsr_status tsr__one_mask(const tsr_mask **out, const tsr__value *mask, const char *name, tsr_error *err);

#endif /* TSR_GRAPH_PRIV_H */
