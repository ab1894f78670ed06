/* fuzz_workflow.c - workflows in API and UI format: any bytes are read or refused; what is read is checked, printed and read
 * again to the same. Nothing is run. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/graph.h"
#include "tessera/solver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static tsr_graph *open_graph(void) {
    tsr_graph_options options = TSR_GRAPH_OPTIONS_INIT;
    tsr_graph *graph = NULL;
    options.models = options.input = "/nonexistent";
    if (tsr_graph_open(&graph, &options, NULL) != TSR_OK) abort();
    return graph;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tsr_graph *graph; /* holds no state between workflows: nothing runs */
    tsr_workflow *workflow = NULL, *again = NULL;
    tsr_workflow_report *report = NULL;
    char *first = NULL, *second = NULL;
    if (!graph) graph = open_graph();
    if (size > 1 << 16) return 0;
    if (tsr_workflow_load_memory(&workflow, data, size, NULL) != TSR_OK) return 0;
    if (tsr_workflow_validate(&report, graph, workflow, NULL) != TSR_OK) abort();
    if ((report->faults == 0) != (*report->text == 0)) abort();
    tsr_workflow_report_free(report);
    (void)tsr_workflow_set(workflow, "1.seed", "7", NULL);
    if (tsr_workflow_json(&first, workflow, NULL) != TSR_OK) abort();
    /* A node called "nodes" or "prompt" reads as another format; all others come back as they were. */
    if (tsr_workflow_load_memory(&again, first, strlen(first), NULL) == TSR_OK) {
        if (tsr_workflow_json(&second, again, NULL) != TSR_OK) abort();
        if (!strstr(first, "\"nodes\"") && !strstr(first, "\"prompt\"") && strcmp(first, second) != 0) abort();
    }
    tsr_free(first);
    tsr_free(second);
    tsr_workflow_free(workflow);
    tsr_workflow_free(again);
    return 0;
}
