/* graph/node.h - what a row of the node table is, and how a node's function reads its inputs.
 *
 * Rows live in nodes_*.c, one array a file; node_table.c puts them together. */
#ifndef TSR_GRAPH_NODE_H
#define TSR_GRAPH_NODE_H

#include "core/memory.h"
#include "graph/graph_value.h"
#include "tessera/graph.h"

/* --- rows ------------------------------------------------------------------------------------------------------------- */
typedef struct tsr__names {
    char **items;
    int count, cap;
} tsr__names;
tsr_status tsr__names_add(tsr__names *names, const char *name, tsr_error *err);
void tsr__names_clear(tsr__names *names);
int tsr__names_find(const tsr__names *names, const char *name); /* index or -1 */

/* graph may be NULL: then only names that need no folder. */
typedef tsr_status (*tsr__choices_fn)(tsr__names *out, const tsr_graph *graph, tsr_error *err);

enum {
    TSR__IN_OPTIONAL = 1,
    TSR__IN_SEED = 2,       /* an INT of all 64 bits */
    TSR__IN_MANY = 4,       /* stands for name1, name2, ...: `name` ends in 1 */
    TSR__IN_FILE = 8,       /* the choices are files of the input folder */
    TSR__IN_CONTROL = 16,   /* the UI keeps a control_after_generate value behind it */
    TSR__IN_MULTILINE = 32, /* the UI shows several lines */
    TSR__IN_LINK = 64,      /* only a link can give it, whatever its type */
    TSR__IN_SCENE = 128     /* the text is a scene's JSON */
};

typedef struct tsr__input {
    const char *name;
    tsr__type type;
    unsigned flags;
    double standard, min, max, step; /* INT, FLOAT; BOOLEAN's default is standard != 0 */
    const char *text;                /* default of STRING and COMBO; NULL: "" or the first choice */
    const char *const *list;         /* choices, NULL-terminated, or */
    tsr__choices_fn choices;
    const char *doc;
} tsr__input;

#define TSR__LINK(name, type, doc)                                                                                     \
    { name, TSR__V_##type, 0, 0, 0, 0, 0, NULL, NULL, NULL, doc }
#define TSR__LINK_OPT(name, type, doc)                                                                                 \
    { name, TSR__V_##type, TSR__IN_OPTIONAL, 0, 0, 0, 0, NULL, NULL, NULL, doc }
#define TSR__INT(name, standard, min, max, doc)                                                                        \
    { name, TSR__V_INT, 0, standard, min, max, 1, NULL, NULL, NULL, doc }
#define TSR__INT_STEP(name, standard, min, max, step, doc)                                                             \
    { name, TSR__V_INT, 0, standard, min, max, step, NULL, NULL, NULL, doc }
#define TSR__SEED(name, flags, doc)                                                                                    \
    { name, TSR__V_INT, TSR__IN_SEED | (flags), 0, 0, 18446744073709551615.0, 1, NULL, NULL, NULL, doc }
#define TSR__FLOAT(name, standard, min, max, step, doc)                                                                \
    { name, TSR__V_FLOAT, 0, standard, min, max, step, NULL, NULL, NULL, doc }
#define TSR__FLOAT_OPT(name, standard, min, max, step, doc)                                                            \
    { name, TSR__V_FLOAT, TSR__IN_OPTIONAL, standard, min, max, step, NULL, NULL, NULL, doc }
#define TSR__BOOL(name, standard, doc)                                                                                 \
    { name, TSR__V_BOOLEAN, 0, standard, 0, 0, 0, NULL, NULL, NULL, doc }
#define TSR__STRING(name, flags, standard, doc)                                                                        \
    { name, TSR__V_STRING, flags, 0, 0, 0, 0, standard, NULL, NULL, doc }
#define TSR__COMBO(name, list, standard, doc)                                                                          \
    { name, TSR__V_COMBO, 0, 0, 0, 0, 0, standard, list, NULL, doc }
#define TSR__COMBO_OPT(name, list, standard, doc)                                                                      \
    { name, TSR__V_COMBO, TSR__IN_OPTIONAL, 0, 0, 0, 0, standard, list, NULL, doc }
#define TSR__COMBO_FROM(name, choices, standard, doc)                                                                  \
    { name, TSR__V_COMBO, 0, 0, 0, 0, 0, standard, NULL, choices, doc }
#define TSR__FILE(name, choices, doc)                                                                                  \
    { name, TSR__V_COMBO, TSR__IN_FILE, 0, 0, 0, 0, NULL, NULL, choices, doc }
#define TSR__END                                                                                                       \
    { NULL, TSR__V_ANY, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL }

enum { TSR__MAX_INPUTS = 24, TSR__MAX_OUTPUTS = 8 };

typedef struct tsr__output {
    const char *name;
    tsr__type type;
} tsr__output;

struct tsr__call;
typedef struct tsr__node {
    const char *name; /* class_type */
    const char *display;
    const char *category;
    const tsr__input *inputs;              /* ends with TSR__END */
    tsr__output outputs[TSR__MAX_OUTPUTS]; /* ends with a NULL name */
    int is_output;
    tsr_status (*run)(struct tsr__call *call, tsr_error *err);
    const char *doc; /* first sentence: the summary */
} tsr__node;

/* One array of rows. */
typedef struct tsr__node_group {
    const tsr__node *rows;
    int count;
    const char *pack; /* where the classes come from */
} tsr__node_group;

const tsr__node *tsr__node_at(int index); /* NULL out of range */
const tsr__node *tsr__node_find(const char *class_type);
const char *tsr__node_suggest(const char *class_type); /* NULL when nothing is near */
const char *tsr__node_pack(const tsr__node *row);
int tsr__node_inputs(const tsr__node *row);
int tsr__node_outputs(const tsr__node *row);
/* The input of that name (also name2, name3, ... of a MANY input), or -1. */
int tsr__node_input_find(const tsr__node *row, const char *name);
/* 1 when the UI shows a widget for it, so that its value is in widgets_values. */
int tsr__input_is_widget(const tsr__input *input);
/* The names an input chooses from. */
tsr_status tsr__input_choices(tsr__names *out, const tsr__input *input, const tsr_graph *graph, tsr_error *err);

/* --- reading inputs --------------------------------------------------------------------------------------------------- */
/* Of a running node or of a record. values: one a row input, NULL where absent: then the row's default counts. Asking for
 * a name that the row lacks is a mistake of the caller and ends in an assertion. */
typedef struct tsr__args {
    const tsr__node *row;
    tsr__value *const *values;
} tsr__args;
tsr__args tsr__record(const tsr__value *record);
tsr__value *tsr__arg(tsr__args args, const char *name); /* NULL when absent; borrowed */
int tsr__arg_int(tsr__args args, const char *name);
uint64_t tsr__arg_seed(tsr__args args, const char *name);
double tsr__arg_float(tsr__args args, const char *name);
int tsr__arg_bool(tsr__args args, const char *name);
const char *tsr__arg_text(tsr__args args, const char *name);

/* --- running ----------------------------------------------------------------------------------------------------------- */
typedef struct tsr__named_value {
    const char *name; /* borrowed */
    tsr__value *value;
} tsr__named_value;

/* One node being run. */
typedef struct tsr__call {
    tsr_graph *graph;
    const char *id;
    tsr__args in;
    const tsr__named_value *many; /* links of a MANY input beyond the first, in the workflow's order */
    int n_many;
    int many_before; /* how many of them the workflow names before the first */
    tsr__value *results[TSR__MAX_OUTPUTS];
    const tsr_run_hooks *hooks; /* progress and cancelling, for samplers */
    struct tsr__running *run;   /* for output nodes; see graph_priv.h */
} tsr__call;

/* Stores the result of a node's function and returns its status: return tsr__give(call, 0, value, status). */
tsr_status tsr__give(tsr__call *call, int slot, tsr__value *value, tsr_status status);
/* Notes for tsr_workflow_outputs. */
tsr_status tsr__call_note(const tsr__call *call, const char *text, tsr_error *err);
/* Gives the node's inputs as a record of its first output's type; the run function of providers. */
tsr_status tsr__run_record(tsr__call *call, tsr_error *err);

/* --- groups ------------------------------------------------------------------------------------------------------------ */
extern const tsr__node_group tsr__nodes_loaders, tsr__nodes_conditioning, tsr__nodes_latent, tsr__nodes_image,
    tsr__nodes_vae, tsr__nodes_mask, tsr__nodes_sampling, tsr__nodes_custom_sampling, tsr__nodes_impact,
    tsr__nodes_impact_upscale, tsr__nodes_inspire, tsr__nodes_sigmas, tsr__nodes_scene, tsr__nodes_latent_ops,
    tsr__nodes_image_ops, tsr__nodes_impact_ksampler, tsr__nodes_control, tsr__nodes_samplers, tsr__nodes_image_filters,
    tsr__nodes_differential, tsr__nodes_inpaint, tsr__nodes_edit, tsr__nodes_model_sampling;

/* --- choices shared by several nodes (choices.c) ------------------------------------------------------------------------ */
tsr_status tsr__choices_checkpoints(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_unets(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_text_encoders(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_vaes(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_loras(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_control_nets(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_upscale_models(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_pictures(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_latents(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_samplers(tsr__names *out, const tsr_graph *graph, tsr_error *err);
tsr_status tsr__choices_schedulers(tsr__names *out, const tsr_graph *graph, tsr_error *err);
/* ComfyUI's and the Impact Pack's own. */
tsr_status tsr__choices_impact_schedulers(tsr__names *out, const tsr_graph *graph, tsr_error *err);
/* The folder whose files these choices are, as tsr__find_file takes it; NULL when they are no files. Every function that
 * lists files has its row there, so that a changed file is noticed. */
const char *tsr__choices_folder(tsr__choices_fn choices);
/* The path of a chosen file; release with free(). Refuses names that leave the folder. */
tsr_status tsr__find_file(char **out, const tsr_graph *graph, const char *folder, const char *name, tsr_error *err);
/* The folder of tiny autoencoders; NULL: no memory. Released with free(). */
char *tsr__vae_approx(const tsr_graph *graph);
/* A file of the vae folder, or the decoder of vae_approx's pair "taesd" or "taesdxl"; *encoder is then the other half, else
 * NULL. Both are released with free(). */
tsr_status tsr__find_vae(char **out, char **encoder, const tsr_graph *graph, const char *name, tsr_error *err);
extern const char *const tsr__scale_methods[]; /* of pictures */

#endif /* TSR_GRAPH_NODE_H */
