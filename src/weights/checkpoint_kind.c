/* weights/checkpoint_kind.c - telling what a safetensors file is.
 *
 * Two tables do the work: MARKS says which key names mean something, RULES which marks make which kind (first match
 * wins). Widths only decide where names cannot (a UNet without text encoder). Reads no tensor data. */
#include "weights/checkpoint_kind.h"

#include <stdio.h>
#include <string.h>

#include "weights/model_parts.h"

enum mark {
    UNET = 1 << 0,
    UNET_BARE = 1 << 1,
    UNET_DIFFUSERS = 1 << 2,
    LABEL = 1 << 3, /* a second conditioning vector: SDXL */
    JOINT_BLOCKS = 1 << 4,
    DOUBLE_BLOCKS = 1 << 5,
    CONTROL = 1 << 6,
    TEXT_CLIP = 1 << 7,
    TEXT_OPENCLIP = 1 << 8,
    TEXT_CONDITIONER = 1 << 9,
    TEXT_BARE = 1 << 10,
    VAE = 1 << 11,
    VAE_BARE = 1 << 12,
    LORA = 1 << 13,
    UPSCALER = 1 << 14,
    LATENT = 1 << 15,
    EMBEDDING = 1 << 16,
    TINY_VAE = 1 << 17,
    CONTROL_LORA = 1 << 18,
    DIFFERENCE = 1 << 19,
    UNION = 1 << 20,
    ADAPTER = 1 << 21,
};

enum match { AT_START, ANYWHERE, WHOLE };

static const struct {
    unsigned mark;
    enum match match;
    const char *text;
} MARKS[] = {
    { UNET, AT_START, "model.diffusion_model.input_blocks." },
    { UNET_BARE, AT_START, "input_blocks." },
    { UNET_BARE, AT_START, "diffusion_model.input_blocks." },
    { UNET_DIFFUSERS, AT_START, "down_blocks.0." },
    { LABEL, ANYWHERE, "label_emb.0.0.weight" },
    { JOINT_BLOCKS, ANYWHERE, "joint_blocks.0." },
    { DOUBLE_BLOCKS, ANYWHERE, "double_blocks.0." },
    { CONTROL, AT_START, "control_model." },
    { CONTROL, AT_START, "input_hint_block." },
    { CONTROL, AT_START, "controlnet_cond_embedding." },
    { CONTROL_LORA, WHOLE, "lora_controlnet" },
    { DIFFERENCE, WHOLE, "difference" },
    { UNION, ANYWHERE, "control_add_embedding.linear_1.weight" },
    { ADAPTER, WHOLE, "body.0.block1.weight" },
    { ADAPTER, WHOLE, "adapter.body.0.block1.weight" },
    { ADAPTER, WHOLE, "body.0.body.0.block1.weight" },
    { ADAPTER, WHOLE, "adapter.body.0.body.0.block1.weight" },
    { ADAPTER, WHOLE, "adapter.body.0.resnets.0.block1.weight" },
    { TEXT_CLIP, AT_START, "cond_stage_model.transformer." },
    { TEXT_OPENCLIP, AT_START, "cond_stage_model.model." },
    { TEXT_CONDITIONER, AT_START, "conditioner.embedders." },
    { TEXT_BARE, AT_START, "text_model.encoder." },
    { TEXT_BARE, AT_START, "transformer.text_model." },
    { TEXT_BARE, ANYWHERE, "SelfAttention.relative_attention_bias" },
    { VAE, AT_START, "first_stage_model." },
    { VAE_BARE, AT_START, "decoder.mid." },
    { VAE_BARE, AT_START, "decoder.mid_block." },
    { TINY_VAE, ANYWHERE, "taesd_encoder.0.weight" },
    { TINY_VAE, ANYWHERE, "taesd_decoder.1.weight" },
    { TINY_VAE, ANYWHERE, "encoder.layers.1.conv.0.weight" },
    { TINY_VAE, ANYWHERE, "decoder.layers.2.conv.0.weight" },
    { TINY_VAE, WHOLE, "3.conv.0.weight" },
    { LORA, ANYWHERE, ".lora_up." },
    { LORA, ANYWHERE, ".lora_down." },
    { LORA, ANYWHERE, "lora.up." },
    { LORA, ANYWHERE, "lora.down." },
    { LORA, ANYWHERE, ".lora_A." },
    { LORA, ANYWHERE, ".lora_B." },
    { LORA, ANYWHERE, ".hada_w1_" },
    { LORA, ANYWHERE, ".lokr_w1" },
    { UPSCALER, ANYWHERE, ".rdb1.conv1." },
    { UPSCALER, ANYWHERE, ".RDB1.conv1." },
    { UPSCALER, WHOLE, "body.0.weight" },
    { LORA, AT_START, "lora_unet_" },
    { LORA, AT_START, "lora_te" },
    { LATENT, WHOLE, "latent_tensor" },
    { EMBEDDING, WHOLE, "emb_params" },
    { EMBEDDING, AT_START, "string_to_param." },
    { EMBEDDING, WHOLE, "clip_l" },
    { EMBEDDING, WHOLE, "clip_g" },
};

/* kind, when every mark of all is there and none of none; single-part kinds come after the full checkpoints. */
static const struct {
    tsr__checkpoint_kind kind;
    unsigned all, none;
} RULES[] = {
    { TSR_CHECKPOINT_LATENT, LATENT, 0 },
    { TSR_CHECKPOINT_LORA, LORA, 0 },
    { TSR_CHECKPOINT_EMBEDDING, EMBEDDING, 0 },
    { TSR_CHECKPOINT_CONTROL_LORA, CONTROL_LORA, 0 },
    { TSR_CHECKPOINT_CONTROL_DIFFERENCE, CONTROL | DIFFERENCE, 0 },
    { TSR_CHECKPOINT_CONTROL_UNION, CONTROL | UNION, 0 },
    { TSR_CHECKPOINT_T2I_ADAPTER, ADAPTER, 0 },
    { TSR_CHECKPOINT_SD3, JOINT_BLOCKS, 0 },
    { TSR_CHECKPOINT_FLUX, DOUBLE_BLOCKS, 0 },
    { TSR_CHECKPOINT_SDXL, UNET | TEXT_CONDITIONER, 0 },
    { TSR_CHECKPOINT_SDXL, UNET | LABEL, TEXT_CLIP | TEXT_OPENCLIP },
    { TSR_CHECKPOINT_SD2, UNET | TEXT_OPENCLIP, 0 },
    { TSR_CHECKPOINT_SD1, UNET, 0 },
    { TSR_CHECKPOINT_CONTROLNET, CONTROL, 0 },
    { TSR_CHECKPOINT_LDM_UNET, UNET_BARE, 0 },
    { TSR_CHECKPOINT_DIFFUSERS_UNET, UNET_DIFFUSERS, 0 },
    { TSR_CHECKPOINT_TAESD, TINY_VAE, 0 },
    { TSR_CHECKPOINT_VAE, VAE_BARE, 0 },
    { TSR_CHECKPOINT_VAE, VAE, 0 },
    { TSR_CHECKPOINT_TEXT_ENCODER, TEXT_BARE, 0 },
    { TSR_CHECKPOINT_TEXT_ENCODER, TEXT_CLIP, 0 },
    { TSR_CHECKPOINT_TEXT_ENCODER, TEXT_OPENCLIP, 0 },
    { TSR_CHECKPOINT_TEXT_ENCODER, TEXT_CONDITIONER, 0 },
    { TSR_CHECKPOINT_UPSCALER, UPSCALER, 0 },
};

static const struct {
    const char *name, *word; /* for people and for programs */
} KINDS[TSR_CHECKPOINT_KIND_COUNT_] = {
    [TSR_CHECKPOINT_UNKNOWN] = { "a file of unknown kind", "unknown" },
    [TSR_CHECKPOINT_SD1] = { "an SD1 checkpoint", "sd1" },
    [TSR_CHECKPOINT_SD2] = { "an SD2 checkpoint", "sd2" },
    [TSR_CHECKPOINT_SDXL] = { "an SDXL checkpoint", "sdxl" },
    [TSR_CHECKPOINT_SD3] = { "an SD3 model", "sd3" },
    [TSR_CHECKPOINT_FLUX] = { "a Flux model", "flux" },
    [TSR_CHECKPOINT_LDM_UNET] = { "a UNet alone", "unet" },
    [TSR_CHECKPOINT_DIFFUSERS_UNET] = { "a UNet in diffusers layout", "unet" },
    [TSR_CHECKPOINT_CONTROLNET] = { "a ControlNet", "controlnet" },
    [TSR_CHECKPOINT_CONTROL_UNION] = { "a union ControlNet", "control_union" },
    [TSR_CHECKPOINT_CONTROL_LORA] = { "a control-LoRA", "control_lora" },
    [TSR_CHECKPOINT_CONTROL_DIFFERENCE] = { "a ControlNet kept as a difference", "control_difference" },
    [TSR_CHECKPOINT_T2I_ADAPTER] = { "a T2I-Adapter", "t2i_adapter" },
    [TSR_CHECKPOINT_LORA] = { "a LoRA", "lora" },
    [TSR_CHECKPOINT_VAE] = { "a VAE alone", "vae" },
    [TSR_CHECKPOINT_TAESD] = { "a tiny VAE (TAESD)", "taesd" },
    [TSR_CHECKPOINT_TEXT_ENCODER] = { "a text encoder alone", "text_encoder" },
    [TSR_CHECKPOINT_UPSCALER] = { "a picture upscaler", "upscaler" },
    [TSR_CHECKPOINT_LATENT] = { "a latent picture", "latent" },
    [TSR_CHECKPOINT_EMBEDDING] = { "a textual-inversion embedding", "embedding" },
};

static const char *const PART_NAMES[TSR_PART_COUNT_] = { "text encoder", "UNet", "VAE", "other" };

/* Which part a key counts for. */
static const struct {
    const char *prefix;
    tsr__checkpoint_part part;
} PREFIXES[] = {
    { "cond_stage_model.", TSR_PART_TEXT },
    { "conditioner.", TSR_PART_TEXT },
    { "model.diffusion_model.", TSR_PART_UNET },
    { "first_stage_model.", TSR_PART_VAE },
};

const char *tsr__checkpoint_kind_name(tsr__checkpoint_kind kind) {
    return KINDS[(unsigned)kind < TSR_CHECKPOINT_KIND_COUNT_ ? kind : TSR_CHECKPOINT_UNKNOWN].name;
}

const char *tsr__checkpoint_kind_word(tsr__checkpoint_kind kind) {
    return KINDS[(unsigned)kind < TSR_CHECKPOINT_KIND_COUNT_ ? kind : TSR_CHECKPOINT_UNKNOWN].word;
}

const char *tsr__checkpoint_variant_name(tsr__checkpoint_variant variant) {
    return variant == TSR_VARIANT_INPAINT ? ", inpainting" : variant == TSR_VARIANT_EDIT ? ", edits pictures" : "";
}

const char *tsr__checkpoint_part_name(tsr__checkpoint_part part) {
    return (unsigned)part < TSR_PART_COUNT_ ? PART_NAMES[part] : PART_NAMES[TSR_PART_OTHER];
}

static unsigned find_marks(const char *name) {
    unsigned marks = 0;
    for (size_t i = 0; i < sizeof MARKS / sizeof *MARKS; i++) {
        const char *text = MARKS[i].text;
        int hit = 0;
        switch (MARKS[i].match) {
        case AT_START: hit = strncmp(name, text, strlen(text)) == 0; break;
        case ANYWHERE: hit = strstr(name, text) != NULL; break;
        case WHOLE: hit = strcmp(name, text) == 0; break;
        }
        if (hit) marks |= MARKS[i].mark;
    }
    return marks;
}

tsr__checkpoint_part tsr__checkpoint_part_of(const char *name) {
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        if (strncmp(name, PREFIXES[i].prefix, strlen(PREFIXES[i].prefix)) == 0) return PREFIXES[i].part;
    }
    return TSR_PART_OTHER;
}

/* Size of one axis of a tensor; 0 when there is no such tensor or axis. */
static int64_t find_extent(const tsr__weights *weights, const char *name, int axis) {
    const tsr__tensor_view *view = tsr__weights_find(weights, name);
    return view && axis < view->rank ? view->shape[axis] : 0;
}

static tsr__checkpoint_variant variant_of(int64_t in, int64_t out) {
    return in == out           ? TSR_VARIANT_PLAIN
           : in == 2 * out + 1 ? TSR_VARIANT_INPAINT
           : in == 2 * out     ? TSR_VARIANT_EDIT
                               : TSR_VARIANT_UNKNOWN;
}

static void read_widths(tsr__checkpoint_info *info, const tsr__weights *weights) {
    static const char *const embeddings[] = {
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        "cond_stage_model.model.token_embedding.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
    };
    info->unet_channels = find_extent(weights, "model.diffusion_model.input_blocks.0.0.weight", 0);
    info->unet_in_channels = find_extent(weights, "model.diffusion_model.input_blocks.0.0.weight", 1);
    info->unet_out_channels = find_extent(weights, "model.diffusion_model.out.2.weight", 0);
    if (info->unet_in_channels && info->unet_out_channels)
        info->variant = variant_of(info->unet_in_channels, info->unet_out_channels);
    info->vae_channels = find_extent(weights, "first_stage_model.decoder.conv_in.weight", 1);
    if (!info->vae_channels) info->vae_channels = find_extent(weights, "first_stage_model.taesd_decoder.1.weight", 1);
    if (!info->vae_channels) /* its last layer */
        info->vae_channels = find_extent(weights, "first_stage_model.taesd_encoder.14.weight", 0);
    for (size_t i = 0; i < sizeof embeddings / sizeof *embeddings && !info->text_width; i++)
        info->text_width = find_extent(weights, embeddings[i], 1);
    for (size_t i = 0; i < info->tensors && !info->context_width; i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        if (tsr__checkpoint_part_of(view->name) == TSR_PART_UNET && strstr(view->name, ".attn2.to_k.weight") &&
            view->rank == 2)
            info->context_width = view->shape[1];
    }
}

static void list_missing(tsr__checkpoint_info *info, unsigned marks) {
    static const struct {
        unsigned mark;
        const char *text;
    } needed[] = {
        { UNET, "no model.diffusion_model.*: UNet" },
        { TEXT_CLIP | TEXT_OPENCLIP | TEXT_CONDITIONER, "no cond_stage_model.* or conditioner.*: text encoder" },
        { VAE, "no first_stage_model.*: VAE" },
    };
    size_t used = 0;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (marks & needed[i].mark) continue;
        const int length =
            snprintf(info->missing + used, sizeof info->missing - used, "%s%s", used ? "; " : "", needed[i].text);
        if (length > 0) used += (size_t)length;
    }
}

void tsr__checkpoint_describe(tsr__checkpoint_info *out, const tsr__weights *weights) {
    unsigned marks = 0;
    memset(out, 0, sizeof *out);
    out->tensors = tsr__weights_count(weights);
    for (size_t i = 0; i < out->tensors; i++) {
        const tsr__tensor_view *view = tsr__weights_at(weights, i);
        const tsr__checkpoint_part part = tsr__checkpoint_part_of(view->name);
        marks |= find_marks(view->name);
        out->parameters += (int64_t)view->count;
        out->parts[part].tensors++;
        out->parts[part].parameters += (int64_t)view->count;
        out->dtypes[view->dtype]++;
    }
    read_widths(out, weights);
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++) {
        if ((marks & RULES[i].all) != RULES[i].all || (marks & RULES[i].none)) continue;
        out->kind = RULES[i].kind;
        break;
    }
    /* Names of a UNet without text encoder are the same in SD1 and SD2. */
    if (out->kind == TSR_CHECKPOINT_SD1 && !(marks & TEXT_CLIP) && tsr__parts_needs(weights).kind == TSR_CHECKPOINT_SD2)
        out->kind = TSR_CHECKPOINT_SD2;
    list_missing(out, marks);
}
