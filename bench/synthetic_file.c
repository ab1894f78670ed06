/* bench/synthetic_file.c - synthetic checkpoints and adapters as files: random float16 values of standard deviation
 * 1 / sqrt(inputs), norms 1 and 0, so that activations stay of order one. Written tensor by tensor. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "synthetic_priv.h"

#define BLOCK 65521 /* prime: repeats never line up with rows */

enum { PATH_SIZE = 4096, LORA_RANKS = 2, LORAS = 2 };

static const struct file_row {
    const char *name, *size;
} files[] = {
    [SYNTHETIC_SD15] = { "tessera-bench-sd15-text.safetensors", "2.2 GB" },
    [SYNTHETIC_SD21] = { "tessera-bench-sd21.safetensors", "2.6 GB" },
    [SYNTHETIC_SDXL] = { "tessera-bench-sdxl.safetensors", "7 GB" },
};
enum { FAMILIES = sizeof files / sizeof *files };

/* IEEE half of a finite value of magnitude below 65504; towards zero, which is near enough here. */
static uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, mantissa = (bits & 0x7fffff) | 0x800000;
    int exponent = (int)(bits >> 23 & 0xff) - 112;
    if (exponent >= 1) return (uint16_t)(sign | (uint32_t)exponent << 10 | (mantissa >> 13 & 0x3ff));
    return exponent < -10 ? (uint16_t)sign : (uint16_t)(sign | mantissa >> (14 - exponent));
}

static int64_t entry_count(const synthetic_entry *e) {
    int64_t count = 1;
    for (int i = 0; i < e->rank; i++) count *= e->shape[i];
    return count;
}

static void write_header(FILE *file, const synthetic_entry *entries, int entry_total) {
    int64_t offset = 0;
    char *text_out = NULL;
    size_t size = 0;
    FILE *header = open_memstream(&text_out, &size);
    for (int i = 0; i < entry_total; i++) {
        const synthetic_entry *e = &entries[i];
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

static float value_of(synthetic_values kind, float random, float scale) {
    switch (kind) {
    case SYNTHETIC_WEIGHT: return random * scale;
    case SYNTHETIC_GAMMA: return 1.0f;
    case SYNTHETIC_SPREAD: return random * 0.3f;
    case SYNTHETIC_ZERO: break;
    }
    return 0.0f;
}

static void write_entry(FILE *file, const synthetic_entry *e, const float *random, uint16_t *block) {
    int64_t count = entry_count(e), fan_in = e->rank ? count / e->shape[0] : 1;
    float scale = sqrtf(3.0f / (float)fan_in); /* uniform in -scale..scale */
    for (int64_t i = 0; i < BLOCK; i++) block[i] = half_of(value_of(e->kind, random[i], scale));
    for (int64_t done = 0; done < count; done += BLOCK)
        fwrite(block, sizeof *block, (size_t)(count - done < BLOCK ? count - done : BLOCK), file);
}

static int write_file(const char *path, const synthetic_entry *entries, int count, uint64_t state) {
    float *random = malloc(BLOCK * sizeof *random);
    uint16_t *block = malloc(BLOCK * sizeof *block);
    FILE *file = fopen(path, "wb");
    if (file && random && block) {
        for (int i = 0; i < BLOCK; i++) { /* xorshift64 */
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            random[i] = (float)((double)(state >> 11) * 0x1p-52 - 1.0);
        }
        write_header(file, entries, count);
        for (int i = 0; i < count; i++) write_entry(file, &entries[i], random, block);
    }
    int good = file && random && block && !ferror(file);
    if (file && fclose(file)) good = 0;
    free(random);
    free(block);
    return good;
}

static void file_path(char path[PATH_SIZE], const char *name) {
    const char *folder = getenv("TMPDIR");
    snprintf(path, PATH_SIZE, "%s/%s", folder && *folder ? folder : "/tmp", name);
}

/* Whole or not at all. */
static int make_file(const char *path, const synthetic_entry *entries, int count, uint64_t seed, const char *size) {
    char part[PATH_SIZE + 8];
    snprintf(part, sizeof part, "%s.part", path);
    fprintf(stderr, "bench: writing %s\n", path);
    if (write_file(part, entries, count, seed) && rename(part, path) == 0) return 1;
    fprintf(stderr, "bench: %s cannot be written (%s are needed)\n", path, size);
    unlink(part);
    return 0;
}

const char *synthetic_checkpoint(synthetic_family family) {
    static char paths[FAMILIES][PATH_SIZE];
    char *path = paths[family];
    int count = 0;
    file_path(path, files[family].name);
    if (access(path, R_OK) == 0) return path;
    synthetic_entry *entries = synthetic_entries(family, &count);
    int good = make_file(path, entries, count, 88172645463325252u, files[family].size);
    free(entries);
    return good ? path : NULL;
}

static const int lora_ranks[LORA_RANKS] = { 16, 64 };

static void lora_name(char *out, size_t size, int rank, int which) {
    snprintf(out, size, "tessera-bench-lora-r%d-%d.safetensors", rank, which);
}

const char *synthetic_lora(int rank, int which) {
    static char path[PATH_SIZE];
    char name[64];
    int count = 0;
    lora_name(name, sizeof name, rank, which);
    file_path(path, name);
    if (access(path, R_OK) == 0) return path;
    synthetic_entry *entries = synthetic_lora_entries(rank, &count);
    int good = make_file(path, entries, count, 362436069362436069u + (uint64_t)which, "100 MB");
    free(entries);
    return good ? path : NULL;
}

static const char vaes_name[] = "tessera-bench-vaes.safetensors";

const char *synthetic_vaes(void) {
    static char path[PATH_SIZE];
    int count = 0;
    file_path(path, vaes_name);
    if (access(path, R_OK) == 0) return path;
    synthetic_entry *entries = synthetic_vae_entries(&count);
    int good = make_file(path, entries, count, 521288629u, "180 MB");
    free(entries);
    return good ? path : NULL;
}

void synthetic_clean(void) {
    char path[PATH_SIZE], name[64];
    for (int i = 0; i < FAMILIES; i++) {
        file_path(path, files[i].name);
        unlink(path);
    }
    file_path(path, vaes_name);
    unlink(path);
    for (int i = 0; i < LORA_RANKS * LORAS; i++) {
        lora_name(name, sizeof name, lora_ranks[i / LORAS], i % LORAS);
        file_path(path, name);
        unlink(path);
    }
}
