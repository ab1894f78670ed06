/* graph_fixture.h - a graph in a folder of its own, workflows run in it, and what it told, as text. */
#ifndef GRAPH_FIXTURE_H
#define GRAPH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "golden_file.h"
#include "tessera/graph.h"

typedef struct fixture {
    char root[64]; /* holds models/checkpoints with one.safetensors and two.safetensors, input, output, temp */
    char models[80], input[80], output[80], temp[80];
    tsr_graph *graph;
    char told[4096]; /* "run[ids] >id =id(files) *id !id" as told: started, done, cached, failed */
    int progress, previews, outputs;
    int stop_at; /* the progress at which to stop; 0: never */
    tsr_image *last_preview;
    tsr_graph_callbacks callbacks;
} fixture;

static inline void say(fixture *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void say(fixture *f, const char *format, ...) {
    va_list list;
    size_t at = strlen(f->told);
    va_start(list, format);
    vsnprintf(f->told + at, sizeof f->told - at, format, list);
    va_end(list);
}

static inline void keep_preview(fixture *f, const tsr_image *from) {
    tsr_image_free(f->last_preview);
    assert_int_equal(tsr_image_new(&f->last_preview, from->width, from->height, 3, NULL), TSR_OK);
    memcpy(f->last_preview->pixels, from->pixels, (size_t)from->width * (size_t)from->height * 3);
}

static inline int on_event(void *user, const tsr_graph_event *event) {
    fixture *f = user;
    switch (event->kind) {
    case TSR_GRAPH_RUN_STARTED:
        say(f, "run[");
        for (int i = 0; i < event->cached_count; i++) say(f, "%s%s", i ? " " : "", event->cached[i]);
        say(f, "]");
        break;
    case TSR_GRAPH_NODE_STARTED: say(f, " >%s", event->node); break;
    case TSR_GRAPH_NODE_DONE: say(f, " =%s", event->node); break;
    case TSR_GRAPH_NODE_CACHED: say(f, " *%s", event->node); break;
    case TSR_GRAPH_NODE_FAILED: say(f, " !%s %s", event->node, event->message); break;
    case TSR_GRAPH_NODE_PREVIEW:
        f->previews++;
        keep_preview(f, event->preview);
        assert_non_null(event->progress);
        break;
    case TSR_GRAPH_NODE_SAVING: return 0; /* test_graph_saving.c */
    case TSR_GRAPH_NODE_PROGRESS: return ++f->progress == f->stop_at;
    }
    f->outputs += event->output_count;
    for (int i = 0; i < event->output_count; i++) {
        assert_string_equal(event->outputs[i].node, event->node);
        say(f, "(%s)", event->outputs[i].filename);
    }
    return 0;
}

/* options may be NULL; models, input, output, temp and precision are set here. */
static inline void open_graph(fixture *f, const tsr_graph_options *given) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_error err = TSR_ERROR_INIT;
    if (given) options = *given;
    options.models = f->models;
    options.input = f->input;
    options.output = f->output;
    options.temp = f->temp;
    options.precision = TSR_PRECISION_F32;
    tsr_graph_close(f->graph);
    if (tsr_graph_open(&f->graph, &options, &err) != TSR_OK) fail_msg("%s", err.message);
}

static inline void fixture_open(fixture *f, const tsr_graph_options *given) {
    static const tsr_graph_callbacks fresh = TSR_GRAPH_CALLBACKS_INIT;
    char path[200], model[] = TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors";
    memset(f, 0, sizeof *f);
    strcpy(f->root, "/tmp/tessera-graph-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->models, sizeof f->models, "%s/models", f->root);
    snprintf(f->input, sizeof f->input, "%s/input", f->root);
    snprintf(f->output, sizeof f->output, "%s/output", f->root);
    snprintf(f->temp, sizeof f->temp, "%s/temp", f->root);
    snprintf(path, sizeof path, "%s/checkpoints", f->models);
    assert_int_equal(mkdir(f->models, 0777) | mkdir(f->input, 0777) | mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/checkpoints/one.safetensors", f->models);
    assert_int_equal(symlink(model, path), 0);
    snprintf(path, sizeof path, "%s/checkpoints/two.safetensors", f->models);
    assert_int_equal(symlink(model, path), 0);
    f->callbacks = fresh;
    f->callbacks.user = f;
    f->callbacks.event = on_event;
    open_graph(f, given);
}

static inline void fixture_close(fixture *f) {
    char command[100];
    tsr_graph_close(f->graph);
    tsr_image_free(f->last_preview);
    snprintf(command, sizeof command, "rm -r %s", f->root);
    assert_int_equal(system(command), 0);
}

static inline tsr_workflow *load_text(const char *text) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow *workflow = NULL;
    if (tsr_workflow_load_memory(&workflow, text, strlen(text), &err) != TSR_OK) fail_msg("%s", err.message);
    return workflow;
}

static inline tsr_status try_run(fixture *f, tsr_workflow_outputs **out, const char *text, tsr_error *err) {
    tsr_workflow *workflow = load_text(text);
    f->told[0] = 0;
    f->progress = f->previews = f->outputs = 0;
    tsr_status status = tsr_workflow_run(out, f->graph, workflow, &f->callbacks, err);
    tsr_workflow_free(workflow);
    return status;
}

static inline tsr_workflow_outputs *run_text(fixture *f, const char *text) {
    tsr_error err = TSR_ERROR_INIT;
    tsr_workflow_outputs *outputs = NULL;
    if (try_run(f, &outputs, text, &err) != TSR_OK) fail_msg("%s", err.message);
    assert_int_equal(f->outputs, outputs->count); /* every output was told */
    return outputs;
}

/* Runs and forgets the outputs. */
static inline void run_only(fixture *f, const char *text) {
    tsr_workflow_outputs_free(run_text(f, text));
}

#define NODE(id, class_type, inputs) "\"" id "\":{\"class_type\":\"" class_type "\",\"inputs\":{" inputs "}}"
#define SAVE(id, from)               NODE(id, "SaveImage", "\"images\":[\"" from "\",0],\"filename_prefix\":\"p\"")

#endif /* GRAPH_FIXTURE_H */
