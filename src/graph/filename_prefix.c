/* graph/filename_prefix.c - the names in percent signs that stand for a size or the time in a saved file's prefix.
 *
 * Source: ComfyUI 0.8.0, folder_paths.get_save_image_path. Other names between percent signs stay what they are: ComfyUI's page
 * fills in %date:...% and %NODE.input% before it sends a workflow. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "graph/graph_priv.h"

enum { VARIABLES = 8 };
typedef struct variable {
    const char *name;
    int width, value;
} variable;

/* The variable that `text` begins with, or NULL. */
static const variable *variable_at(const variable *list, const char *text) {
    for (int i = 0; i < VARIABLES; i++)
        if (strncmp(text, list[i].name, strlen(list[i].name)) == 0) return &list[i];
    return NULL;
}

tsr_status tsr__fill_prefix(char **out, const char *prefix, int width, int height, time_t now, tsr_error *err) {
    tsr_status status = TSR_OK;
    enum { LONGEST = 16 }; /* of a value: more than any name is short of */
    struct tm at;
    char *filled = NULL, *to;
    *out = NULL;
    memset(&at, 0, sizeof at);
    (void)localtime_r(&now, &at);
    const variable list[VARIABLES] = {
        { "%width%", 1, width },         { "%height%", 1, height },   { "%year%", 1, at.tm_year + 1900 },
        { "%month%", 2, at.tm_mon + 1 }, { "%day%", 2, at.tm_mday },  { "%hour%", 2, at.tm_hour },
        { "%minute%", 2, at.tm_min },    { "%second%", 2, at.tm_sec }
    };
    TSR_ALLOC(err, filled, strlen(prefix) * LONGEST + 1);
    for (to = filled; *prefix;) {
        const variable *found = variable_at(list, prefix);
        if (!found) {
            *to++ = *prefix++;
            continue;
        }
        to += snprintf(to, LONGEST, "%0*d", found->width, found->value);
        prefix += strlen(found->name);
    }
    *to = 0;
    *out = filled;
    filled = NULL;
done:
    free(filled);
    return status;
}
