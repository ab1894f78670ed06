/* weights/diffusers_names.c - see diffusers_names.h.
 *
 * With R residual blocks a level (2 in all published models), levels L, blocks J:
 *
 *   conv_in                              input_blocks.0.0
 *   down_blocks.L.resnets.J              input_blocks.(1 + (R + 1) L + J).0       attentions.J: .1
 *   down_blocks.L.downsamplers.0.conv    input_blocks.(1 + (R + 1) L + R).0.op
 *   mid_block.resnets.0 .1               middle_block.0 .2                        attentions.0: middle_block.1
 *   up_blocks.L.resnets.J                output_blocks.((R + 1) L + J).0          attentions.J: .1
 *   up_blocks.L.upsamplers.0.conv        output_blocks.((R + 1) L + R).K.conv     K = 2 behind an attention, else 1
 *
 * A ControlNet has the half that goes down, and
 *
 *   controlnet_cond_embedding.conv_in .blocks.K .conv_out     input_hint_block.0 .(2 K + 2) .(2 K + 2 behind the last)
 *   controlnet_down_blocks.N, controlnet_mid_block            zero_convs.N.0, middle_block_out.0
 *
 * The VAE keeps its structure; only its decoder counts levels from the picture. */
#include "weights/diffusers_names.h"

#include <stdio.h>
#include <string.h>

typedef struct pair {
    const char *from, *to;
} pair;

static const pair UNET_PLAIN[] = {
    { "conv_in", "input_blocks.0.0" },
    { "time_embedding.linear_1", "time_embed.0" },
    { "time_embedding.linear_2", "time_embed.2" },
    { "add_embedding.linear_1", "label_emb.0.0" },
    { "add_embedding.linear_2", "label_emb.0.2" },
    { "class_embedding.linear_1", "label_emb.0.0" },
    { "class_embedding.linear_2", "label_emb.0.2" },
    { "conv_norm_out", "out.0" },
    { "conv_out", "out.2" },
};

static const pair UNET_BLOCK[] = {
    { "norm1", "in_layers.0" },  { "conv1", "in_layers.2" },  { "time_emb_proj", "emb_layers.1" },
    { "norm2", "out_layers.0" }, { "conv2", "out_layers.3" }, { "conv_shortcut", "skip_connection" },
};

static const pair VAE_PLAIN[] = {
    { "conv_in", "conv_in" },
    { "conv_norm_out", "norm_out" },
    { "conv_out", "conv_out" },
};

static const pair VAE_BLOCK[] = {
    { "norm1", "norm1" },
    { "conv1", "conv1" },
    { "norm2", "norm2" },
    { "conv2", "conv2" },
    { "conv_shortcut", "nin_shortcut" },
};

/* The middle's attention, by its name of today and of old. */
static const pair VAE_ATTENTION[] = {
    { "group_norm", "norm" },
    { "to_q", "q" },
    { "query", "q" },
    { "to_k", "k" },
    { "key", "k" },
    { "to_v", "v" },
    { "value", "v" },
    { "to_out.0", "proj_out" },
    { "proj_attn", "proj_out" },
};

static const pair OPEN_LAYER[] = {
    { "self_attn.out_proj", "attn.out_proj" },
    { "mlp.fc1", "mlp.c_fc" },
    { "mlp.fc2", "mlp.c_proj" },
    { "layer_norm1", "ln_1" },
    { "layer_norm2", "ln_2" },
};

static const pair OPEN_WHOLE[] = {
    { "text_model.embeddings.token_embedding.weight", "token_embedding.weight" },
    { "text_model.embeddings.position_embedding.weight", "positional_embedding" },
    { "text_model.final_layer_norm.weight", "ln_final.weight" },
    { "text_model.final_layer_norm.bias", "ln_final.bias" },
    { "logit_scale", "logit_scale" },
};

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

static const char *after(const char *text, const char *start) {
    const size_t length = strlen(start);
    return strncmp(text, start, length) == 0 ? text + length : NULL;
}

/* A number and its dot: "12.rest" to 12 and "rest"; NULL when there is none. */
static const char *read_index(const char *text, int *index) {
    int value = 0, digits = 0;
    for (; text && *text >= '0' && *text <= '9' && digits < 3; text++, digits++) value = value * 10 + (*text - '0');
    *index = value;
    return digits && *text == '.' ? text + 1 : NULL;
}

/* "conv1.weight" by a table to "in_layers.2", with *end at ".weight"; NULL when it is not there. */
static const char *look_up(const pair *table, int count, const char *layer, const char **end) {
    for (int i = 0; i < count; i++) {
        const char *rest = after(layer, table[i].from);
        if (!rest || *rest != '.' || strchr(rest + 1, '.')) continue;
        *end = rest;
        return table[i].to;
    }
    return NULL;
}

static int join(char out[TSR__NAME_SIZE], const char *block, const char *layer, const char *end) {
    const int length = snprintf(out, TSR__NAME_SIZE, "%s%s%s", block, layer, end);
    return length > 0 && length < TSR__NAME_SIZE;
}

/* "resnets.1.conv1.weight" to 1 and "conv1.weight". */
static const char *member(const char *rest, const char *kind, int *number) {
    const char *at = rest ? after(rest, kind) : NULL;
    return at ? read_index(at, number) : NULL;
}

void tsr__diffusers_look(tsr__diffusers_shape *shape, const char *name) {
    int level, block;
    const char *down = after(name, "down_blocks.0."), *up = after(name, "up_blocks.");
    if (!down) down = after(name, "encoder.down_blocks.0.");
    if (!up) up = after(name, "decoder.up_blocks.");
    if (member(down, "resnets.", &block) && block >= shape->blocks) shape->blocks = block + 1;
    if (member(after(name, "controlnet_cond_embedding."), "blocks.", &block) && block >= shape->hints)
        shape->hints = block + 1;
    up = up ? read_index(up, &level) : NULL;
    if (!up || level >= TSR__DIFFUSERS_LEVELS) return;
    if (level >= shape->levels) shape->levels = level + 1;
    if (after(up, "attentions.")) shape->attends[level] = 1;
}

/* Residual block or attention `number` of the single file's block; rest as in member(). */
static int unet_member(char out[TSR__NAME_SIZE], const char *kind, int first, int limit, const char *rest) {
    char block[64];
    int number;
    const char *layer = member(rest, "resnets.", &number), *end;
    if (layer && number < limit) {
        const char *to = look_up(UNET_BLOCK, COUNT(UNET_BLOCK), layer, &end);
        (void)snprintf(block, sizeof block, "%s.%d.0.", kind, first + number);
        return to && join(out, block, to, end);
    }
    layer = member(rest, "attentions.", &number);
    if (!layer || number >= limit) return 0;
    (void)snprintf(block, sizeof block, "%s.%d.1.", kind, first + number);
    return join(out, block, layer, "");
}

static int unet_middle(char out[TSR__NAME_SIZE], const char *rest) {
    int number;
    char block[64];
    const char *layer = member(rest, "resnets.", &number), *end;
    if (layer && number < 2) {
        const char *to = look_up(UNET_BLOCK, COUNT(UNET_BLOCK), layer, &end);
        (void)snprintf(block, sizeof block, "middle_block.%d.", 2 * number);
        return to && join(out, block, to, end);
    }
    layer = member(rest, "attentions.", &number);
    return layer && number == 0 && join(out, "middle_block.1.", layer, "");
}

int tsr__diffusers_unet_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape) {
    const int stride = shape->blocks + 1;
    const char *rest, *end, *plain = look_up(UNET_PLAIN, COUNT(UNET_PLAIN), name, &end);
    int level;
    char block[64];
    if (plain) return join(out, plain, "", end);
    if ((rest = after(name, "mid_block."))) return unet_middle(out, rest);
    if ((rest = after(name, "down_blocks."))) {
        rest = read_index(rest, &level);
        const char *sampler = rest ? after(rest, "downsamplers.0.conv.") : NULL;
        (void)snprintf(block, sizeof block, "input_blocks.%d.0.op.", 1 + stride * level + shape->blocks);
        if (sampler) return join(out, block, sampler, "");
        return rest && unet_member(out, "input_blocks", 1 + stride * level, shape->blocks, rest);
    }
    if ((rest = after(name, "up_blocks."))) {
        rest = read_index(rest, &level);
        if (!rest || level >= TSR__DIFFUSERS_LEVELS) return 0;
        const char *sampler = after(rest, "upsamplers.0.conv.");
        (void)snprintf(block, sizeof block, "output_blocks.%d.%d.conv.", stride * level + shape->blocks,
                       shape->attends[level] ? 2 : 1);
        if (sampler) return join(out, block, sampler, "");
        return unet_member(out, "output_blocks", stride * level, stride, rest);
    }
    return 0;
}

/* --- control networks ------------------------------------------------------------------------------------------------- */
static int hint_name(char out[TSR__NAME_SIZE], const char *rest, const tsr__diffusers_shape *shape) {
    int number = 0;
    char block[64];
    const char *layer = after(rest, "conv_in.");
    if (layer) return join(out, "input_hint_block.0.", layer, "");
    layer = after(rest, "conv_out.");
    if (layer) number = shape->hints;
    else layer = member(rest, "blocks.", &number);
    (void)snprintf(block, sizeof block, "input_hint_block.%d.", 2 * number + 2);
    return layer && join(out, block, layer, "");
}

int tsr__diffusers_control_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape) {
    static const char *const kept[] = { "task_embedding", "transformer_layes.", "spatial_ch_projs.",
                                        "control_add_embedding." };
    const char *rest;
    int number;
    char block[64];
    if ((rest = after(name, "controlnet_cond_embedding."))) return hint_name(out, rest, shape);
    if ((rest = after(name, "controlnet_mid_block."))) return join(out, "middle_block_out.0.", rest, "");
    if ((rest = member(name, "controlnet_down_blocks.", &number))) {
        (void)snprintf(block, sizeof block, "zero_convs.%d.0.", number);
        return join(out, block, rest, "");
    }
    for (int i = 0; i < COUNT(kept); i++)
        if (after(name, kept[i])) return join(out, name, "", "");
    return tsr__diffusers_unet_name(out, name, shape);
}

int tsr__diffusers_adapter_name(char out[TSR__NAME_SIZE], const char *name, int is_light) {
    int level, number = 0;
    char block[64];
    const char *rest = after(name, "adapter."), *layer;
    if (rest && after(rest, "conv_in.")) return join(out, rest, "", "");
    rest = rest ? member(rest, "body.", &level) : NULL;
    if (!rest) return 0;
    layer = member(rest, "resnets.", &number);
    if (is_light) {
        (void)snprintf(block, sizeof block, layer ? "body.%d.body.%d." : "body.%d.", level, number);
        return join(out, block, layer ? layer : rest, "");
    }
    if (number > 1) return 0; /* two residual blocks a level */
    (void)snprintf(block, sizeof block, "body.%d.", 2 * level + number);
    return join(out, block, layer ? layer : rest, "");
}

/* --- VAE ---------------------------------------------------------------------------------------------------------------- */
static int vae_middle(char out[TSR__NAME_SIZE], const char *half, const char *rest) {
    int number;
    char block[64];
    const char *layer = member(rest, "resnets.", &number), *end, *to;
    if (layer && number < 2) {
        to = look_up(VAE_BLOCK, COUNT(VAE_BLOCK), layer, &end);
        (void)snprintf(block, sizeof block, "%s.mid.block_%d.", half, number + 1);
        return to && join(out, block, to, end);
    }
    layer = member(rest, "attentions.", &number);
    if (!layer || number != 0) return 0;
    to = look_up(VAE_ATTENTION, COUNT(VAE_ATTENTION), layer, &end);
    (void)snprintf(block, sizeof block, "%s.mid.attn_1.", half);
    return to && join(out, block, to, end);
}

static int vae_level(char out[TSR__NAME_SIZE], const char *half, const char *rest, int levels) {
    const int up = half[0] == 'd';
    int level, number;
    char block[64];
    const char *end, *to;
    rest = read_index(rest, &level);
    if (!rest || (up && level >= levels)) return 0;
    if (up) level = levels - 1 - level;
    const char *resize = after(rest, up ? "upsamplers.0.conv." : "downsamplers.0.conv.");
    if (resize) {
        (void)snprintf(block, sizeof block, "%s.%s.%d.%s.conv.", half, up ? "up" : "down", level,
                       up ? "upsample" : "downsample");
        return join(out, block, resize, "");
    }
    rest = member(rest, "resnets.", &number);
    if (!rest) return 0;
    to = look_up(VAE_BLOCK, COUNT(VAE_BLOCK), rest, &end);
    (void)snprintf(block, sizeof block, "%s.%s.%d.block.%d.", half, up ? "up" : "down", level, number);
    return to && join(out, block, to, end);
}

int tsr__diffusers_vae_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape) {
    const char *half = after(name, "encoder.") ? "encoder" : after(name, "decoder.") ? "decoder" : NULL;
    const char *rest, *end, *plain;
    char block[32];
    if (!half) return (after(name, "quant_conv.") || after(name, "post_quant_conv.")) && join(out, name, "", "");
    name += strlen(half) + 1;
    (void)snprintf(block, sizeof block, "%s.", half);
    plain = look_up(VAE_PLAIN, COUNT(VAE_PLAIN), name, &end);
    if (plain) return join(out, block, plain, end);
    if ((rest = after(name, "mid_block."))) return vae_middle(out, half, rest);
    if ((rest = after(name, half[0] == 'd' ? "up_blocks." : "down_blocks.")))
        return vae_level(out, half, rest, shape->levels);
    return 0;
}

/* --- text encoders ------------------------------------------------------------------------------------------------------ */
static tsr__open_clip_part open_layer(char out[TSR__NAME_SIZE], const char *rest) {
    static const pair joined[] = { { "self_attn.q_proj", "q" },
                                   { "self_attn.k_proj", "k" },
                                   { "self_attn.v_proj", "v" } };
    int number;
    char block[64];
    const char *end, *to;
    rest = read_index(rest, &number);
    if (!rest) return TSR__OPEN_NONE;
    (void)snprintf(block, sizeof block, "transformer.resblocks.%d.", number);
    to = look_up(joined, COUNT(joined), rest, &end);
    if (to) {
        const tsr__open_clip_part part = *to == 'q' ? TSR__OPEN_Q : *to == 'k' ? TSR__OPEN_K : TSR__OPEN_V;
        return join(out, block, "attn.in_proj_", end + 1) ? part : TSR__OPEN_NONE;
    }
    to = look_up(OPEN_LAYER, COUNT(OPEN_LAYER), rest, &end);
    return to && join(out, block, to, end) ? TSR__OPEN_PLAIN : TSR__OPEN_NONE;
}

tsr__open_clip_part tsr__open_clip_name(char out[TSR__NAME_SIZE], const char *name) {
    const char *rest = after(name, "text_model.encoder.layers.");
    if (rest) return open_layer(out, rest);
    if (strcmp(name, "text_projection.weight") == 0)
        return join(out, "text_projection", "", "") ? TSR__OPEN_TURNED : TSR__OPEN_NONE;
    if (strcmp(name, "text_model.text_projection") == 0) /* stable-diffusion.cpp's, OpenCLIP's own way round */
        return join(out, "text_projection", "", "") ? TSR__OPEN_PLAIN : TSR__OPEN_NONE;
    for (int i = 0; i < COUNT(OPEN_WHOLE); i++)
        if (strcmp(name, OPEN_WHOLE[i].from) == 0)
            return join(out, OPEN_WHOLE[i].to, "", "") ? TSR__OPEN_PLAIN : TSR__OPEN_NONE;
    return TSR__OPEN_NONE;
}

/* --- the way back -------------------------------------------------------------------------------------------------------- */
/* look_up from right to left: the first row of a name is the one of today. */
static const char *look_back(const pair *table, int count, const char *layer, const char **end) {
    for (int i = 0; i < count; i++) {
        const char *rest = after(layer, table[i].to);
        if (!rest || *rest != '.' || strchr(rest + 1, '.')) continue;
        *end = rest;
        return table[i].from;
    }
    return NULL;
}

static int join_back(char out[TSR__NAME_SIZE], const char *block, const pair *table, int count, const char *layer) {
    const char *end, *from = look_back(table, count, layer, &end);
    return from && join(out, block, from, end);
}

void tsr__single_file_look(tsr__diffusers_shape *shape, const char *name) {
    int number, place;
    const char *rest = after(name, "input_blocks."), *up = after(name, "decoder.up.");
    rest = rest ? read_index(rest, &number) : NULL;
    /* the first block that makes things smaller ends the first level; without one there is one level */
    if (rest && after(rest, "0.op.") && (!shape->blocks || number - 1 < shape->blocks)) shape->blocks = number - 1;
    if (up && read_index(up, &place) && place >= shape->levels && place < TSR__DIFFUSERS_LEVELS)
        shape->levels = place + 1;
}

/* Block and member of the half that goes down or up; 0 where a level's last place is meant that is none. */
static int unet_block_back(char out[TSR__NAME_SIZE], const char *half, const char *resize, int place, int member_number,
                           const char *rest, int stride) {
    char block[64];
    const char *layer = after(rest, "0."), *sampler = after(rest, resize);
    const int level = place / stride;
    if (sampler) {
        (void)snprintf(block, sizeof block, "%s_blocks.%d.%ssamplers.0.conv.", half, level, half);
        return join(out, block, sampler, "");
    }
    (void)snprintf(block, sizeof block, "%s_blocks.%d.%s.%d.", half, level, layer ? "resnets" : "attentions",
                   member_number);
    if (layer) return join_back(out, block, UNET_BLOCK, COUNT(UNET_BLOCK), layer);
    layer = after(rest, "1.");
    return layer && join(out, block, layer, "");
}

int tsr__single_file_unet_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape) {
    const int stride = shape->blocks + 1;
    int number;
    if (!shape->blocks) return 0; /* a UNet of one level: nothing tells where blocks end */
    if (join_back(out, "", UNET_PLAIN, COUNT(UNET_PLAIN), name)) return 1;
    const char *rest = after(name, "middle_block.");
    if ((rest = rest ? read_index(rest, &number) : NULL)) {
        if (number == 1) return join(out, "mid_block.attentions.0.", rest, "");
        return join_back(out, number ? "mid_block.resnets.1." : "mid_block.resnets.0.", UNET_BLOCK, COUNT(UNET_BLOCK),
                         rest);
    }
    rest = after(name, "input_blocks.");
    if ((rest = rest ? read_index(rest, &number) : NULL))
        return number > 0 && unet_block_back(out, "down", "0.op.", number - 1, (number - 1) % stride, rest, stride);
    rest = after(name, "output_blocks.");
    rest = rest ? read_index(rest, &number) : NULL;
    if (!rest) return 0;
    const char *resize = after(rest, "1.conv.") ? "1.conv." : "2.conv.";
    return unet_block_back(out, "up", resize, number, number % stride, rest, stride);
}

int tsr__single_file_vae_name(char out[TSR__NAME_SIZE], const char *name, const tsr__diffusers_shape *shape) {
    const char *half = after(name, "encoder.") ? "encoder" : after(name, "decoder.") ? "decoder" : NULL;
    const char *rest;
    char block[64];
    int level, number = 0;
    if (!half) return (after(name, "quant_conv.") || after(name, "post_quant_conv.")) && join(out, name, "", "");
    const int up = half[0] == 'd';
    name += strlen(half) + 1;
    (void)snprintf(block, sizeof block, "%s.", half);
    if (join_back(out, block, VAE_PLAIN, COUNT(VAE_PLAIN), name)) return 1;
    if ((rest = after(name, "mid.attn_1."))) {
        (void)snprintf(block, sizeof block, "%s.mid_block.attentions.0.", half);
        return join_back(out, block, VAE_ATTENTION, COUNT(VAE_ATTENTION), rest);
    }
    if ((rest = member(name, "mid.block_", &number))) {
        (void)snprintf(block, sizeof block, "%s.mid_block.resnets.%d.", half, number - 1);
        return number >= 1 && number <= 2 && join_back(out, block, VAE_BLOCK, COUNT(VAE_BLOCK), rest);
    }
    rest = member(name, up ? "up." : "down.", &level);
    if (!rest || (up && level >= shape->levels)) return 0;
    if (up) level = shape->levels - 1 - level;
    const char *resize = after(rest, up ? "upsample.conv." : "downsample.conv.");
    (void)snprintf(block, sizeof block, "%s.%s_blocks.%d.%ssamplers.0.conv.", half, up ? "up" : "down", level,
                   up ? "up" : "down");
    if (resize) return join(out, block, resize, "");
    rest = member(rest, "block.", &number);
    (void)snprintf(block, sizeof block, "%s.%s_blocks.%d.resnets.%d.", half, up ? "up" : "down", level, number);
    return rest && join_back(out, block, VAE_BLOCK, COUNT(VAE_BLOCK), rest);
}

tsr__open_clip_part tsr__open_clip_back(char out[TSR__NAME_SIZE], const char *name) {
    int number;
    char block[64];
    if (strcmp(name, "text_projection") == 0)
        return join(out, "text_projection.weight", "", "") ? TSR__OPEN_TURNED : TSR__OPEN_NONE;
    for (int i = 0; i < COUNT(OPEN_WHOLE); i++)
        if (strcmp(name, OPEN_WHOLE[i].to) == 0)
            return join(out, OPEN_WHOLE[i].from, "", "") ? TSR__OPEN_PLAIN : TSR__OPEN_NONE;
    const char *rest = member(name, "transformer.resblocks.", &number), *kind;
    if (!rest) return TSR__OPEN_NONE;
    (void)snprintf(block, sizeof block, "text_model.encoder.layers.%d.", number);
    if ((kind = after(rest, "attn.in_proj_")))
        return join(out, block, "self_attn.q_proj.", kind) ? TSR__OPEN_Q : TSR__OPEN_NONE;
    return join_back(out, block, OPEN_LAYER, COUNT(OPEN_LAYER), rest) ? TSR__OPEN_PLAIN : TSR__OPEN_NONE;
}
