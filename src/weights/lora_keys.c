/* weights/lora_keys.c - LDM names of SD1 to the names trainers use.
 *
 * The UNet of SD1 is written down twice: LDM numbers its layers along input_blocks and output_blocks, diffusers by level
 * (down_blocks.LEVEL, up_blocks.LEVEL) and kind. With two residual blocks a level (three on the way up):
 *
 *   input_blocks.0.0                  conv_in
 *   input_blocks.(1 + 3 L + J).0 .1   down_blocks.L.resnets.J   .attentions.J        J = 0, 1
 *   input_blocks.(3 + 3 L).0.op       down_blocks.L.downsamplers.0.conv
 *   middle_block.0 .1 .2              mid_block.resnets.0   .attentions.0   .resnets.1
 *   output_blocks.(3 L + J).0 .1      up_blocks.L.resnets.J   .attentions.J          J = 0, 1, 2
 *   output_blocks.(3 L + 2).K.conv    up_blocks.L.upsamplers.0.conv                  K = 1, or 2 behind an attention
 *
 * kohya's files write either with all dots as underscores behind "lora_unet_"; others keep the dots. */
#include "weights/lora_keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char UNET[] = "model.diffusion_model.";
static const char TEXT[] = "cond_stage_model.transformer.";

/* Layers outside the numbered blocks, and those inside a residual block. */
static const struct pair {
    const char *ldm, *diffusers;
} PLAIN[] = {
    { "input_blocks.0.0", "conv_in" },
    { "time_embed.0", "time_embedding.linear_1" },
    { "time_embed.2", "time_embedding.linear_2" },
    { "out.0", "conv_norm_out" },
    { "out.2", "conv_out" },
}, RESNET[] = {
    { "in_layers.0", "norm1" },
    { "in_layers.2", "conv1" },
    { "emb_layers.1", "time_emb_proj" },
    { "out_layers.0", "norm2" },
    { "out_layers.3", "conv2" },
    { "skip_connection", "conv_shortcut" },
};

static const char *after(const char *text, const char *start) {
    const size_t length = strlen(start);
    return strncmp(text, start, length) == 0 ? text + length : NULL;
}

static void add_name(tsr__lora_names *out, int underscores, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_name(tsr__lora_names *out, int underscores, const char *format, ...) {
    if (out->count >= TSR__LORA_MAX_NAMES) return;
    char *name = out->at[out->count];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(name, TSR__LORA_NAME_SIZE, format, args);
    va_end(args);
    if (length < 0 || length >= TSR__LORA_NAME_SIZE) return; /* no adapter has such a name */
    for (char *at = name; underscores && *at; at++) {
        if (*at == '.') *at = '_';
    }
    out->count++;
}

/* A number and its dot: "12.rest" to 12 and "rest"; NULL when there is none. */
static const char *read_index(const char *text, int *index) {
    int value = 0, digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 4; text++, digits++) value = value * 10 + (*text - '0');
    *index = value;
    return digits && *text == '.' ? text + 1 : NULL;
}

/* "in_layers.2" to "RESNET.conv1". 0 when the layer is none of a residual block's. */
static int resnet_name(char *out, size_t size, const char *block, int number, const char *layer) {
    for (size_t i = 0; i < sizeof RESNET / sizeof *RESNET; i++) {
        if (strcmp(layer, RESNET[i].ldm) != 0) continue;
        (void)snprintf(out, size, "%s.resnets.%d.%s", block, number, RESNET[i].diffusers);
        return 1;
    }
    return 0;
}

/* part 0 is a residual block, part 1 an attention. */
static int part_name(char *out, size_t size, const char *block, int number, int part, const char *layer) {
    if (part == 0) return resnet_name(out, size, block, number, layer);
    if (part != 1) return 0;
    (void)snprintf(out, size, "%s.attentions.%d.%s", block, number, layer);
    return 1;
}

static int down_name(char *out, size_t size, const char *rest) {
    int block, part;
    char level[32];
    const char *layer = read_index(rest, &block);
    if (layer) layer = read_index(layer, &part);
    if (!layer || block < 1) return 0;
    (void)snprintf(level, sizeof level, "down_blocks.%d", (block - 1) / 3);
    if ((block - 1) % 3 < 2) return part_name(out, size, level, (block - 1) % 3, part, layer);
    if (part != 0 || strcmp(layer, "op") != 0) return 0;
    (void)snprintf(out, size, "%s.downsamplers.0.conv", level);
    return 1;
}

static int up_name(char *out, size_t size, const char *rest) {
    int block, part;
    char level[32];
    const char *layer = read_index(rest, &block);
    if (layer) layer = read_index(layer, &part);
    if (!layer) return 0;
    (void)snprintf(level, sizeof level, "up_blocks.%d", block / 3);
    if (strcmp(layer, "conv") == 0 && block % 3 == 2 && (part == 1 || part == 2)) {
        (void)snprintf(out, size, "%s.upsamplers.0.conv", level);
        return 1;
    }
    return part_name(out, size, level, block % 3, part, layer);
}

static int middle_name(char *out, size_t size, const char *rest) {
    int part;
    const char *layer = read_index(rest, &part);
    if (!layer || part > 2) return 0;
    return part_name(out, size, "mid_block", part / 2, part % 2, layer);
}

/* The diffusers name of a UNet layer, without ".weight"; 0 when it has none. */
static int diffusers_name(char *out, size_t size, const char *layer) {
    const char *rest;
    for (size_t i = 0; i < sizeof PLAIN / sizeof *PLAIN; i++) {
        if (strcmp(layer, PLAIN[i].ldm) != 0) continue;
        (void)snprintf(out, size, "%s", PLAIN[i].diffusers);
        return 1;
    }
    if ((rest = after(layer, "input_blocks."))) return down_name(out, size, rest);
    if ((rest = after(layer, "output_blocks."))) return up_name(out, size, rest);
    if ((rest = after(layer, "middle_block."))) return middle_name(out, size, rest);
    return 0;
}

static void unet_names(tsr__lora_names *out, const char *layer) {
    char other[TSR__LORA_NAME_SIZE];
    add_name(out, 1, "lora_unet_%s", layer);
    add_name(out, 0, "diffusion_model.%s", layer);
    if (!diffusers_name(other, sizeof other, layer)) return;
    add_name(out, 1, "lora_unet_%s", other);
    add_name(out, 0, "unet.%s", other);
    /* the attention processors of early diffusers: ...attn1.processor.to_q, to_out without its number */
    char *attention = strstr(other, ".to_");
    if (!attention) return;
    char *number = strstr(attention, "to_out.0");
    if (number) number[strlen("to_out")] = '\0';
    *attention = '\0';
    add_name(out, 0, "unet.%s.processor.%s", other, attention + 1);
}

static void text_names(tsr__lora_names *out, const char *layer) {
    add_name(out, 1, "lora_te_%s", layer);
    add_name(out, 1, "lora_te1_%s", layer);
    add_name(out, 0, "text_encoder.%s", layer);
}

int tsr__lora_is_text(const char *key) {
    return after(key, "cond_stage_model.") != NULL;
}

void tsr__lora_names_of(tsr__lora_names *out, const char *key) {
    char layer[TSR__LORA_NAME_SIZE];
    out->count = out->is_bias = 0;
    const char *unet = after(key, UNET), *text = after(key, TEXT), *rest = unet ? unet : text;
    if (!rest || strlen(rest) >= sizeof layer) return;
    (void)snprintf(layer, sizeof layer, "%s", rest);
    char *dot = strrchr(layer, '.');
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)) return;
    out->is_bias = dot[1] == 'b';
    *dot = '\0';
    if (unet) unet_names(out, layer);
    else text_names(out, layer);
}
