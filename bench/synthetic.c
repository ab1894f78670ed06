/* bench/synthetic.c - the shapes of SD1.5, SD2.1 and SDXL by their construction rules: names, sizes, operations. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "synthetic_priv.h"

/* What the families differ in. */
static const struct layout {
    int levels, depth[4], middle; /* channels are 320 times 1, 2, 4, 4; transformer blocks a level */
    int64_t text;                 /* width */
    int proj_rank;                /* proj_in and proj_out: convolutions of 1 x 1, or linear */
    int64_t label;                /* of the second vector; 0: none */
} layouts[] = {
    [SYNTHETIC_SD15] = { 4, { 1, 1, 1, 0 }, 1, 768, 4, 0 },
    [SYNTHETIC_SD21] = { 4, { 1, 1, 1, 0 }, 1, 1024, 2, 0 },
    [SYNTHETIC_SDXL] = { 3, { 0, 2, 10, 0 }, 10, 2048, 2, 2816 },
};

/* Walks the networks in the order they run; places is the area at hand. */
typedef struct plan {
    synthetic_entry *entries;
    int count;
    int64_t parameters, places, tokens;
    double flop;
    const char *prefix;
    const struct layout *layout;
} plan;

static void add(plan *p, synthetic_values kind, int rank, const int64_t *shape, const char *name, const char *end) {
    if (p->count == SYNTHETIC_MAX_ENTRIES) {
        fprintf(stderr, "bench: more than %d tensors\n", SYNTHETIC_MAX_ENTRIES);
        abort();
    }
    synthetic_entry *e = &p->entries[p->count++];
    snprintf(e->name, sizeof e->name, "%s.%s%s", p->prefix, name, end);
    e->rank = rank;
    e->kind = kind;
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= e->shape[i] = shape[i];
    p->parameters += count;
}

#define NAMED(name)                                                                                                    \
    char name[100];                                                                                                    \
    va_list args;                                                                                                      \
    va_start(args, format);                                                                                            \
    vsnprintf(name, sizeof name, format, args);                                                                        \
    va_end(args)

static void norm(plan *p, int64_t c, const char *format, ...) {
    NAMED(name);
    add(p, SYNTHETIC_GAMMA, 1, &c, name, ".weight");
    add(p, SYNTHETIC_ZERO, 1, &c, name, ".bias");
}

/* rows: how many places it is applied to */
static void linear(plan *p, int64_t rows, int64_t out, int64_t in, int rank, int bias, const char *format, ...) {
    NAMED(name);
    const int64_t shape[4] = { out, in, 1, 1 };
    add(p, SYNTHETIC_WEIGHT, rank, shape, name, ".weight");
    if (bias) add(p, SYNTHETIC_ZERO, 1, shape, name, ".bias");
    p->flop += 2.0 * (double)rows * (double)out * (double)in;
}

static void conv(plan *p, int64_t out, int64_t in, const char *format, ...) {
    NAMED(name);
    const int64_t shape[4] = { out, in, 3, 3 };
    add(p, SYNTHETIC_WEIGHT, 4, shape, name, ".weight");
    add(p, SYNTHETIC_ZERO, 1, shape, name, ".bias");
    p->flop += 2.0 * (double)p->places * (double)out * (double)in * 9;
}

/* Both products of an attention. */
static void attend(plan *p, int64_t queries, int64_t keys, int64_t c) {
    p->flop += 4.0 * (double)queries * (double)keys * (double)c;
}

/* --- UNet: two blocks a level down, three up ---------------------------------------------------------------------------- */

static void unet_res(plan *p, int64_t in, int64_t out, const char *name) {
    norm(p, in, "%s.in_layers.0", name);
    conv(p, out, in, "%s.in_layers.2", name);
    linear(p, 1, out, 1280, 2, 1, "%s.emb_layers.1", name);
    norm(p, out, "%s.out_layers.0", name);
    conv(p, out, out, "%s.out_layers.3", name);
    if (in != out) linear(p, p->places, out, in, 4, 1, "%s.skip_connection", name);
}

static void transformer_block(plan *p, int64_t c, const char *inner) {
    for (int a = 1; a <= 2; a++) {
        int64_t width = a == 1 ? c : p->layout->text, rows = a == 1 ? p->places : p->tokens;
        linear(p, p->places, c, c, 2, 0, "%s.attn%d.to_q", inner, a);
        linear(p, rows, c, width, 2, 0, "%s.attn%d.to_k", inner, a);
        linear(p, rows, c, width, 2, 0, "%s.attn%d.to_v", inner, a);
        linear(p, p->places, c, c, 2, 1, "%s.attn%d.to_out.0", inner, a);
        attend(p, p->places, rows, c);
    }
    linear(p, p->places, 8 * c, c, 2, 1, "%s.ff.net.0.proj", inner);
    linear(p, p->places, c, 4 * c, 2, 1, "%s.ff.net.2", inner);
    for (int i = 1; i <= 3; i++) norm(p, c, "%s.norm%d", inner, i);
}

static void unet_transformer(plan *p, int64_t c, int depth, const char *name) {
    char inner[80];
    if (!depth) return;
    norm(p, c, "%s.norm", name);
    linear(p, p->places, c, c, p->layout->proj_rank, 1, "%s.proj_in", name);
    for (int d = 0; d < depth; d++) {
        snprintf(inner, sizeof inner, "%s.transformer_blocks.%d", name, d);
        transformer_block(p, c, inner);
    }
    linear(p, p->places, c, c, p->layout->proj_rank, 1, "%s.proj_out", name);
}

static const int64_t unet_widths[4] = { 320, 640, 1280, 1280 };

/* Returns how many channels were kept. */
static int plan_way_down(plan *p, int64_t *skips) {
    int64_t c = 320;
    int depth = 0, n = 1, last = p->layout->levels - 1;
    char name[64];
    conv(p, 320, 4, "input_blocks.0.0");
    skips[depth++] = c;
    for (int l = 0; l <= last; l++) {
        for (int b = 0; b < 2; b++, n++) {
            snprintf(name, sizeof name, "input_blocks.%d.0", n);
            unet_res(p, c, unet_widths[l], name);
            c = unet_widths[l];
            snprintf(name, sizeof name, "input_blocks.%d.1", n);
            unet_transformer(p, c, p->layout->depth[l], name);
            skips[depth++] = c;
        }
        if (l == last) break;
        p->places /= 4;
        conv(p, c, c, "input_blocks.%d.0.op", n++);
        skips[depth++] = c;
    }
    return depth;
}

static void plan_unet(plan *p) {
    int64_t skips[12], c = 1280;
    char name[64];
    p->prefix = "model.diffusion_model";
    linear(p, 1, 1280, 320, 2, 1, "time_embed.0");
    linear(p, 1, 1280, 1280, 2, 1, "time_embed.2");
    if (p->layout->label) {
        linear(p, 1, 1280, p->layout->label, 2, 1, "label_emb.0.0");
        linear(p, 1, 1280, 1280, 2, 1, "label_emb.0.2");
    }
    int depth = plan_way_down(p, skips);
    unet_res(p, c, c, "middle_block.0");
    unet_transformer(p, c, p->layout->middle, "middle_block.1");
    unet_res(p, c, c, "middle_block.2");
    for (int l = p->layout->levels - 1, b = 0; l >= 0; l--)
        for (int i = 0; i < 3; i++, b++) {
            snprintf(name, sizeof name, "output_blocks.%d.0", b);
            unet_res(p, c + skips[--depth], unet_widths[l], name);
            c = unet_widths[l];
            snprintf(name, sizeof name, "output_blocks.%d.1", b);
            unet_transformer(p, c, p->layout->depth[l], name);
            if (l && i == 2) {
                p->places *= 4;
                conv(p, c, c, "output_blocks.%d.%d.conv", b, p->layout->depth[l] ? 2 : 1);
            }
        }
    norm(p, c, "out.0");
    conv(p, 4, c, "out.2");
}

/* --- VAE: 128 channels times 1, 2, 4, 4; two blocks a level encoding, three decoding --------------------------------- */

static void vae_res(plan *p, int64_t in, int64_t out, const char *name) {
    norm(p, in, "%s.norm1", name);
    conv(p, out, in, "%s.conv1", name);
    norm(p, out, "%s.norm2", name);
    conv(p, out, out, "%s.conv2", name);
    if (in != out) linear(p, p->places, out, in, 4, 1, "%s.nin_shortcut", name);
}

static void vae_mid(plan *p, int64_t c, const char *half) {
    static const char *const parts[4] = { "q", "k", "v", "proj_out" };
    char name[64];
    snprintf(name, sizeof name, "%s.mid.block_1", half);
    vae_res(p, c, c, name);
    norm(p, c, "%s.mid.attn_1.norm", half);
    for (int i = 0; i < 4; i++) linear(p, p->places, c, c, 4, 1, "%s.mid.attn_1.%s", half, parts[i]);
    attend(p, p->places, p->places, c);
    snprintf(name, sizeof name, "%s.mid.block_2", half);
    vae_res(p, c, c, name);
}

static const int64_t vae_widths[4] = { 128, 256, 512, 512 };

static void plan_encoder(plan *p) {
    int64_t c = 128;
    char name[64];
    conv(p, c, 3, "encoder.conv_in");
    for (int l = 0; l < 4; l++) {
        for (int b = 0; b < 2; b++, c = vae_widths[l]) {
            snprintf(name, sizeof name, "encoder.down.%d.block.%d", l, b);
            vae_res(p, c, vae_widths[l], name);
        }
        if (l == 3) break;
        p->places /= 4;
        conv(p, c, c, "encoder.down.%d.downsample.conv", l);
    }
    vae_mid(p, c, "encoder");
    norm(p, c, "encoder.norm_out");
    conv(p, 8, c, "encoder.conv_out");
    linear(p, p->places, 8, 8, 4, 1, "quant_conv");
}

static void plan_decoder(plan *p) {
    int64_t c = 512;
    char name[64];
    linear(p, p->places, 4, 4, 4, 1, "post_quant_conv");
    conv(p, c, 4, "decoder.conv_in");
    vae_mid(p, c, "decoder");
    for (int l = 3; l >= 0; l--) {
        for (int b = 0; b < 3; b++, c = vae_widths[l]) {
            snprintf(name, sizeof name, "decoder.up.%d.block.%d", l, b);
            vae_res(p, c, vae_widths[l], name);
        }
        if (l == 0) break;
        p->places *= 4;
        conv(p, c, c, "decoder.up.%d.upsample.conv", l);
    }
    norm(p, c, "decoder.norm_out");
    conv(p, 3, c, "decoder.conv_out");
}

/* --- text encoders ---------------------------------------------------------------------------------------------------- */

/* Hugging Face's names: CLIP-L, 12 layers of 768 channels, 77 places. */
static void plan_clip_l(plan *p, const char *prefix) {
    static const char *const parts[4] = { "q_proj", "k_proj", "v_proj", "out_proj" };
    const int64_t words[2] = { 49408, 768 }, places[2] = { 77, 768 };
    char name[64];
    p->prefix = prefix;
    add(p, SYNTHETIC_WEIGHT, 2, words, "embeddings.token_embedding", ".weight");
    add(p, SYNTHETIC_WEIGHT, 2, places, "embeddings.position_embedding", ".weight");
    for (int n = 0; n < 12; n++) {
        snprintf(name, sizeof name, "encoder.layers.%d", n);
        norm(p, 768, "%s.layer_norm1", name);
        for (int i = 0; i < 4; i++) linear(p, 77, 768, 768, 2, 1, "%s.self_attn.%s", name, parts[i]);
        norm(p, 768, "%s.layer_norm2", name);
        linear(p, 77, 3072, 768, 2, 1, "%s.mlp.fc1", name);
        linear(p, 77, 768, 3072, 2, 1, "%s.mlp.fc2", name);
    }
    norm(p, 768, "final_layer_norm");
}

/* OpenCLIP's names: H is 24 layers of 1024, bigG 32 of 1280. */
static void plan_open_clip(plan *p, const char *prefix, int layers, int64_t c) {
    const int64_t words[2] = { 49408, c }, places[2] = { 77, c }, square[2] = { c, c }, joined[2] = { 3 * c, c };
    char name[64];
    p->prefix = prefix;
    add(p, SYNTHETIC_WEIGHT, 2, words, "token_embedding", ".weight");
    add(p, SYNTHETIC_WEIGHT, 2, places, "positional_embedding", "");
    for (int n = 0; n < layers; n++) {
        snprintf(name, sizeof name, "transformer.resblocks.%d", n);
        norm(p, c, "%s.ln_1", name);
        add(p, SYNTHETIC_WEIGHT, 2, joined, name, ".attn.in_proj_weight");
        add(p, SYNTHETIC_ZERO, 1, joined, name, ".attn.in_proj_bias");
        linear(p, 77, c, c, 2, 1, "%s.attn.out_proj", name);
        norm(p, c, "%s.ln_2", name);
        linear(p, 77, 4 * c, c, 2, 1, "%s.mlp.c_fc", name);
        linear(p, 77, c, 4 * c, 2, 1, "%s.mlp.c_proj", name);
    }
    norm(p, c, "ln_final");
    add(p, SYNTHETIC_WEIGHT, 2, square, "text_projection", "");
    add(p, SYNTHETIC_ZERO, 0, NULL, "logit_scale", "");
}

static void plan_text(plan *p, synthetic_family family) {
    if (family == SYNTHETIC_SD15) plan_clip_l(p, "cond_stage_model.transformer.text_model");
    if (family == SYNTHETIC_SD21) plan_open_clip(p, "cond_stage_model.model", 24, 1024);
    if (family != SYNTHETIC_SDXL) return;
    plan_clip_l(p, "conditioner.embedders.0.transformer.text_model");
    plan_open_clip(p, "conditioner.embedders.1.model", 32, 1280);
}

/* --- whole files ------------------------------------------------------------------------------------------------------- */

static synthetic_counts plan_all(plan *p, synthetic_family family, int h, int w, int tokens) {
    synthetic_counts counts = { 0 };
    p->entries = malloc(SYNTHETIC_MAX_ENTRIES * sizeof *p->entries);
    if (!p->entries) {
        fprintf(stderr, "bench: out of memory\n");
        abort();
    }
    p->layout = &layouts[family];
    p->places = (int64_t)h * w;
    p->tokens = tokens;
    plan_unet(p);
    counts.unet_parameters = p->parameters;
    counts.unet_flop = p->flop;
    p->prefix = "first_stage_model";
    p->flop = 0;
    plan_decoder(p);
    counts.decode_flop = p->flop;
    plan_encoder(p);
    plan_text(p, family);
    return counts;
}

synthetic_counts synthetic_count(synthetic_family family, int h, int w, int tokens) {
    plan p = { 0 };
    synthetic_counts counts = plan_all(&p, family, h, w, tokens);
    free(p.entries);
    return counts;
}

/* The reference tells SD2's v-prediction by how widely this bias is spread. */
static void mark_v(plan *p) {
    static const char name[] = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->entries[i].name, name)) p->entries[i].kind = SYNTHETIC_SPREAD;
}

synthetic_entry *synthetic_entries(synthetic_family family, int *count) {
    plan p = { 0 };
    plan_all(&p, family, 64, 64, 77);
    if (family == SYNTHETIC_SD21) mark_v(&p);
    *count = p.count;
    return p.entries;
}

/* --- adapters ------------------------------------------------------------------------------------------------------------ */

/* What kohya's trainer changes by default: every linear layer of the transformers, their projections too. */
static int is_adapted(const synthetic_entry *e) {
    static const char *const parts[] = { ".proj_in.", ".proj_out.", ".attn1.", ".attn2.", ".ff." };
    size_t end = strlen(e->name);
    if (e->rank < 2 || strncmp(e->name, "model.diffusion_model.", 22) != 0 || strcmp(e->name + end - 7, ".weight") != 0)
        return 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(e->name, parts[i])) return 1;
    return 0;
}

synthetic_entry *synthetic_lora_entries(int rank, int *count) {
    plan p = { 0 }, lora = { .prefix = "lora_unet" };
    plan_all(&p, SYNTHETIC_SD15, 64, 64, 77);
    lora.entries = malloc(SYNTHETIC_MAX_ENTRIES * sizeof *lora.entries);
    if (!lora.entries) abort();
    for (int i = 0; i < p.count; i++) {
        const synthetic_entry *e = &p.entries[i];
        char name[120];
        if (!is_adapted(e)) continue;
        const int64_t down[4] = { rank, e->shape[1], 1, 1 }, up[4] = { e->shape[0], rank, 1, 1 };
        snprintf(name, sizeof name, "%.*s", (int)strlen(e->name) - 22 - 7, e->name + 22);
        for (char *at = name; *at; at++)
            if (*at == '.') *at = '_';
        add(&lora, SYNTHETIC_WEIGHT, e->rank, down, name, ".lora_down.weight");
        add(&lora, SYNTHETIC_WEIGHT, e->rank, up, name, ".lora_up.weight");
        add(&lora, SYNTHETIC_GAMMA, 0, NULL, name, ".alpha");
        lora.entries[lora.count - 3].name[9] = lora.entries[lora.count - 2].name[9] =
            lora.entries[lora.count - 1].name[9] = '_'; /* lora_unet_... */
    }
    free(p.entries);
    *count = lora.count;
    return lora.entries;
}

/* --- autoencoders alone ------------------------------------------------------------------------------------------------- */

/* A convolution without a bias, or with one. */
static void tiny_conv(plan *p, int64_t out, int64_t in, int bias, const char *format, ...) {
    NAMED(name);
    conv(p, out, in, "%s", name);
    if (!bias) p->parameters -= p->entries[--p->count].shape[0];
}

/* 64 wide; blocks of three convolutions; doublings at three places. Sequences as the original files number them. */
static void plan_taesd(plan *p, int is_decoder) {
    enum { WIDE = 64, LEVELS = 4, LATENT = 4, COLOURS = 3 };
    const char *half = is_decoder ? "taesd_decoder" : "taesd_encoder";
    int place = is_decoder ? 1 : 0;
    tiny_conv(p, WIDE, is_decoder ? LATENT : COLOURS, 1, "%s.%d", half, place);
    place += is_decoder ? 2 : 1;
    for (int level = 0; level < LEVELS; level++) {
        const int blocks = level == (is_decoder ? LEVELS - 1 : 0) ? 1 : 3;
        if (level && is_decoder) p->places *= 4;
        if (level && is_decoder) place++; /* the doubling has no weights */
        if (level && !is_decoder) p->places /= 4;
        if (level) tiny_conv(p, WIDE, WIDE, 0, "%s.%d", half, place++);
        for (int b = 0; b < blocks; b++, place++)
            for (int k = 0; k < 3; k++) tiny_conv(p, WIDE, WIDE, 1, "%s.%d.conv.%d", half, place, 2 * k);
    }
    tiny_conv(p, is_decoder ? COLOURS : LATENT, WIDE, 1, "%s.%d", half, place);
}

static void plan_vaes(plan *p, double flop[2], int h, int w) {
    const int64_t one = 1;
    p->entries = malloc(SYNTHETIC_MAX_ENTRIES * sizeof *p->entries);
    if (!p->entries) abort();
    p->places = (int64_t)h * w;
    p->prefix = "full";
    plan_decoder(p);
    flop[0] = p->flop;
    plan_encoder(p);
    p->flop = 0;
    p->places = (int64_t)h * w;
    p->prefix = "tiny";
    plan_taesd(p, 1);
    flop[1] = p->flop;
    plan_taesd(p, 0);
    add(p, SYNTHETIC_GAMMA, 1, &one, "vae_scale", "");
}

synthetic_entry *synthetic_vae_entries(int *count) {
    plan p = { 0 };
    double flop[2];
    plan_vaes(&p, flop, 64, 64);
    *count = p.count;
    return p.entries;
}

void synthetic_vae_flop(double flop[2], int h, int w) {
    plan p = { 0 };
    plan_vaes(&p, flop, h, w);
    free(p.entries);
}
