/* apps/cmd_nodes.c - `tessera nodes`: the library's table of nodes. */
#include <stdio.h>
#include <string.h>

#include "cmd_run.h"
#include "options.h"
#include "tessera/graph.h"

static int print(tsr_status status, char *text, const tsr_error *err) {
    if (status != TSR_OK) return report(err);
    fputs(text, stdout);
    tsr_free(text);
    return 0;
}

int command_nodes(int argc, char **argv) {
    tsr_error err = TSR_ERROR_INIT;
    char *text = NULL;
    if (argc > 1) return usage_error("nodes takes at most one name; put names with spaces in quotes");
    if (argc == 0) {
        for (int i = 0; i < tsr_node_count(); i++) printf("%-38s %s\n", tsr_node_name(i), tsr_node_summary(i));
        return 0;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        puts("usage: tessera nodes [NAME | --markdown]\n\nLists the nodes that `tessera run` knows, or says what one "
             "takes and gives.");
        return 0;
    }
    tsr_status status =
        strcmp(argv[0], "--markdown") == 0 ? tsr_nodes_markdown(&text, &err) : tsr_node_help(&text, argv[0], &err);
    return print(status, text, &err);
}
