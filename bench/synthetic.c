/* bench/synthetic.c - SD1.5's shapes by its construction rules; random float16 values of standard deviation
 * 1 / sqrt(inputs), norms 1 and 0, so that activations stay of order one. */
#include "synthetic.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ENTRIES 2048
#define BLOCK       65521 /* prime: repeats never line up with rows */
#define FILE_NAME   "tessera-bench-sd15-text.safetensors"

typedef enum values { KIND_WEIGHT, KIND_GAMMA, KIND_ZERO } values;

typedef struct entry {
    char name[120];
    int rank;
    int64_t shape[4];
    values kind;
} entry;

/* Walks the networks in the order they run; places is the area at hand. */
typedef struct plan {
    entry *entries;
    int count;
    int64_t parameters, places, tokens;
    double flop;
    const char *prefix;
} plan;

static void add(plan *p, values kind, int rank, const int64_t *shape, const char *name, const char *end) {
    if (p->count == MAX_ENTRIES) {
        fprintf(stderr, "bench: more than %d tensors\n", MAX_ENTRIES);
        abort();
    }
    entry *e = &p->entries[p->count++];
    snprintf(e->name, sizeof e->name, "%s.%s.%s", p->prefix, name, end);
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
    add(p, KIND_GAMMA, 1, &c, name, "weight");
    add(p, KIND_ZERO, 1, &c, name, "bias");
}

/* rows: how many places it is applied to */
static void linear(plan *p, int64_t rows, int64_t out, int64_t in, int rank, int bias, const char *format, ...) {
    NAMED(name);
    const int64_t shape[4] = { out, in, 1, 1 };
    add(p, KIND_WEIGHT, rank, shape, name, "weight");
    if (bias) add(p, KIND_ZERO, 1, shape, name, "bias");
    p->flop += 2.0 * (double)rows * (double)out * (double)in;
}

static void conv(plan *p, int64_t out, int64_t in, const char *format, ...) {
    NAMED(name);
    const int64_t shape[4] = { out, in, 3, 3 };
    add(p, KIND_WEIGHT, 4, shape, name, "weight");
    add(p, KIND_ZERO, 1, shape, name, "bias");
    p->flop += 2.0 * (double)p->places * (double)out * (double)in * 9;
}

/* Both products of an attention. */
static void attend(plan *p, int64_t queries, int64_t keys, int64_t c) {
    p->flop += 4.0 * (double)queries * (double)keys * (double)c;
}

/* --- UNet: 320 channels times 1, 2, 4, 4; two blocks a level; transformers in the first three; text of 768 ---------- */

static void unet_res(plan *p, int64_t in, int64_t out, const char *name) {
    norm(p, in, "%s.in_layers.0", name);
    conv(p, out, in, "%s.in_layers.2", name);
    linear(p, 1, out, 1280, 2, 1, "%s.emb_layers.1", name);
    norm(p, out, "%s.out_layers.0", name);
    conv(p, out, out, "%s.out_layers.3", name);
    if (in != out) linear(p, p->places, out, in, 4, 1, "%s.skip_connection", name);
}

static void unet_transformer(plan *p, int64_t c, const char *name) {
    char inner[80];
    snprintf(inner, sizeof inner, "%s.transformer_blocks.0", name);
    norm(p, c, "%s.norm", name);
    linear(p, p->places, c, c, 4, 1, "%s.proj_in", name);
    for (int a = 1; a <= 2; a++) {
        int64_t width = a == 1 ? c : 768, rows = a == 1 ? p->places : p->tokens;
        linear(p, p->places, c, c, 2, 0, "%s.attn%d.to_q", inner, a);
        linear(p, rows, c, width, 2, 0, "%s.attn%d.to_k", inner, a);
        linear(p, rows, c, width, 2, 0, "%s.attn%d.to_v", inner, a);
        linear(p, p->places, c, c, 2, 1, "%s.attn%d.to_out.0", inner, a);
        attend(p, p->places, rows, c);
    }
    linear(p, p->places, 8 * c, c, 2, 1, "%s.ff.net.0.proj", inner);
    linear(p, p->places, c, 4 * c, 2, 1, "%s.ff.net.2", inner);
    for (int i = 1; i <= 3; i++) norm(p, c, "%s.norm%d", inner, i);
    linear(p, p->places, c, c, 4, 1, "%s.proj_out", name);
}

static void plan_unet(plan *p) {
    static const int64_t widths[4] = { 320, 640, 1280, 1280 };
    int64_t skips[12], c = 320;
    int depth = 0, n = 1;
    char name[64];
    p->prefix = "model.diffusion_model";
    linear(p, 1, 1280, 320, 2, 1, "time_embed.0");
    linear(p, 1, 1280, 1280, 2, 1, "time_embed.2");
    conv(p, 320, 4, "input_blocks.0.0");
    skips[depth++] = c;
    for (int l = 0; l < 4; l++) {
        for (int b = 0; b < 2; b++, n++) {
            snprintf(name, sizeof name, "input_blocks.%d.0", n);
            unet_res(p, c, widths[l], name);
            c = widths[l];
            snprintf(name, sizeof name, "input_blocks.%d.1", n);
            if (l < 3) unet_transformer(p, c, name);
            skips[depth++] = c;
        }
        if (l == 3) break;
        p->places /= 4;
        conv(p, c, c, "input_blocks.%d.0.op", n++);
        skips[depth++] = c;
    }
    unet_res(p, c, c, "middle_block.0");
    unet_transformer(p, c, "middle_block.1");
    unet_res(p, c, c, "middle_block.2");
    for (int l = 3, b = 0; l >= 0; l--)
        for (int i = 0; i < 3; i++, b++) {
            snprintf(name, sizeof name, "output_blocks.%d.0", b);
            unet_res(p, c + skips[--depth], widths[l], name);
            c = widths[l];
            snprintf(name, sizeof name, "output_blocks.%d.1", b);
            if (l < 3) unet_transformer(p, c, name);
            if (l && i == 2) {
                p->places *= 4;
                conv(p, c, c, "output_blocks.%d.%d.conv", b, l < 3 ? 2 : 1);
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

/* --- text encoder: 12 layers of 768 channels, 77 places ----------------------------------------------------------------- */

static void text_layer(plan *p, int index) {
    static const char *const parts[4] = { "q_proj", "k_proj", "v_proj", "out_proj" };
    char name[64];
    snprintf(name, sizeof name, "encoder.layers.%d", index);
    norm(p, 768, "%s.layer_norm1", name);
    for (int i = 0; i < 4; i++) linear(p, 77, 768, 768, 2, 1, "%s.self_attn.%s", name, parts[i]);
    norm(p, 768, "%s.layer_norm2", name);
    linear(p, 77, 3072, 768, 2, 1, "%s.mlp.fc1", name);
    linear(p, 77, 768, 3072, 2, 1, "%s.mlp.fc2", name);
}

static void plan_text(plan *p) {
    const int64_t words[2] = { 49408, 768 }, places[2] = { 77, 768 };
    p->prefix = "cond_stage_model.transformer.text_model";
    add(p, KIND_WEIGHT, 2, words, "embeddings.token_embedding", "weight");
    add(p, KIND_WEIGHT, 2, places, "embeddings.position_embedding", "weight");
    for (int i = 0; i < 12; i++) text_layer(p, i);
    norm(p, 768, "final_layer_norm");
}

static synthetic_counts plan_all(plan *p, int h, int w, int tokens) {
    synthetic_counts counts = { 0 };
    p->entries = malloc(MAX_ENTRIES * sizeof *p->entries);
    if (!p->entries) {
        fprintf(stderr, "bench: out of memory\n");
        abort();
    }
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
    plan_text(p);
    return counts;
}

synthetic_counts synthetic_count(int h, int w, int tokens) {
    plan p = { 0 };
    synthetic_counts counts = plan_all(&p, h, w, tokens);
    free(p.entries);
    return counts;
}

/* --- the file -------------------------------------------------------------------------------------------------------- */

/* IEEE half of a finite value of magnitude below 65504; towards zero, which is near enough here. */
static uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, mantissa = (bits & 0x7fffff) | 0x800000;
    int exponent = (int)(bits >> 23 & 0xff) - 112;
    if (exponent >= 1) return (uint16_t)(sign | (uint32_t)exponent << 10 | (mantissa >> 13 & 0x3ff));
    return exponent < -10 ? (uint16_t)sign : (uint16_t)(sign | mantissa >> (14 - exponent));
}

static int64_t entry_count(const entry *e) {
    int64_t count = 1;
    for (int i = 0; i < e->rank; i++) count *= e->shape[i];
    return count;
}

static void write_header(FILE *file, const plan *p) {
    int64_t offset = 0;
    char *text_out = NULL;
    size_t size = 0;
    FILE *header = open_memstream(&text_out, &size);
    for (int i = 0; i < p->count; i++) {
        const entry *e = &p->entries[i];
        int64_t end = offset + 2 * entry_count(e);
        fprintf(header, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", i ? "," : "{", e->name);
        for (int d = 0; d < e->rank; d++) fprintf(header, "%s%lld", d ? "," : "", (long long)e->shape[d]);
        fprintf(header, "],\"data_offsets\":[%lld,%lld]}", (long long)offset, (long long)end);
        offset = end;
    }
    fputc('}', header);
    fclose(header);
    uint64_t length = size;
    fwrite(&length, sizeof length, 1, file);
    fwrite(text_out, 1, size, file);
    free(text_out);
}

static void write_entry(FILE *file, const entry *e, const float *random, uint16_t *block) {
    int64_t count = entry_count(e), fan_in = count / e->shape[0];
    float scale = sqrtf(3.0f / (float)fan_in); /* uniform in -scale..scale */
    for (int64_t i = 0; i < BLOCK; i++)
        block[i] = half_of(e->kind == KIND_WEIGHT ? random[i] * scale : e->kind == KIND_GAMMA ? 1.0f : 0.0f);
    for (int64_t done = 0; done < count; done += BLOCK)
        fwrite(block, sizeof *block, (size_t)(count - done < BLOCK ? count - done : BLOCK), file);
}

static int write_file(const char *path) {
    plan p = { 0 };
    float *random = malloc(BLOCK * sizeof *random);
    uint16_t *block = malloc(BLOCK * sizeof *block);
    FILE *file = fopen(path, "wb");
    uint64_t state = 88172645463325252u; /* xorshift64 */
    plan_all(&p, 64, 64, 77);
    if (file && random && block) {
        for (int i = 0; i < BLOCK; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            random[i] = (float)((double)(state >> 11) * 0x1p-52 - 1.0);
        }
        write_header(file, &p);
        for (int i = 0; i < p.count; i++) write_entry(file, &p.entries[i], random, block);
    }
    int good = file && random && block && !ferror(file);
    if (file && fclose(file)) good = 0;
    free(p.entries);
    free(random);
    free(block);
    return good;
}

static const char *file_path(void) {
    static char path[4096];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/%s", folder && *folder ? folder : "/tmp", FILE_NAME);
    return path;
}

const char *synthetic_checkpoint(void) {
    const char *path = file_path();
    char part[4200];
    if (access(path, R_OK) == 0) return path;
    snprintf(part, sizeof part, "%s.part", path);
    fprintf(stderr, "bench: writing %s\n", path);
    if (write_file(part) && rename(part, path) == 0) return path;
    fprintf(stderr, "bench: %s cannot be written (2.2 GB are needed)\n", path);
    unlink(part);
    return NULL;
}

void synthetic_clean(void) {
    unlink(file_path());
}
