/* graph/cache_key.c - what a node's results depend on, as one SHA-256: class, inputs, the keys of linked nodes, and the files
 * that inputs name, told by path, size, time and inode. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/sha256.h"
#include "graph/graph_priv.h"

char *tsr__file_identity(const char *path, size_t *bytes_out) {
    struct stat about;
    if (stat(path, &about) != 0 || !S_ISREG(about.st_mode)) return NULL;
    if (bytes_out) *bytes_out = (size_t)about.st_size;
    return tsr__format("%s?%lld,%lld.%09ld,%llu.%llu", path, (long long)about.st_size, (long long)about.st_mtim.tv_sec,
                       about.st_mtim.tv_nsec, (unsigned long long)about.st_dev, (unsigned long long)about.st_ino);
}

/* What a key is being made of. */
typedef struct maker {
    tsr__sha256 sha;
    tsr_graph *graph;
    size_t file_bytes;
} maker;

/* With its length, so that no two sequences of texts are one sequence of bytes. */
static void add_text(tsr__sha256 *sha, const char *text) {
    uint64_t size = strlen(text);
    tsr__sha256_add(sha, &size, sizeof size);
    tsr__sha256_add(sha, text, (size_t)size);
}

/* What cannot be known before the run equals nothing, not even itself. */
static void add_unknown(maker *m) {
    uint64_t number = ++m->graph->unknowns;
    add_text(&m->sha, "unknown");
    tsr__sha256_add(&m->sha, &number, sizeof number);
}

/* The folder an input's choices come from, or NULL. */
static const char *folder_of(const tsr__input *input) {
    if (input->flags & TSR__IN_FILE) return "input";
    return tsr__choices_folder(input->choices);
}

static void add_path(void *user, const char *path) {
    maker *m = user;
    size_t bytes = 0;
    char *identity = path ? tsr__file_identity(path, &bytes) : NULL;
    if (identity) add_text(&m->sha, identity);
    else add_unknown(m);
    m->file_bytes += bytes;
    free(identity);
}

static void add_file(maker *m, const char *folder, const char *name) {
    tsr_error ignored = TSR_ERROR_INIT;
    char *path = NULL;
    if (name) (void)tsr__find_file(&path, m->graph, folder, name, &ignored);
    add_path(m, path);
    free(path);
}

/* A TAESD is two files. */
static void add_vae(maker *m, const char *name) {
    tsr_error ignored = TSR_ERROR_INIT;
    char *path = NULL, *encoder = NULL;
    if (name) (void)tsr__find_vae(&path, &encoder, m->graph, name, &ignored);
    add_path(m, path);
    if (encoder) add_path(m, encoder);
    free(path);
    free(encoder);
}

static void add_scene(maker *m, const char *text) {
    tsr_error ignored = TSR_ERROR_INIT;
    tsr_scene *scene = NULL;
    int known = text && tsr__scene_input(&scene, m->graph, text, &ignored) == TSR_OK;
    if (known) known = tsr__scene_files(scene, add_path, m);
    if (!known) add_unknown(m);
    tsr_scene_free(scene);
}

/* A prompt may name adapters in tags; which files they mean is the encoder's matter, so all of them count. */
static tsr_status add_adapters(maker *m, const char *text, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__names names = { 0 };
    if (!strstr(text, "lora") && !strstr(text, "lyco:")) return TSR_OK;
    TSR_TRY(tsr__choices_loras(&names, m->graph, err));
    for (int i = 0; i < names.count; i++) add_file(m, "loras", names.items[i]);
done:
    tsr__names_clear(&names);
    return status;
}

static tsr_status add_literal(maker *m, const tsr__input *input, const json_t *value, tsr_error *err) {
    const char *folder = folder_of(input), *text = json_string_value(tsr__unwrap(value));
    char *literal = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    if (!literal) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    add_text(&m->sha, literal);
    free(literal);
    if (folder && input->choices == tsr__choices_vaes) add_vae(m, text);
    else if (folder) add_file(m, folder, text);
    if (input->flags & TSR__IN_SCENE) add_scene(m, text);
    if (input->type == TSR__V_STRING && text) return add_adapters(m, text, err);
    return TSR_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of the inputs that count, sorted: JSON has no order, but that a MANY input's links are taken in it. */
static tsr_status input_names(const char ***out, int *count, const tsr__workflow_node *node, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *name;
    json_t *value;
    *count = 0;
    TSR_ALLOC(err, *out, json_object_size(node->inputs) + 1);
    json_object_foreach(node->inputs, name, value) {
        if (tsr__node_input_find(node->row, name) >= 0) (*out)[(*count)++] = name;
    }
    for (const tsr__input *input = node->row->inputs; input->name; input++)
        if (input->flags & TSR__IN_MANY) goto done;
    qsort(*out, (size_t)*count, sizeof **out, by_name);
done:
    return status;
}

tsr_status tsr__key_of(tsr__key *out, size_t *file_bytes, tsr_graph *graph, const tsr_workflow *workflow, int index,
                       const tsr__key *keys, tsr_error *err) {
    tsr_status status = TSR_OK;
    const tsr__workflow_node *node = &workflow->nodes[index];
    const char **names = NULL;
    int count = 0, slot;
    maker m = { .graph = graph };
    *file_bytes = 0;
    TSR_TRY(input_names(&names, &count, node, err));
    tsr__sha256_init(&m.sha);
    add_text(&m.sha, node->class_type);
    for (int i = 0; i < count; i++) {
        const json_t *value = json_object_get(node->inputs, names[i]);
        const tsr__input *input = &node->row->inputs[tsr__node_input_find(node->row, names[i])];
        int from = tsr__is_link(value) ? tsr__workflow_link(workflow, value, &slot) : -1;
        add_text(&m.sha, names[i]);
        add_text(&m.sha, from >= 0 ? "link" : "value");
        if (from < 0) {
            TSR_TRY(add_literal(&m, input, value, err));
            continue;
        }
        tsr__sha256_add(&m.sha, &keys[from], sizeof keys[from]);
        tsr__sha256_add(&m.sha, &slot, sizeof slot);
        /* Files whose names are not known yet. */
        if (folder_of(input) || (input->flags & TSR__IN_SCENE)) add_unknown(&m);
    }
    tsr__sha256_end(&m.sha, out->bytes);
    *file_bytes = m.file_bytes;
done:
    free(names);
    return status;
}

void tsr__key_number(tsr__key *key, int n) {
    tsr__sha256 sha;
    tsr__sha256_init(&sha);
    tsr__sha256_add(&sha, key, sizeof *key);
    tsr__sha256_add(&sha, &n, sizeof n);
    tsr__sha256_end(&sha, key->bytes);
}
