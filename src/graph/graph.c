/* graph/graph.c - a graph's life, and the files that a run leaves. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/graph_priv.h"

/* --- life ------------------------------------------------------------------------------------------------------------------- */
static tsr_status default_models(char **out, tsr_error *err) {
    tsr_status status = tsr_engine_find_model(out, err);
    char *slash = status == TSR_OK ? strrchr(*out, '/') : NULL;
    if (slash) *slash = 0;
    return status;
}

/* Five letters of chance, so that the files of several runs of a program do not meet. */
static tsr_status draw_temp_prefix(tsr_graph *graph, tsr_error *err) {
    unsigned char letters[5];
    if (getrandom(letters, sizeof letters, 0) != (ssize_t)sizeof letters)
        return tsr__fail(err, TSR_IO, "the system gives no random letters");
    for (size_t i = 0; i < sizeof letters; i++) letters[i] = (unsigned char)('a' + letters[i] % 26);
    snprintf(graph->temp_prefix, sizeof graph->temp_prefix, "ComfyUI_temp_%.5s", (const char *)letters);
    return TSR_OK;
}

tsr_status tsr_graph_open(tsr_graph **out, const tsr_graph_options *options, tsr_error *err) {
    static const tsr_graph_options defaults = TSR_GRAPH_OPTIONS_INIT;
    tsr_status status = TSR_OK;
    tsr_graph *graph = NULL;
    *out = NULL;
    if (!options) options = &defaults;
    TSR_ALLOC_ZERO(err, graph, 1);
    graph->history = options->history;
    graph->precision = options->precision;
    graph->threads = options->threads;
    graph->model_memory = options->model_memory;
    graph->budget.limit = options->memory_budget;
    TSR_TRY(draw_temp_prefix(graph, err));
    if (options->cache_memory) TSR_TRY(tsr__cache_new(&graph->cache, options->cache_memory, err));
    graph->input = tsr__strdup(options->input ? options->input : "input");
    graph->output = tsr__strdup(options->output);
    graph->temp = tsr__strdup(options->temp);
    if (options->models) graph->models = tsr__strdup(options->models);
    else TSR_TRY(default_models(&graph->models, err));
    if (!graph->models || !graph->input || (options->output && !graph->output) || (options->temp && !graph->temp))
        TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    *out = graph;
    graph = NULL;
done:
    tsr_graph_close(graph);
    return status;
}

void tsr_graph_close(tsr_graph *graph) {
    if (!graph) return;
    tsr__cache_free(graph->cache); /* values before the slots that they stand for */
    tsr__slots_free(graph);
    free(graph->models);
    free(graph->input);
    free(graph->output);
    free(graph->temp);
    free(graph);
}

void tsr_graph_release(tsr_graph *graph, int models) {
    tsr__cache_clear(graph->cache);
    if (models) tsr__slots_close_engines(graph);
}

tsr_graph_memory tsr_graph_get_memory(const tsr_graph *graph) {
    tsr_graph_memory memory = { .results = tsr__cache_bytes(graph->cache),
                                .swaps = graph->swaps,
                                .swap_seconds = graph->swap_seconds };
    memory.models = tsr__slots_bytes(graph, &memory.model_count);
    return memory;
}

/* --- outputs ---------------------------------------------------------------------------------------------------------------- */
void tsr__output_clear(tsr_workflow_output *o) {
    free(o->node);
    free(o->type);
    free(o->subfolder);
    free(o->filename);
    free(o->path);
    tsr_image_free(o->image);
    tsr_latent_free(o->latent);
}

void tsr_workflow_outputs_free(tsr_workflow_outputs *outputs) {
    if (!outputs) return;
    for (int i = 0; i < outputs->count; i++) tsr__output_clear(&outputs->items[i]);
    for (int i = 0; i < outputs->note_count; i++) free(outputs->notes[i]);
    free(outputs->notes);
    free(outputs->items);
    free(outputs);
}

tsr_status tsr__call_note(const tsr__call *call, const char *text, tsr_error *err) {
    tsr_workflow_outputs *outputs = call->run->outputs;
    char **notes = realloc(outputs->notes, (size_t)(outputs->note_count + 1) * sizeof *notes);
    if (!notes) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    outputs->notes = notes;
    notes[outputs->note_count] = tsr__format("node %s: %s", call->id, text);
    if (!notes[outputs->note_count]) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    outputs->note_count++;
    return TSR_OK;
}

tsr_status tsr__new_output(tsr_workflow_output **out, tsr_workflow_outputs *outputs, tsr_error *err) {
    *out = NULL;
    tsr_workflow_output *items = realloc(outputs->items, (size_t)(outputs->count + 1) * sizeof *items);
    if (!items) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    outputs->items = items;
    *out = &items[outputs->count++];
    memset(*out, 0, sizeof **out);
    return TSR_OK;
}

static tsr_status make_folders(const char *path, tsr_error *err) {
    char *copy = tsr__strdup(path);
    if (!copy) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    for (char *at = copy + 1;; at++) {
        char kept = *at;
        if (kept != '/' && kept != 0) continue;
        *at = 0;
        int failed = mkdir(copy, 0777) != 0 && errno != EEXIST;
        *at = kept;
        if (failed) {
            tsr_status status = tsr__fail(err, TSR_IO, "the folder %s cannot be made: %s", path, strerror(errno));
            free(copy);
            return status;
        }
        if (!kept) break;
    }
    free(copy);
    return TSR_OK;
}

/* The number in name_00012_ext, or 0. */
static int number_of(const char *file, const char *name) {
    size_t n = strlen(name);
    if (strncmp(file, name, n) != 0 || file[n] != '_') return 0;
    char *end = NULL;
    long number = strtol(file + n + 1, &end, 10);
    return end > file + n + 1 && *end == '_' && number > 0 && number < 100000000 ? (int)number : 0;
}

static int next_number(const char *folder, const char *name, const tsr_workflow_outputs *outputs,
                       const char *subfolder) {
    int last = 0;
    DIR *dir = folder ? opendir(folder) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int number = number_of(entry->d_name, name);
        if (number > last) last = number;
    }
    if (dir) closedir(dir);
    for (int i = 0; i < outputs->count; i++) {
        const tsr_workflow_output *o = &outputs->items[i];
        int number = o->filename && strcmp(o->subfolder, subfolder) == 0 ? number_of(o->filename, name) : 0;
        if (number > last) last = number;
    }
    return last + 1;
}

/* No step begins with a dot and none holds a control character: such files could be written, but the server would never
 * show them. */
static int is_safe_prefix(const char *prefix) {
    int starts = 1;
    for (const unsigned char *at = (const unsigned char *)prefix; *at; at++) {
        if ((starts && (*at == '.' || *at == '/')) || *at < ' ' || *at == 0x7f || *at == '\\') return 0;
        starts = *at == '/';
    }
    return !starts && !strstr(prefix, "..");
}

/* Whether a step of the subfolder is a link, which could lead out of the root. */
static int has_link(const char *root, const char *subfolder) {
    int found = 0;
    size_t start = strlen(root) + 1;
    char *path = tsr__format("%s/%s", root, subfolder);
    if (!path) return 1;
    for (char *at = path + start; !found; at++) {
        struct stat about;
        char kept = *at;
        if (kept != '/' && kept != 0) continue;
        *at = 0;
        found = lstat(path, &about) == 0 && S_ISLNK(about.st_mode);
        *at = kept;
        if (!kept) break;
    }
    free(path);
    return found;
}

tsr_status tsr__add_output(tsr_workflow_output **out, tsr__call *call, const char *prefix, const char *extension,
                           int temp, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_workflow_outputs *outputs = call->run->outputs;
    const char *root = temp ? call->graph->temp : call->graph->output, *slash = strrchr(prefix, '/');
    tsr_workflow_output *o = NULL;
    char *folder = NULL;
    *out = NULL;
    if (!is_safe_prefix(prefix))
        TSR_FAIL(err, TSR_BAD_ARGUMENT, "filename_prefix: '%.200s' is not a name inside the output folder", prefix);
    TSR_TRY(tsr__new_output(&o, outputs, err));
    o->node = tsr__strdup(call->id);
    o->type = tsr__strdup(temp ? "temp" : "output");
    o->subfolder = tsr__format("%.*s", slash ? (int)(slash - prefix) : 0, prefix);
    const char *name = slash ? slash + 1 : prefix;
    if (root) folder = slash ? tsr__format("%s/%s", root, o->subfolder) : tsr__strdup(root);
    if (!o->node || !o->type || !o->subfolder || (root && !folder)) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (folder && slash && has_link(root, o->subfolder))
        TSR_FAIL(err, TSR_UNSUPPORTED, "filename_prefix: '%.200s' goes through a link, and links are not followed",
                 prefix);
    if (folder) TSR_TRY(make_folders(folder, err));
    o->filename = tsr__format("%s_%05d_%s", name, next_number(folder, name, outputs, o->subfolder), extension);
    if (folder && o->filename) o->path = tsr__format("%s/%s", folder, o->filename);
    if (!o->filename || (folder && !o->path)) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (o->path && tsr__run_tell_saving(call->run, o)) TSR_FAIL(err, TSR_CANCELLED, "stopped by the caller");
    *out = o;
done:
    free(folder);
    return status;
}
