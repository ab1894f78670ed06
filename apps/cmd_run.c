/* apps/cmd_run.c - `tessera run`: a ComfyUI workflow through the library's nodes.
 *
 * Every fault of the workflow is printed before anything runs; paths of saved files go to standard output. */
#include "cmd_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "progress.h"
#include "signals.h"
#include "tessera/graph.h"

static const char HELP[] =
    "usage: tessera run WORKFLOW [OPTION]...\n"
    "\n"
    "Runs a ComfyUI workflow: API format, UI format, or a picture that ComfyUI saved.\n"
    "\n"
    "  --models DIR             checkpoints/, loras/, upscale_models/ (default: the folder of the shipped model)\n"
    "  --input DIR              pictures and latents that the workflow loads (default: input)\n"
    "  --output DIR             where it saves (default: output)\n"
    "  --set NODE.INPUT=VALUE   changes a value; NODE is an id or a title; may be repeated\n"
    "  --history restart|keep   restart: the picture ComfyUI paints (default); keep: every sampler keeps its history\n"
    "  --precision f32|bf16     arithmetic (default: bf16 where the processor has it)\n"
    "  --threads N              processor threads (default: all)\n"
    "  --memory SIZE            what the networks of all models may take together, such as 6GB; others are\n"
    "                           packed again when their turn comes (default: no bound; docs/memory.md)\n"
    "  --check                  look for faults and run nothing\n"
    "\n"
    "`tessera nodes` lists the nodes.\n";

/* --- the command line ------------------------------------------------------------------------------------------------- */
enum { MAX_SETS = 256 };

typedef struct request {
    const char *workflow;
    tsr_graph_options graph;
    const char *sets[MAX_SETS]; /* NODE.INPUT=VALUE */
    int n_sets;
    int check;
} request;

static int take_history(request *r, const char *value) {
    int history = tsr_history_find(value);
    if (history < 0) return usage_error("--history takes restart or keep, not '%.80s'", value);
    r->graph.history = (tsr_history)history;
    return 0;
}

static int take_precision(request *r, const char *value) {
    if (strcmp(value, "f32") == 0) r->graph.precision = TSR_PRECISION_F32;
    else if (strcmp(value, "bf16") == 0) r->graph.precision = TSR_PRECISION_BF16;
    else return usage_error("--precision takes f32 or bf16, not '%.80s'", value);
    return 0;
}

static int take_threads(request *r, const char *value) {
    char *end = NULL;
    long threads = strtol(value, &end, 10);
    if (!*value || *end || threads < 0 || threads > 1024)
        return usage_error("--threads takes 0 to 1024, not '%.80s'", value);
    r->graph.threads = (int)threads;
    return 0;
}

static int take_memory(request *r, const char *value) {
    tsr_error err = TSR_ERROR_INIT;
    if (tsr_size_parse(&r->graph.memory_budget, value, &err) == TSR_OK) return 0;
    return usage_error("--memory: %s", err.message);
}

static int take_set(request *r, const char *value) {
    if (!strchr(value, '=')) return usage_error("--set takes NODE.INPUT=VALUE, not '%.80s'", value);
    if (r->n_sets == MAX_SETS) return usage_error("--set may be given %d times", MAX_SETS);
    r->sets[r->n_sets++] = value;
    return 0;
}

/* Status of one option with its value. */
static int take_option(request *r, const char *name, const char *value) {
    if (strcmp(name, "--models") == 0) r->graph.models = value;
    else if (strcmp(name, "--input") == 0) r->graph.input = value;
    else if (strcmp(name, "--output") == 0) r->graph.output = value;
    else if (strcmp(name, "--history") == 0) return take_history(r, value);
    else if (strcmp(name, "--precision") == 0) return take_precision(r, value);
    else if (strcmp(name, "--threads") == 0) return take_threads(r, value);
    else if (strcmp(name, "--memory") == 0) return take_memory(r, value);
    else if (strcmp(name, "--set") == 0) return take_set(r, value);
    else return usage_error("run has no option '%.80s'; `tessera run --help` lists them", name);
    return 0;
}

static int parse(request *r, int argc, char **argv) {
    static const tsr_graph_options defaults = TSR_GRAPH_OPTIONS_INIT;
    memset(r, 0, sizeof *r);
    r->graph = defaults;
    r->graph.output = "output";
    for (int i = 0; i < argc; i++) {
        char name[32];
        const char *equals = strchr(argv[i], '=');
        int result = 0;
        if (strcmp(argv[i], "--check") == 0) {
            r->check = 1;
        } else if (strncmp(argv[i], "--", 2) != 0) {
            if (r->workflow) return usage_error("run takes one workflow; '%.80s' is one too many", argv[i]);
            r->workflow = argv[i];
        } else if (equals && equals - argv[i] < (int)sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)(equals - argv[i]), argv[i]);
            result = take_option(r, name, equals + 1);
        } else if (i + 1 == argc) {
            return usage_error("%.80s needs a value", argv[i]);
        } else {
            result = take_option(r, argv[i], argv[i + 1]);
            i++;
        }
        if (result) return result;
    }
    return r->workflow ? 0 : usage_error("run needs a workflow: tessera run WORKFLOW.json [OPTION]...");
}

/* --- the run ------------------------------------------------------------------------------------------------------------ */
static int on_cancelled(void *user) {
    (void)user;
    return stop_signal();
}

static int on_event(void *user, const tsr_graph_event *event) {
    progress_bar *bar = user;
    if (event->kind == TSR_GRAPH_NODE_PROGRESS) {
        progress_show(bar, event->progress);
    } else if (event->kind == TSR_GRAPH_NODE_STARTED) {
        bar->start = seconds_now();
        bar->quarters = 0;
    } else {
        progress_clear(bar);
    }
    return 0;
}

static tsr_status apply_sets(tsr_workflow *workflow, const request *r, tsr_error *err) {
    for (int i = 0; i < r->n_sets; i++) {
        char target[512];
        const char *equals = strchr(r->sets[i], '=');
        snprintf(target, sizeof target, "%.*s", (int)(equals - r->sets[i]), r->sets[i]);
        tsr_status status = tsr_workflow_set(workflow, target, equals + 1, err);
        if (status != TSR_OK) return status;
    }
    return TSR_OK;
}

/* 0, or an exit status when nothing can run. Faults are printed either way. */
static int check(int *faults, tsr_graph *graph, const tsr_workflow *workflow) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_report *faulty = NULL;
    if (tsr_workflow_validate(&faulty, graph, workflow, &err) != TSR_OK) return report(&err);
    fputs(faulty->text, stderr);
    *faults = faulty->faults;
    int result = faulty->good_outputs > 0 ? 0 : EXIT_RUN;
    tsr_workflow_report_free(faulty);
    return result;
}

static int run(tsr_graph *graph, const tsr_workflow *workflow) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = NULL;
    progress_bar bar;
    tsr_graph_callbacks callbacks = TSR_GRAPH_CALLBACKS_INIT;
    progress_begin(&bar);
    callbacks.user = &bar;
    callbacks.event = on_event;
    callbacks.cancelled = on_cancelled;
    double start = seconds_now();
    tsr_status status = tsr_workflow_run(&outputs, graph, workflow, &callbacks, &err);
    progress_clear(&bar);
    if (status == TSR_CANCELLED && stop_signal()) {
        fputs("tessera: interrupted\n", stderr);
        return 128 + stop_signal();
    }
    if (status != TSR_OK) return report(&err);
    for (int i = 0; i < outputs->count; i++)
        if (outputs->items[i].path) printf("%s\n", outputs->items[i].path);
    for (int i = 0; i < outputs->note_count; i++) fprintf(stderr, "tessera: note: %s\n", outputs->notes[i]);
    fprintf(stderr, "%d nodes run, %d taken from equal ones, %.2f s", outputs->nodes_run, outputs->nodes_cached,
            seconds_now() - start);
    show_swaps(outputs->swaps, outputs->swap_seconds, outputs->swap_bytes);
    fputc('\n', stderr);
    tsr_workflow_outputs_free(outputs);
    return 0;
}

int command_run(int argc, char **argv) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    tsr_graph *graph = NULL;
    request r;
    int result = 0, faults = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        fputs(HELP, stdout);
        return 0;
    }
    result = parse(&r, argc, argv);
    if (result) return result;
    watch_signals();
    if (tsr_workflow_load(&workflow, r.workflow, &err) != TSR_OK || apply_sets(workflow, &r, &err) != TSR_OK ||
        tsr_graph_open(&graph, &r.graph, &err) != TSR_OK)
        result = report(&err);
    if (!result) result = check(&faults, graph, workflow);
    if (!result && !r.check) result = run(graph, workflow);
    if (!result && faults) result = EXIT_RUN; /* some outputs could not run */
    tsr_graph_close(graph);
    tsr_workflow_free(workflow);
    return result;
}
