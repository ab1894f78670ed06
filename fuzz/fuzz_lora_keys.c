/* fuzz_lora_keys.c - names of layers, a line each: every table that turns one layout's names into another's, and an adapter
 * whose tensors are called so. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "weights/checkpoint_kind.h"
#include "weights/diffusers_names.h"
#include "weights/lora.h"
#include "weights/lora_keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE = 600, LINES = 64, SIDE_BYTES = 16 };

static void turn_name(const char *name, const tsr__diffusers_shape *shape) {
    char out[TSR__NAME_SIZE], parts[3][TSR__LORA_NAME_SIZE];
    static tsr__lora_names names;
    tsr__lora_names_of(&names, name);
    if (names.count < 0 || names.count > TSR__LORA_MAX_NAMES) abort();
    for (int i = 0; i < names.count; i++)
        if (!memchr(names.at[i], 0, TSR__LORA_NAME_SIZE)) abort();
    if (tsr__lora_split(name, parts) && !memchr(parts[2], 0, TSR__LORA_NAME_SIZE)) abort();
    (void)tsr__lora_is_text(name);
    if (tsr__diffusers_unet_name(out, name, shape) && strlen(out) >= sizeof out) abort();
    if (tsr__diffusers_vae_name(out, name, shape) && strlen(out) >= sizeof out) abort();
    if (tsr__diffusers_control_name(out, name, shape) && strlen(out) >= sizeof out) abort();
    for (int light = 0; light < 2; light++)
        if (tsr__diffusers_adapter_name(out, name, light) && strlen(out) >= sizeof out) abort();
    if (tsr__open_clip_name(out, name) != TSR__OPEN_NONE && strlen(out) >= sizeof out) abort();
}

/* A safetensors file with a [2, 2] tensor of each name. */
static unsigned char *make_file(char lines[][LINE], int count, size_t *size) {
    json_t *header = json_object();
    for (int i = 0; i < count; i++)
        (void)json_object_set_new(header, lines[i],
                                  json_pack("{s:s, s:[i, i], s:[i, i]}", "dtype", "F32", "shape", 2, 2, "data_offsets",
                                            i * SIDE_BYTES, (i + 1) * SIDE_BYTES));
    char *text = json_dumps(header, JSON_COMPACT);
    const size_t length = text ? strlen(text) : 0;
    *size = 8 + length + (size_t)count * SIDE_BYTES;
    unsigned char *bytes = calloc(1, *size);
    if (!bytes || !text) abort();
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i & 0xff);
    memcpy(bytes + 8, text, length);
    free(text);
    json_decref(header);
    return bytes;
}

static void open_adapter(char lines[][LINE], int count) {
    tsr__weights *weights = NULL;
    tsr__lora *lora = NULL;
    tsr_error err = TSR_ERROR_INIT;
    size_t size;
    unsigned char *bytes = make_file(lines, count, &size);
    if (tsr__weights_open_memory(&weights, bytes, size, &err) == TSR_OK) {
        tsr__checkpoint_info info;
        tsr__checkpoint_describe(&info, weights);
        if (tsr__lora_open(&lora, weights, &err) != TSR_OK && (lora || !err.message[0])) abort();
        for (int i = 0; lora && i < count; i++) (void)tsr__lora_changes(lora, lines[i]);
        tsr__lora_free(lora);
    }
    tsr__weights_close(weights);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char lines[LINES][LINE];
    tsr__diffusers_shape shape = { 0 };
    int count = 0;
    for (size_t at = 0; at < size && count < LINES;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        const size_t kept = length < LINE ? length : LINE - 1;
        memcpy(lines[count], data + at, kept);
        lines[count][kept] = 0;
        tsr__diffusers_look(&shape, lines[count++]);
        at += length + 1;
    }
    for (int i = 0; i < count; i++) turn_name(lines[i], &shape);
    open_adapter(lines, count);
    return 0;
}
