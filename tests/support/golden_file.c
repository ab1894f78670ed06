#include "golden_file.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct golden_file {
    unsigned char *bytes;
    json_t *header;
    size_t n, data_start;
    const char **names;
    float **floats;
};

static void die(const char *what, const char *name) {
    fprintf(stderr, "golden data: %s: %s\n", name, what);
    abort();
}

static unsigned char *slurp(const char *path, size_t *size) {
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", TSR_GOLDEN_DIR, path);
    FILE *f = fopen(full, "rb");
    if (!f) die("cannot be opened", full);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*size + 1);
    if (!data || fread(data, 1, *size, f) != *size) die("cannot be read", full);
    data[*size] = 0;
    fclose(f);
    return data;
}

golden_file *golden_open(const char *path) {
    size_t size, i = 0;
    uint64_t head;
    golden_file *g = calloc(1, sizeof *g);
    if (!g) die("no memory", path);
    g->bytes = slurp(path, &size);
    memcpy(&head, g->bytes, 8);
    g->data_start = 8 + (size_t)head;
    g->header = json_loadb((char *)g->bytes + 8, (size_t)head, 0, NULL);
    if (!g->header) die("bad header", path);
    g->n = json_object_size(g->header);
    g->names = calloc(g->n, sizeof *g->names);
    g->floats = calloc(g->n, sizeof *g->floats);
    const char *key;
    json_t *value;
    json_object_foreach(g->header, key, value) if (strcmp(key, "__metadata__") != 0) g->names[i++] = key;
    g->n = i;
    return g;
}

void golden_close(golden_file *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n; i++) free(g->floats[i]);
    free(g->floats);
    free(g->names);
    json_decref(g->header);
    free(g->bytes);
    free(g);
}

static golden_tensor convert(golden_file *g, size_t i) {
    golden_tensor t = { 0 };
    json_t *info = json_object_get(g->header, g->names[i]);
    json_t *shape = json_object_get(info, "shape");
    const char *dtype = json_string_value(json_object_get(info, "dtype"));
    size_t start = (size_t)json_integer_value(json_array_get(json_object_get(info, "data_offsets"), 0));
    const unsigned char *raw = g->bytes + g->data_start + start;
    t.rank = (int)json_array_size(shape);
    t.count = 1;
    for (int d = 0; d < t.rank; d++) {
        t.shape[d] = (size_t)json_integer_value(json_array_get(shape, (size_t)d));
        t.count *= t.shape[d];
    }
    if (!g->floats[i]) {
        g->floats[i] = malloc((t.count + 1) * sizeof(float));
        for (size_t k = 0; k < t.count; k++) {
            int64_t wide;
            if (!strcmp(dtype, "F32")) memcpy(&g->floats[i][k], raw + 4 * k, 4);
            else if (!strcmp(dtype, "I64")) memcpy(&wide, raw + 8 * k, 8), g->floats[i][k] = (float)wide;
            else if (!strcmp(dtype, "BOOL") || !strcmp(dtype, "U8")) g->floats[i][k] = raw[k];
            else if (!strcmp(dtype, "F64")) {
                double v;
                memcpy(&v, raw + 8 * k, 8);
                g->floats[i][k] = (float)v;
            } else die("unknown dtype", g->names[i]);
        }
    }
    t.data = g->floats[i];
    return t;
}

static long find(golden_file *g, const char *name) {
    for (size_t i = 0; i < g->n; i++)
        if (!strcmp(g->names[i], name)) return (long)i;
    return -1;
}

golden_tensor golden_get(golden_file *g, const char *format, ...) {
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    long i = find(g, name);
    if (i < 0) die("no such tensor", name);
    return convert(g, (size_t)i);
}

int golden_has(golden_file *g, const char *format, ...) {
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return find(g, name) >= 0;
}

size_t golden_count(const golden_file *g) {
    return g->n;
}

const char *golden_name(const golden_file *g, size_t i) {
    return g->names[i];
}

json_t *golden_json(const char *path) {
    size_t size;
    char *text = (char *)slurp(path, &size);
    json_t *root = json_loadb(text, size, JSON_DISABLE_EOF_CHECK, NULL);
    free(text);
    if (!root) die("bad JSON", path);
    return root;
}

double max_abs_diff(const float *a, const float *b, size_t count) {
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
    }
    return worst;
}

double rms_diff(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return isnan(sum) ? INFINITY : sqrt(sum / (double)(count ? count : 1));
}

double max_abs(const float *a, size_t count) {
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        if (fabs((double)a[i]) > worst) worst = fabs((double)a[i]);
    return worst;
}

double cosine(const float *a, const float *b, size_t count) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < count; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}
