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

enum { MAX_TENSORS = 400 };

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
        snprintf(name, sizeof name, "%s%s", prefix, it->name);
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
        float *values = malloc(count * sizeof *values);
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

/* Adds the encoder; widths gets the channels of each skip. */
static inline int add_encoder(items *all, const char *tag, size_t *widths) {
    static const char prefix[] = "model.diffusion_model.";
    static const char *const lasts[] = { "input_blocks.%d.0.weight", "input_blocks.%d.0.op.weight",
                                         "input_blocks.%d.0.out_layers.3.weight" };
    tsr__weights *file = NULL;
    tsr_error err = TSR_ERROR_INIT;
    int blocks = 0;
    if (tsr__weights_open(&file,
                          strcmp(tag, "sd1") == 0 ? TSR_GOLDEN_DIR "/checkpoints/golden-sd1.safetensors"
                                                  : TSR_GOLDEN_DIR "/checkpoints/tiny-sdxl.safetensors",
                          &err) != TSR_OK)
        abort();
    for (size_t i = 0; i < tsr__weights_count(file); i++) {
        const tsr__tensor_view *t = tsr__weights_at(file, i);
        if (strncmp(t->name, prefix, sizeof prefix - 1) != 0 || !belongs(t->name + sizeof prefix - 1)) continue;
        size_t shape[4] = { 1, 1, 1, 1 };
        for (int k = 0; k < t->rank; k++) shape[k] = (size_t)t->shape[k];
        add(all, t->name + sizeof prefix - 1, t->rank, shape[0], shape[1], shape[2], shape[3]);
    }
    for (int found = 1; found; blocks += found) {
        found = 0;
        for (int k = 0; k < 3 && !found; k++) {
            char name[100];
            /* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): one of the three above */
            snprintf(name, sizeof name, lasts[k], blocks);
            for (int i = 0; i < all->count && !found; i++)
                if (strcmp(all->list[i].name, name) == 0) {
                    widths[blocks] = all->list[i].shape[0];
                    found = 1;
                }
        }
    }
    tsr__weights_close(file);
    return blocks;
}

/* A ControlNet for golden-sd1 ("sd1") or tiny-sdxl ("sdxl"), names behind prefix ("" or "control_model."). */
static inline void control_file_write(const char *path, const char *tag, const char *prefix) {
    items *all = calloc(1, sizeof *all);
    size_t widths[32], sides[9] = { 3, 16, 16, 32, 32, 96, 96, 256, 0 };
    char name[64];
    if (!all) abort();
    int blocks = add_encoder(all, tag, widths);
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
    save(path, all, prefix);
    free(all);
}

/* A T2I-Adapter for golden-sd1. */
static inline void adapter_file_write(const char *path) {
    static const size_t channels[3] = { 64, 128, 256 };
    items *all = calloc(1, sizeof *all);
    char name[64];
    if (!all) abort();
    add_conv(all, "conv_in", channels[0], 192, 3);
    for (int i = 0; i < 6; i++) {
        size_t c = channels[i / 2];
        snprintf(name, sizeof name, "body.%d.in_conv", i);
        if (i && i % 2 == 0) add_conv(all, name, c, channels[i / 2 - 1], 1);
        snprintf(name, sizeof name, "body.%d.block1", i);
        add_conv(all, name, c, c, 3);
        snprintf(name, sizeof name, "body.%d.block2", i);
        add_conv(all, name, c, c, 1);
    }
    save(path, all, "");
    free(all);
}

#endif /* TSR_TEST_CONTROL_FILE_H */
