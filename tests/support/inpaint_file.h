/* support/inpaint_file.h - a golden checkpoint with a wider first convolution, as make_inpaint_numbers.py makes it. A failure
 * ends the test. */
#ifndef TSR_TEST_INPAINT_FILE_H
#define TSR_TEST_INPAINT_FILE_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "weights/weights.h"
#include "whole_file.h"

/* Writes to `path` the checkpoint TSR_GOLDEN_DIR/checkpoints/NAME.safetensors, whose UNet takes `extra` channels more. The new
 * weights are `numbers` times scale; 0: it ignores them. */
static inline void widen_checkpoint(const char *path, const char *name, size_t extra, double scale) {
    static const char key[] = "model.diffusion_model.input_blocks.0.0.weight";
    char from[256];
    tsr__weights *weights = NULL;
    tsr_error err = TSR_ERROR_INIT;
    size_t size = 0;
    uint64_t old_header = 0;
    snprintf(from, sizeof from, TSR_GOLDEN_DIR "/checkpoints/%s.safetensors", name);
    if (tsr__weights_open(&weights, from, &err) != TSR_OK) abort();
    const tsr__tensor_view *view = tsr__weights_find(weights, key);
    size_t rows = (size_t)view->shape[0], have = (size_t)view->shape[1], wide = have + extra;
    float *first = malloc(view->count * sizeof *first), *added = malloc(rows * extra * 9 * sizeof *added),
          *all = malloc(rows * wide * 9 * sizeof *all);
    if (!first || !added || !all || tsr__tensor_to_f32(view, first, &err) != TSR_OK) abort();
    numbers(added, "inpaint", rows * extra * 9, scale, 0.0);
    for (size_t i = 0; i < rows; i++) {
        memcpy(all + i * wide * 9, first + i * have * 9, have * 9 * sizeof *all);
        memcpy(all + (i * wide + have) * 9, added + i * extra * 9, extra * 9 * sizeof *all);
    }
    tsr__weights_close(weights);
    unsigned char *data = read_whole(from, &size);
    memcpy(&old_header, data, sizeof old_header);
    size_t body = size - 8 - old_header, bytes = rows * wide * 9 * sizeof *all;
    json_t *header = json_loadb((const char *)data + 8, old_header, 0, NULL);
    /* The old values stay where they are, unused: a tensor more at the end. */
    json_t *entry = json_object_get(header, key), *unused = json_deep_copy(entry);
    json_object_set_new(header, "unused", unused);
    json_object_set_new(header, key,
                        json_pack("{s:s, s:[I, I, I, I], s:[I, I]}", "dtype", "F32", "shape", (json_int_t)rows,
                                  (json_int_t)wide, (json_int_t)3, (json_int_t)3, "data_offsets", (json_int_t)body,
                                  (json_int_t)(body + bytes)));
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(&length, sizeof length, 1, file) != 1 || fwrite(text, 1, length, file) != length ||
        fwrite(data + 8 + old_header, 1, body, file) != body || fwrite(all, 1, bytes, file) != bytes || fclose(file))
        abort();
    json_decref(header);
    free(text);
    free(data);
    free(first);
    free(added);
    free(all);
}

#endif /* TSR_TEST_INPAINT_FILE_H */
