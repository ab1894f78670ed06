/* support/control_file.h - writes small control networks that fit the golden checkpoints, with the weights that
 * control_reference.py computes its numbers with. A failure ends the test. */
#ifndef TSR_TEST_CONTROL_FILE_H
#define TSR_TEST_CONTROL_FILE_H

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "weights/weights.h"

enum { MAX_TENSORS = 800 };

typedef struct item {
    char name[160];
    size_t shape[4];
    int rank;
} item;

typedef struct items {
    item list[MAX_TENSORS];
    int count;
} items;

static inline void add(items *all, const char *name, int rank, size_t a, size_t b, size_t c, size_t d) {
    item *to = &all->list[all->count++];
    if (all->count > MAX_TENSORS) abort();
    snprintf(to->name, sizeof to->name, "%s", name);
    const size_t shape[4] = { a, b, c, d };
    memcpy(to->shape, shape, sizeof shape);
    to->rank = rank;
}

static inline void add_conv(items *all, const char *name, size_t out, size_t in, size_t k) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    add(all, full, 4, out, in, k, k);
    snprintf(full, sizeof full, "%s.bias", name);
    add(all, full, 1, out, 1, 1, 1);
}

static inline size_t count_of(const item *it) {
    size_t count = 1;
    for (int i = 0; i < it->rank; i++) count *= it->shape[i];
    return count;
}

static inline void fill(float *out, const item *it) {
    size_t count = count_of(it), length = strlen(it->name);
    int is_weight = length > 6 && strcmp(it->name + length - 6, "weight") == 0;
    if (count == 0) return;
    if (it->rank == 1) {
        numbers(out, it->name, count, is_weight ? (double)0.1f : (double)0.05f, is_weight ? 1.0 : 0.0);
        return;
    }
    double fan = (double)count / (double)it->shape[0];
    numbers(out, it->name, count, (double)(float)sqrt(3.0 / fan), 0.0);
}

static inline void save(const char *path, const items *all, const char *prefix) {
    json_t *header = json_object();
    size_t offset = 0;
    FILE *file = fopen(path, "wb");
    if (!file) abort();
    for (int i = 0; i < all->count; i++) {
        const item *it = &all->list[i];
        char name[200];
        json_t *shape = json_array();
        for (int k = 0; k < it->rank; k++) json_array_append_new(shape, json_integer((json_int_t)it->shape[k]));
        snprintf(name, sizeof name, "%s%s", strchr(it->name, '.') ? prefix : "", it->name);
        size_t end = offset + count_of(it) * sizeof(float);
        json_object_set_new(header, name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                      (json_int_t)offset, (json_int_t)end));
        offset = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t size = strlen(text);
    if (fwrite(&size, sizeof size, 1, file) != 1 || fwrite(text, 1, size, file) != size) abort();
    for (int i = 0; i < all->count; i++) {
        size_t count = count_of(&all->list[i]);
        float *values = malloc((count + 1) * sizeof *values);
        if (!values) abort();
        fill(values, &all->list[i]);
        if (fwrite(values, sizeof *values, count, file) != count) abort();
        free(values);
    }
    free(text);
    json_decref(header);
    if (fclose(file)) abort();
}

static inline int belongs(const char *name) {
    static const char *const parts[] = { "input_blocks.", "middle_block.", "time_embed.", "label_emb." };
    for (int i = 0; i < 4; i++)
        if (strncmp(name, parts[i], strlen(parts[i])) == 0) return 1;
    return 0;
}

/* What a file has of a ControlNet. */
typedef enum control_kind {
    CONTROL_WHOLE,
    CONTROL_MID,        /* no attention on the second level */
    CONTROL_SMALL,      /* none at all; the middle keeps the projections around it */
    CONTROL_UNION,      /* of six types */
    CONTROL_LORA,       /* factors of rank 4 for the matrices of the model's encoder */
    CONTROL_DIFFERENCE, /* the encoder as a difference from the model's */
} control_kind;

static inline int is_kept(const char *name, control_kind kind) {
    int block = 0, part = 0;
    if (kind == CONTROL_SMALL && strstr(name, ".transformer_blocks.")) return 0;
    if (sscanf(name, "input_blocks.%d.%d.", &block, &part) != 2 || part != 1) return 1;
    return kind == CONTROL_MID ? block != 4 && block != 5 : kind != CONTROL_SMALL;
}

static inline void add_factors(items *all, const char *name, const size_t shape[4], int rank) {
    char factor[160];
    if (rank < 2) return;
    const int stem = (int)(strlen(name) - strlen("weight"));
    snprintf(factor, sizeof factor, "%.*sup", stem, name);
    add(all, factor, 2, shape[0], 4, 1, 1);
    snprintf(factor, sizeof factor, "%.*sdown", stem, name);
    add(all, factor, rank, 4, shape[1], shape[2], shape[3]);
}

static inline const char *golden_path(const char *tag) {
    return strcmp(tag, "sd1") == 0   ? TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"
           : strcmp(tag, "sd2") == 0 ? TSR_GOLDEN_DIR "/checkpoints/tiny-sd2.safetensors"
                                     : TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors";
}

/* The block whose skip has what this tensor gives; -1: it is no such tensor. */
static inline int skip_of(const char *name) {
    int block = -1, end = 0;
    if (sscanf(name, "input_blocks.%d.0.%n", &block, &end) != 1 || !end) return -1;
    const char *rest = name + end;
    return strcmp(rest, "weight") == 0 || strcmp(rest, "op.weight") == 0 || strcmp(rest, "out_layers.3.weight") == 0
               ? block
               : -1;
}

/* Adds the encoder; widths gets the channels of each skip. Returns how many. */
static inline int add_encoder(items *all, const char *tag, control_kind kind, size_t *widths) {
    static const char prefix[] = "model.diffusion_model.";
    tsr__weights *file = NULL;
    tsr_error err = TSR_ERROR_INIT;
    int blocks = 0;
    if (tsr__weights_open(&file, golden_path(tag), &err) != TSR_OK) abort();
    for (size_t i = 0; i < tsr__weights_count(file); i++) {
        const tsr__tensor_view *t = tsr__weights_at(file, i);
        const char *name = t->name + sizeof prefix - 1;
        if (strncmp(t->name, prefix, sizeof prefix - 1) != 0 || !belongs(name)) continue;
        size_t shape[4] = { 1, 1, 1, 1 };
        for (int k = 0; k < t->rank; k++) shape[k] = (size_t)t->shape[k];
        int skip = skip_of(name);
        if (skip >= 0) widths[skip] = shape[0];
        if (skip >= blocks) blocks = skip + 1;
        if (kind == CONTROL_LORA) add_factors(all, name, shape, t->rank);
        else if (is_kept(name, kind)) add(all, name, t->rank, shape[0], shape[1], shape[2], shape[3]);
    }
    tsr__weights_close(file);
    return blocks;
}

static inline void add_dense(items *all, const char *name, size_t out, size_t in) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    add(all, full, 2, out, in, 1, 1);
    snprintf(full, sizeof full, "%s.bias", name);
    add(all, full, 1, out, 1, 1, 1);
}

static inline void add_vectors(items *all, const char *name, size_t count) {
    char full[160];
    snprintf(full, sizeof full, "%s.weight", name);
    add(all, full, 1, count, 1, 1, 1);
    snprintf(full, sizeof full, "%s.bias", name);
    add(all, full, 1, count, 1, 1, 1);
}

static inline void add_union(items *all, size_t types, size_t c, size_t embed) {
    add(all, "task_embedding", 2, types, c, 1, 1);
    add(all, "transformer_layes.0.attn.in_proj_weight", 2, 3 * c, c, 1, 1);
    add(all, "transformer_layes.0.attn.in_proj_bias", 1, 3 * c, 1, 1, 1);
    add_dense(all, "transformer_layes.0.attn.out_proj", c, c);
    add_vectors(all, "transformer_layes.0.ln_1", c);
    add_vectors(all, "transformer_layes.0.ln_2", c);
    add_dense(all, "transformer_layes.0.mlp.c_fc", 4 * c, c);
    add_dense(all, "transformer_layes.0.mlp.c_proj", c, 4 * c);
    add_dense(all, "spatial_ch_projs", c, c);
    add_dense(all, "control_add_embedding.linear_1", embed, 256 * types);
    add_dense(all, "control_add_embedding.linear_2", embed, embed);
}

/* A ControlNet for golden-sd1 ("sd1"), tiny-sd2 ("sd2") or tiny-sdxl ("sdxl"), names behind prefix ("" or "control_model."). */
static inline void control_kind_write(const char *path, const char *tag, const char *prefix, control_kind kind) {
    items *all = calloc(1, sizeof *all);
    size_t widths[32], sides[9] = { 3, 16, 16, 32, 32, 96, 96, 256, 0 };
    char name[64];
    if (!all) abort();
    int blocks = add_encoder(all, tag, kind, widths);
    sides[8] = widths[0];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "input_hint_block.%d", 2 * i);
        add_conv(all, name, sides[i + 1], sides[i], 3);
    }
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "zero_convs.%d.0", i);
        add_conv(all, name, widths[i], widths[i], 1);
    }
    add_conv(all, "middle_block_out.0", widths[blocks - 1], widths[blocks - 1], 1);
    if (kind == CONTROL_UNION) add_union(all, 6, widths[0], 4 * widths[0]);
    if (kind == CONTROL_LORA) add(all, "lora_controlnet", 1, 0, 1, 1, 1);
    if (kind == CONTROL_DIFFERENCE) add(all, "difference", 1, 0, 1, 1, 1);
    save(path, all, prefix);
    free(all);
}

static inline void control_file_write(const char *path, const char *tag, const char *prefix) {
    control_kind_write(path, tag, prefix, CONTROL_WHOLE);
}

/* A full T2I-Adapter. */
static inline void add_full(items *all, const size_t *channels, int levels, size_t taken) {
    char name[64];
    add_conv(all, "conv_in", channels[0], taken, 3);
    for (int i = 0; i < 2 * levels; i++) {
        size_t c = channels[i / 2];
        snprintf(name, sizeof name, "body.%d.in_conv", i);
        if (i && i % 2 == 0 && c != channels[i / 2 - 1]) add_conv(all, name, c, channels[i / 2 - 1], 1);
        snprintf(name, sizeof name, "body.%d.block1", i);
        add_conv(all, name, c, c, 3);
        snprintf(name, sizeof name, "body.%d.block2", i);
        add_conv(all, name, c, c, 1);
    }
}

/* A light one, of one colour plane. */
static inline void add_light(items *all, const size_t *channels, int levels) {
    char name[64];
    for (int i = 0; i < levels; i++) {
        size_t c = channels[i];
        snprintf(name, sizeof name, "body.%d.in_conv", i);
        add_conv(all, name, c / 4, i ? channels[i - 1] : 64, 1);
        for (int k = 0; k < 8; k++) {
            snprintf(name, sizeof name, "body.%d.body.%d.block%d", i, k / 2, k % 2 + 1);
            add_conv(all, name, c / 4, c / 4, 3);
        }
        snprintf(name, sizeof name, "body.%d.out_conv", i);
        add_conv(all, name, c, c / 4, 1);
    }
}

typedef enum adapter_kind {
    ADAPTER_FULL,
    ADAPTER_LIGHT /* both for golden-sd1 */,
    ADAPTER_WIDE /* tiny-sdxl */
} adapter_kind;

static inline void adapter_kind_write(const char *path, adapter_kind kind) {
    static const size_t channels[3] = { 64, 128, 256 }, wide[4] = { 64, 128, 128, 128 };
    items *all = calloc(1, sizeof *all);
    if (!all) abort();
    if (kind == ADAPTER_LIGHT) add_light(all, channels, 3);
    else if (kind == ADAPTER_WIDE) add_full(all, wide, 4, 768);
    else add_full(all, channels, 3, 192);
    save(path, all, "");
    free(all);
}

static inline void adapter_file_write(const char *path) {
    adapter_kind_write(path, ADAPTER_FULL);
}

#endif /* TSR_TEST_CONTROL_FILE_H */
