/* tessera/graph.h - ComfyUI workflows: read, checked and run.
 *
 *   tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
 *   options.models = "models";                             // checkpoints/, loras/, upscale_models/
 *   tsr_graph_open(&graph, &options, &err);
 *   tsr_workflow_load(&workflow, "region.json", &err);     // API format, UI format, or a PNG that carries either
 *   tsr_workflow_set(workflow, "7.seed", "42", &err);
 *   tsr_workflow_validate(&report, graph, workflow, &err); // every fault at once, as ComfyUI words them
 *   tsr_workflow_run(&outputs, graph, workflow, NULL, &err);
 *
 * Threads: one thread at a time per graph, callbacks on the thread that runs; a workflow may be read by several graphs. */
#ifndef TSR_GRAPH_H
#define TSR_GRAPH_H

#include "tessera/engine.h"
#include "tessera/image.h"
#include "tessera/latent.h"
#include "tessera/region.h"
#include "tessera/status.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- workflows ---------------------------------------------------------------------------------------------------- */
typedef struct tsr_workflow tsr_workflow;

#define TSR_WORKFLOW_MAX_BYTES ((size_t)64 << 20) /* of JSON, or of the picture around it */
#define TSR_WORKFLOW_MAX_NODES 4096
#define TSR_WORKFLOW_MAX_LINKS 65536

/* Told apart by content. Muted and bypassed nodes, reroutes, primitives and notes of the UI format are resolved here.
 * Errors: NOT_FOUND, BAD_FORMAT, TOO_LARGE, UNSUPPORTED (subgraphs). Unknown nodes are no error yet. */
TSR_API tsr_status tsr_workflow_load(tsr_workflow **out, const char *path, tsr_error *err);
TSR_API tsr_status tsr_workflow_load_memory(tsr_workflow **out, const void *data, size_t size, tsr_error *err);
TSR_API void tsr_workflow_free(tsr_workflow *workflow); /* NULL is allowed */

/* target: "NODE.INPUT", NODE being an id or a title that only one node has. value: as a person writes it; a link in its
 * place goes away. Errors: NOT_FOUND with the nearest name, BAD_ARGUMENT. */
TSR_API tsr_status tsr_workflow_set(tsr_workflow *workflow, const char *target, const char *value, tsr_error *err);

/* The workflow in API format; *out is released with tsr_free. */
TSR_API tsr_status tsr_workflow_json(char **out, const tsr_workflow *workflow, tsr_error *err);

/* Only these output nodes run (ComfyUI's partial_execution_targets); NULL or none: all. Ids are copied. NOT_FOUND for an
 * id that the workflow lacks. */
TSR_API tsr_status tsr_workflow_set_targets(tsr_workflow *workflow, const char *const *ids, int n, tsr_error *err);
/* A JSON object whose members go into saved pictures beside the prompt (ComfyUI's extra_pnginfo, usually
 * {"workflow": ...}); NULL: none. Copied. Errors: BAD_FORMAT, TOO_LARGE. */
TSR_API tsr_status tsr_workflow_set_extra(tsr_workflow *workflow, const char *json, size_t size, tsr_error *err);

/* --- where workflows run ------------------------------------------------------------------------------------------- */
typedef struct tsr_graph tsr_graph;

typedef struct tsr_graph_options {
    size_t struct_size;
    const char *models; /* NULL: the folder of the model that ships with Tessera */
    const char *input;  /* NULL: "input" */
    const char *output; /* NULL: nothing is written, results are in tsr_workflow_outputs only */
    tsr_history history;
    tsr_precision precision;
    int threads;         /* 0: all that the process may use */
    const char *temp;    /* folder of PreviewImage's files; NULL: they are not written */
    size_t cache_memory; /* bytes of node results kept from run to run, so that unchanged nodes do not run again; least
                            recently used ones go first; 0: none */
    size_t model_memory; /* bytes of models kept open though the newest run did not need them; 0: none */
    size_t
        memory_budget; /* bytes that packed weights and activations of all models may take together at any time, the idle
                             ones of model_memory among them; 0: any (docs/memory.md) */
} tsr_graph_options;
/* restart: a ComfyUI user gets their picture. */
#define TSR_GRAPH_OPTIONS_INIT                                                                                         \
    { sizeof(tsr_graph_options), 0, 0, 0, TSR_HISTORY_RESTART, TSR_PRECISION_AUTO, 0, 0, 0, 0, 0 }

/* Opens no model yet; those a run needs stay open until a run that does not need them, or longer (model_memory). */
TSR_API tsr_status tsr_graph_open(tsr_graph **out, const tsr_graph_options *options, tsr_error *err);
TSR_API void tsr_graph_close(tsr_graph *graph); /* NULL is allowed */

/* Forgets kept node results, and closes models too when `models` is not 0 (ComfyUI's POST /free). Not during a run. */
TSR_API void tsr_graph_release(tsr_graph *graph, int models);

typedef struct tsr_graph_memory {
    size_t results; /* bytes of kept node results */
    size_t models;  /* bytes of open models, about */
    int model_count;
    uint64_t
        swaps; /* since the graph was opened: networks that runs packed again (memory_budget), and how long it took */
    double swap_seconds;
} tsr_graph_memory;
TSR_API tsr_graph_memory tsr_graph_get_memory(const tsr_graph *graph);

/* Released by tsr_workflow_report_free. */
typedef struct tsr_workflow_report {
    int faults;       /* in all nodes that some output needs */
    int good_outputs; /* output nodes that can run */
    char *outputs;    /* their ids, a JSON list */
    char *json;       /* {"error": {...} or null, "node_errors": {...}} as POST /prompt answers */
    char *text;       /* one line a fault; "" without faults */
} tsr_workflow_report;
/* OK also when faults were found. */
TSR_API tsr_status tsr_workflow_validate(tsr_workflow_report **out, tsr_graph *graph, const tsr_workflow *workflow,
                                         tsr_error *err);
TSR_API void tsr_workflow_report_free(tsr_workflow_report *report); /* NULL is allowed */

/* One saved file (or what would have been saved). */
typedef struct tsr_workflow_output {
    char *node;      /* id of the output node */
    char *type;      /* "output" or "temp" */
    char *subfolder; /* below the output folder, "" at its top */
    char *filename;
    char *path; /* as written; NULL when nothing is written */
    tsr_image
        *image; /* of picture outputs, with metadata; else NULL. NULL too when an earlier run saved it: see path */
    tsr_latent *latent; /* of SaveLatent, likewise */
} tsr_workflow_output;

typedef enum tsr_graph_event_kind {
    TSR_GRAPH_NODE_STARTED = 0,
    TSR_GRAPH_NODE_PROGRESS, /* progress is set */
    TSR_GRAPH_NODE_DONE,     /* outputs are set where the node saved something */
    TSR_GRAPH_NODE_CACHED,   /* an equal node has run already, in this run or an earlier one; outputs as above */
    TSR_GRAPH_RUN_STARTED,   /* before the first node; cached holds the ids that will not run */
    TSR_GRAPH_NODE_PREVIEW,  /* preview and progress are set; only when callbacks ask for previews */
    TSR_GRAPH_NODE_FAILED,   /* message is set; the run ends with an error. Not told on CANCELLED */
    TSR_GRAPH_NODE_SAVING    /* outputs is one file that is about to be written: its path, but no content yet */
} tsr_graph_event_kind;

/* Valid during the callback. */
typedef struct tsr_graph_event {
    size_t struct_size;
    tsr_graph_event_kind kind;
    const char *node;       /* its id; NULL in RUN_STARTED */
    const char *class_type; /* of that node */
    int done, total;        /* nodes */
    const tsr_progress *progress;
    const tsr_image *preview; /* the picture so far, small */
    const tsr_workflow_output *outputs;
    int output_count;
    const char *const *cached;
    int cached_count;
    const char *message;
} tsr_graph_event;

typedef struct tsr_graph_callbacks {
    size_t struct_size;
    void *user;
    int (*event)(void *user, const tsr_graph_event *event); /* not 0 stops the run; may be NULL, as the next */
    int (*cancelled)(void *user);
    double preview_seconds; /* least time between two previews; 0: none are made */
    /* TAESD is looked for in the models folder's vae_approx/, then beside the model; where it is asked for and missing, a
     * note says so and latent2rgb stands in, as in ComfyUI. */
    tsr_preview_method preview_method;
} tsr_graph_callbacks;
#define TSR_GRAPH_CALLBACKS_INIT                                                                                       \
    { sizeof(tsr_graph_callbacks), 0, 0, 0, 0.0, TSR_PREVIEW_AUTO }

/* Released by tsr_workflow_outputs_free; images and latents may be taken out (leave NULL behind). */
typedef struct tsr_workflow_outputs {
    tsr_workflow_output *items;
    int count;
    int nodes_run;    /* nodes that ran */
    int nodes_cached; /* nodes that an equal one stood for */
    char **notes;     /* what is legal but perhaps not meant, one line each, with the node's name; of nodes that ran */
    int note_count;
    int swaps; /* under a memory budget: UNets and control networks that were packed again, how long that took in all */
    double swap_seconds;
    size_t swap_bytes; /* and how much it was, packed */
} tsr_workflow_outputs;
TSR_API void tsr_workflow_outputs_free(tsr_workflow_outputs *outputs); /* NULL is allowed */

/* Runs the output nodes that have no fault, and what they need. Errors: BAD_ARGUMENT when no output can run (the first
 * fault is in the message, all of them in tsr_workflow_validate), CANCELLED, and what nodes say, with the node's name. */
TSR_API tsr_status tsr_workflow_run(tsr_workflow_outputs **out, tsr_graph *graph, const tsr_workflow *workflow,
                                    const tsr_graph_callbacks *callbacks, tsr_error *err);

/* --- the table of nodes -------------------------------------------------------------------------------------------- */
TSR_API int tsr_node_count(void);
TSR_API const char *tsr_node_name(int index);    /* ComfyUI's class_type; NULL out of range */
TSR_API const char *tsr_node_summary(int index); /* one line */
TSR_API const char *tsr_node_category(int index);
TSR_API int tsr_node_find(const char *name); /* index or -1 */
/* Inputs, ranges, defaults and outputs of a node as readable text; NOT_FOUND with the nearest name. Release *out with
 * tsr_free. */
TSR_API tsr_status tsr_node_help(char **out, const char *name, tsr_error *err);
/* All nodes as one Markdown page (docs/nodes.md). Release *out with tsr_free. */
TSR_API tsr_status tsr_nodes_markdown(char **out, tsr_error *err);
/* ComfyUI's GET /object_info for one node (or all with NULL), choices as this graph finds them. Release *out with
 * tsr_free. */
TSR_API tsr_status tsr_node_object_info(char **out, tsr_graph *graph, const char *name, tsr_error *err);
/* The files that "embedding:NAME" in a prompt can name, a JSON list; names without their endings where asked for (ComfyUI's GET
 * /embeddings). Release *out with tsr_free. */
TSR_API tsr_status tsr_graph_embeddings(char **out, const tsr_graph *graph, int with_endings, tsr_error *err);

#ifdef __cplusplus
}
#endif
#endif /* TSR_GRAPH_H */
