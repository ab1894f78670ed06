/* weights/lora_keys.c - names of single-file checkpoints (SD1, SD2, SDXL) to the names trainers use.
 *
 * The UNet is written down twice: LDM numbers its layers along input_blocks and output_blocks, diffusers by level
 * (down_blocks.LEVEL, up_blocks.LEVEL) and kind. With two residual blocks a level (three on the way up):
 *
 *   input_blocks.0.0                  conv_in
 *   input_blocks.(1 + 3 L + J).0 .1   down_blocks.L.resnets.J   .attentions.J        J = 0, 1
 *   input_blocks.(3 + 3 L).0.op       down_blocks.L.downsamplers.0.conv
 *   middle_block.0 .1 .2              mid_block.resnets.0   .attentions.0   .resnets.1
 *   output_blocks.(3 L + J).0 .1      up_blocks.L.resnets.J   .attentions.J          J = 0, 1, 2
 *   output_blocks.(3 L + 2).K.conv    up_blocks.L.upsamplers.0.conv                  K = 1, or 2 behind an attention
 *
 * kohya's files write either with all dots as underscores behind "lora_unet_"; others keep the dots. Text encoders carry
 * Hugging Face's names there, also OpenCLIP's, whose q, k and v stand in one tensor of the checkpoint. */
#include "weights/lora_keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char UNET[] = "model.diffusion_model.";

/* Layers outside the numbered blocks, and those inside a residual block. */
static const struct pair {
    const char *ldm, *diffusers;
} PLAIN[] = {
    { "input_blocks.0.0", "conv_in" },
    { "time_embed.0", "time_embedding.linear_1" },
    { "time_embed.2", "time_embedding.linear_2" },
    { "out.0", "conv_norm_out" },
    { "out.2", "conv_out" },
    { "label_emb.0.0", "add_embedding.linear_1" },
    { "label_emb.0.2", "add_embedding.linear_2" },
}, RESNET[] = {
    { "in_layers.0", "norm1" },
    { "in_layers.2", "conv1" },
    { "emb_layers.1", "time_emb_proj" },
    { "out_layers.0", "norm2" },
    { "out_layers.3", "conv2" },
    { "skip_connection", "conv_shortcut" },
};

/* Text encoders: how a checkpoint's names begin, and how adapters call the encoder. */
static const struct encoder {
    const char *prefix;
    int is_open; /* OpenCLIP's names */
    const char *kohya, *kohya_other, *dotted;
    const char *generic; /* ComfyUI's own, "text_encoders." and the encoder */
} ENCODERS[] = {
    { "cond_stage_model.transformer.", 0, "lora_te_", "lora_te1_", "text_encoder", "clip_l" },
    { "cond_stage_model.model.", 1, "lora_te_", "lora_te1_", "text_encoder", "clip_h" },
    { "conditioner.embedders.0.transformer.", 0, "lora_te1_", "lora_te_", "text_encoder", "clip_l" },
    { "conditioner.embedders.1.model.", 1, "lora_te2_", NULL, "text_encoder_2", "clip_g" },
};

/* Layers inside a block of OpenCLIP. */
static const struct pair OPEN_CLIP[] = {
    { "attn.in_proj_q", "self_attn.q_proj" },
    { "attn.in_proj_k", "self_attn.k_proj" },
    { "attn.in_proj_v", "self_attn.v_proj" },
    { "attn.out_proj", "self_attn.out_proj" },
    { "mlp.c_fc", "mlp.fc1" },
    { "mlp.c_proj", "mlp.fc2" },
    { "ln_1", "layer_norm1" },
    { "ln_2", "layer_norm2" },
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
    add_name(out, 1, "lycoris_%s", other); /* SimpleTuner */
    add_name(out, 0, "unet.%s", other);
    add_name(out, 0, "%s", other);
    add_name(out, 0, "base_model.model.%s", other); /* PEFT's own file */
    add_name(out, 0, "unet.base_model.model.%s", other);
    /* the attention processors of early diffusers: ...attn1.processor.to_q, to_out without its number */
    char *attention = strstr(other, ".to_");
    if (!attention) return;
    char *number = strstr(attention, "to_out.0");
    if (number) number[strlen("to_out")] = '\0';
    *attention = '\0';
    add_name(out, 0, "unet.%s.processor.%s", other, attention + 1);
    add_name(out, 0, "%s.processor.%s", other, attention + 1);
}

/* "transformer.resblocks.3.mlp.c_fc" to "text_model.encoder.layers.3.mlp.fc1"; 0 when adapters do not name it. */
static int open_clip_name(char *out, size_t size, const char *layer) {
    int number;
    const char *rest = after(layer, "transformer.resblocks.");
    if (rest) rest = read_index(rest, &number);
    for (size_t i = 0; rest && i < sizeof OPEN_CLIP / sizeof *OPEN_CLIP; i++) {
        if (strcmp(rest, OPEN_CLIP[i].ldm) != 0) continue;
        (void)snprintf(out, size, "text_model.encoder.layers.%d.%s", number, OPEN_CLIP[i].diffusers);
        return 1;
    }
    return 0;
}

static void text_names(tsr__lora_names *out, const struct encoder *encoder, const char *layer) {
    char renamed[TSR__LORA_NAME_SIZE];
    if (encoder->is_open) {
        if (!open_clip_name(renamed, sizeof renamed, layer)) return;
        layer = renamed;
    }
    add_name(out, 1, "%s%s", encoder->kohya, layer);
    if (encoder->kohya_other) add_name(out, 1, "%s%s", encoder->kohya_other, layer);
    add_name(out, 0, "%s.%s", encoder->dotted, layer);
    add_name(out, 0, "%s.base_model.model.%s", encoder->dotted, layer);
    add_name(out, 0, "text_encoders.%s.transformer.%s", encoder->generic, layer);
    if (strcmp(encoder->dotted, "text_encoder") == 0) add_name(out, 0, "base_model.model.%s", layer);
}

static const struct encoder *encoder_of(const char *key) {
    for (size_t i = 0; i < sizeof ENCODERS / sizeof *ENCODERS; i++)
        if (after(key, ENCODERS[i].prefix)) return &ENCODERS[i];
    return NULL;
}

int tsr__lora_is_text(const char *key) {
    return encoder_of(key) != NULL;
}

void tsr__lora_names_of(tsr__lora_names *out, const char *key) {
    char layer[TSR__LORA_NAME_SIZE];
    const struct encoder *encoder = encoder_of(key);
    out->count = out->is_bias = 0;
    const char *unet = after(key, UNET), *rest = encoder ? after(key, encoder->prefix) : unet;
    if (!rest || strlen(rest) >= sizeof layer) return;
    (void)snprintf(layer, sizeof layer, "%s", rest);
    char *dot = strrchr(layer, '.');
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)) return;
    out->is_bias = dot[1] == 'b';
    *dot = '\0';
    if (unet) unet_names(out, layer);
    else text_names(out, encoder, layer);
}

int tsr__lora_split(const char *key, char parts[3][TSR__LORA_NAME_SIZE]) {
    static const char JOINED[] = ".attn.in_proj_weight";
    const size_t length = strlen(key), end = strlen(JOINED);
    if (length <= end || length + 8 >= TSR__LORA_NAME_SIZE || strcmp(key + length - end, JOINED) != 0) return 0;
    for (int i = 0; i < 3; i++)
        (void)snprintf(parts[i], TSR__LORA_NAME_SIZE, "%.*s.attn.in_proj_%c.weight", (int)(length - end), key,
                       "qkv"[i]);
    return 1;
}
