/* bench/bench_main.c - tessera-bench: the table of benchmarks, the options, the report. Knows nothing of what is
 * measured.
 *
 * usage: tessera-bench NAME... [--json] [--precision f32|bf16] [--threads N] [--repeat N] [--profile]
 *                      [--modes LIST] [--counts 1,2,4,8] [--steps N]   of the regions benchmarks; LIST holds
 *                      full, full-base, crop, crop-base, couple, couple-base, restart
 *                      [--cpu-time]   count processor time instead of the clock: with --threads 1, a measure that
 *                                     a busy machine hardly disturbs */
#include "bench.h"
#include "nn/onednn/onednn_compat.h"
#include <jansson.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One row per benchmark. */
static const struct {
    const char *name, *summary;
    tsr_status (*run)(const bench_options *options, bench_report *report, tsr_error *err);
} benchmarks[] = {
    { "kernels", "layers of Stable Diffusion 1.5, one by one, against oneDNN's matmul", bench_kernels },
    { "unet", "Stable Diffusion 1.5's UNet whole, batch 2, on synthetic weights", bench_unet },
    { "vae", "Stable Diffusion 1.5's decoder whole, 512 x 512, on synthetic weights", bench_vae },
    { "taesd", "TAESD's decoder against the VAE's, to 512 x 512 and 1024 x 1024, on synthetic weights", bench_taesd },
    { "regions", "1, 2, 4 and 8 regions in each mode against a plain run, Stable Diffusion 1.5's size", bench_regions },
    { "regions-demo", "the same with the shipped model at 128 x 128, and history restart", bench_regions_demo },
    { "lora", "two regions with a LoRA each against the same without, Stable Diffusion 1.5's size", bench_lora },
    { "sizes", "SD1.5, SD2.1 and SDXL whole: files to the first step, its memory, and the UNet's rate", bench_sizes },
    { "open", "SD1.5 whole, from its file and from its packed cache: time until it is there, and the first step",
      bench_open },
    { "clean", "removes the synthetic files that the others keep in $TMPDIR", bench_clean },
};
enum { BENCHMARK_COUNT = sizeof benchmarks / sizeof benchmarks[0] };

struct bench_report {
    json_t *lines;  /* NULL: print a table */
    double peak[2]; /* GFLOP/s by precision, 0: not measured */
};

static clockid_t bench_clock = CLOCK_MONOTONIC; /* set once, by main */

double bench_now(void) {
    struct timespec t;
    clock_gettime(bench_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_line(bench_report *report, const char *name, const char *shape, double seconds, double work,
                double peak_gflops) {
    double rate = seconds > 0 ? work / seconds * 1e-9 : 0;
    if (report->lines) {
        json_t *line = json_pack("{s:s, s:s, s:f}", "name", name, "shape", shape, "seconds", seconds);
        if (work > 0) json_object_set_new(line, "gflops", json_real(rate));
        if (work > 0 && peak_gflops > 0) json_object_set_new(line, "of_peak", json_real(rate / peak_gflops));
        json_array_append_new(report->lines, line);
        return;
    }
    printf("%-12s %-44s %10.3f ms", name, shape, seconds * 1e3);
    if (work > 0) printf(" %8.1f GFLOP/s", rate);
    if (work > 0 && peak_gflops > 0) printf(" %5.1f %%", 100 * rate / peak_gflops);
    printf("\n");
    fflush(stdout);
}

void bench_ratio(bench_report *report, const char *name, const char *shape, double seconds, double ratio,
                 int64_t evaluations, double goal) {
    if (report->lines) {
        json_t *line = json_pack("{s:s, s:s, s:f, s:f, s:I}", "name", name, "shape", shape, "seconds", seconds, "ratio",
                                 ratio, "evaluations", (json_int_t)evaluations);
        if (goal > 0) json_object_set_new(line, "goal", json_real(goal));
        json_array_append_new(report->lines, line);
        return;
    }
    printf("%-12s %-28s %8.2f s %6.2fx %5lld evaluations", name, shape, seconds, ratio, (long long)evaluations);
    if (goal > 0) printf("   goal %.2fx: %s", goal, ratio <= goal ? "met" : "MISSED");
    printf("\n");
    fflush(stdout);
}

void bench_value(bench_report *report, const char *name, double value, const char *unit) {
    if (report->lines)
        json_array_append_new(report->lines, json_pack("{s:s, s:f, s:s}", "name", name, "value", value, "unit", unit));
    else printf("%-57s %10.1f %s\n", name, value, unit);
}

void bench_profile(bench_report *report, tsr__nn *nn, int limit, double peak_gflops) {
    int count = 0;
    const tsr__nn_profile_row *rows = tsr__nn_profile_rows(nn, &count);
    for (int i = 0; i < count && i < limit; i++) {
        char shape[96];
        snprintf(shape, sizeof shape, "%ld x %s", rows[i].calls, rows[i].shape);
        bench_line(report, rows[i].kind, shape, rows[i].seconds, rows[i].work, peak_gflops);
    }
}

/* --- the peak ----------------------------------------------------------------------------------------------------- */
enum { CUBE = 4096 };

typedef struct matmul {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    tsr__md plain, any;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_memory_t src, weights, dst;
} matmul;

static dnnl_status_t open_matmul(matmul *m, dnnl_data_type_t type) {
    dnnl_dim_t dims[] = { CUBE, CUBE };
    dnnl_status_t code = dnnl_engine_create(&m->engine, dnnl_cpu, 0);
    if (code == dnnl_success) code = dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags);
    if (code == dnnl_success) code = tsr__md_tag(&m->plain, 2, dims, type, dnnl_ab);
    if (code == dnnl_success) code = tsr__md_tag(&m->any, 2, dims, type, dnnl_format_tag_any);
    if (code == dnnl_success) code = tsr__dnn_matmul(&m->pd, m->engine, m->plain, m->any, NULL, m->plain, NULL);
    if (code == dnnl_success) code = dnnl_primitive_create(&m->primitive, m->pd);
    tsr__const_md packed = m->pd ? dnnl_primitive_desc_query_md(m->pd, dnnl_query_weights_md, 0) : NULL;
    if (code == dnnl_success) code = dnnl_memory_create(&m->src, m->plain, m->engine, DNNL_MEMORY_ALLOCATE);
    if (code == dnnl_success) code = dnnl_memory_create(&m->weights, packed, m->engine, DNNL_MEMORY_ALLOCATE);
    if (code == dnnl_success) code = dnnl_memory_create(&m->dst, m->plain, m->engine, DNNL_MEMORY_ALLOCATE);
    return code;
}

static void close_matmul(matmul *m) {
    if (m->dst) (void)dnnl_memory_destroy(m->dst);
    if (m->weights) (void)dnnl_memory_destroy(m->weights);
    if (m->src) (void)dnnl_memory_destroy(m->src);
    if (m->primitive) (void)dnnl_primitive_destroy(m->primitive);
    if (m->pd) (void)dnnl_primitive_desc_destroy(m->pd);
    tsr__md_free(m->any);
    tsr__md_free(m->plain);
    if (m->stream) (void)dnnl_stream_destroy(m->stream);
    if (m->engine) (void)dnnl_engine_destroy(m->engine);
}

/* 1/4 in every element: zeros could be cheaper than honest numbers on some machines. */
static dnnl_status_t fill(dnnl_memory_t memory, dnnl_data_type_t type) {
    void *data = NULL;
    dnnl_status_t code = dnnl_memory_get_data_handle(memory, &data);
    if (code != dnnl_success) return code;
    for (size_t i = 0; i < (size_t)CUBE * CUBE; i++)
        if (type == dnnl_bf16) ((uint16_t *)data)[i] = 0x3e80;
        else ((float *)data)[i] = 0.25f;
    return code;
}

static dnnl_status_t time_matmul(matmul *m, int repeat, double *best) {
    dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, m->src }, { DNNL_ARG_WEIGHTS, m->weights }, { DNNL_ARG_DST, m->dst } };
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i <= repeat && code == dnnl_success; i++) {
        double start = bench_now();
        code = dnnl_primitive_execute(m->primitive, m->stream, 3, args);
        if (code == dnnl_success) code = dnnl_stream_wait(m->stream);
        double seconds = bench_now() - start;
        if (i == 1 || (i > 1 && seconds < *best)) *best = seconds; /* the first run only warms up */
    }
    return code;
}

tsr_status bench_matmul_peak(bench_report *report, const bench_options *options, double *gflops, tsr_error *err) {
    double *known = &report->peak[options->precision];
    dnnl_data_type_t type = options->precision == TSR__BF16 ? dnnl_bf16 : dnnl_f32;
    if (*known <= 0) {
        matmul m;
        double seconds = 0;
        memset(&m, 0, sizeof m);
        dnnl_status_t code = open_matmul(&m, type);
        if (code == dnnl_success) code = fill(m.src, type);
        if (code == dnnl_success) code = fill(m.weights, type);
        if (code == dnnl_success) code = time_matmul(&m, options->repeat < 3 ? 3 : options->repeat, &seconds);
        close_matmul(&m);
        if (code != dnnl_success) {
            if (err && err->status == TSR_OK) {
                err->status = TSR_BACKEND;
                snprintf(err->message, sizeof err->message, "oneDNN status %d in the matmul of %d", (int)code, CUBE);
            }
            return TSR_BACKEND;
        }
        *known = 2.0 * CUBE * CUBE * CUBE / seconds * 1e-9;
        bench_line(report, "matmul",
                   options->precision == TSR__BF16 ? "oneDNN, 4096 cubed, bf16" : "oneDNN, 4096 cubed, f32", seconds,
                   2.0 * CUBE * CUBE * CUBE, 0);
    }
    *gflops = *known;
    return TSR_OK;
}

/* --- the machine, the options ------------------------------------------------------------------------------------- */
static void cpu_name(char *out, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown CPU");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, size, "%.200s", colon + 2);
        break;
    }
    if (file) fclose(file);
}

static const char *isa_name(void) {
    const char *name = "none";
    tsr__nn *nn = NULL;
    tsr__nn_options options = { tsr__nn_has_bf16() ? TSR__BF16 : TSR__F32, 1 };
    if (tsr__nn_new(&nn, &options, NULL) == TSR_OK) name = tsr__nn_isa(nn);
    tsr__nn_free(nn);
    return name;
}

static json_t *describe_machine(const bench_options *options, int json) {
    char cpu[208], version[64];
    const dnnl_version_t *dnnl = dnnl_version();
    cpu_name(cpu, sizeof cpu);
    snprintf(version, sizeof version, "%d.%d.%d", dnnl->major, dnnl->minor, dnnl->patch);
    int threads = options->threads ? options->threads : omp_get_max_threads();
    const char *precision = options->precision == TSR__BF16 ? "bf16" : "f32";
    if (json)
        return json_pack("{s:s, s:i, s:i, s:s, s:s, s:s}", "cpu", cpu, "cores", omp_get_num_procs(), "threads", threads,
                         "isa", isa_name(), "onednn", version, "precision", precision);
    printf("%s, %d cores, %d threads, %s, oneDNN %s, %s\n", cpu, omp_get_num_procs(), threads, isa_name(), version,
           precision);
    return NULL;
}

static int usage(FILE *to) {
    fprintf(to, "usage: tessera-bench NAME... [--json] [--precision f32|bf16] [--threads N] [--repeat N] [--profile] "
                "[--cpu-time]\n       of regions and regions-demo: [--modes "
                "full,full-base,crop,crop-base,couple,couple-base,restart] "
                "[--counts 1,2,4,8] [--steps N]\n");
    for (size_t i = 0; i < BENCHMARK_COUNT; i++) fprintf(to, "  %-12s %s\n", benchmarks[i].name, benchmarks[i].summary);
    return to == stdout ? 0 : 2;
}

static int find(const char *name) {
    for (size_t i = 0; i < BENCHMARK_COUNT; i++)
        if (!strcmp(benchmarks[i].name, name)) return (int)i;
    return -1;
}

/* Reads --option VALUE as a whole number of at least 1; 0 when it is none. */
static int whole_number(const char *text) {
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : 0;
    return text && *text && !*end && value >= 1 && value <= 1024 ? (int)value : 0;
}

/* Options into *options and *json, names into chosen. Returns how many names, or -1. */
static int parse(int argc, char **argv, bench_options *options, int *json, int *chosen) {
    int count = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!argv[i]) return -1;
        if (!strcmp(argv[i], "--json")) *json = 1;
        else if (!strcmp(argv[i], "--profile")) options->profile = 1;
        else if (!strcmp(argv[i], "--cpu-time")) bench_clock = CLOCK_PROCESS_CPUTIME_ID;
        else if (!strcmp(argv[i], "--precision") && value && (!strcmp(value, "f32") || !strcmp(value, "bf16")))
            options->precision = !strcmp(argv[++i], "bf16") ? TSR__BF16 : TSR__F32;
        else if (!strcmp(argv[i], "--threads") && whole_number(value)) options->threads = whole_number(argv[++i]);
        else if (!strcmp(argv[i], "--repeat") && whole_number(value)) options->repeat = whole_number(argv[++i]);
        else if (!strcmp(argv[i], "--steps") && whole_number(value)) options->steps = whole_number(argv[++i]);
        else if (!strcmp(argv[i], "--modes") && value) options->modes = argv[++i];
        else if (!strcmp(argv[i], "--counts") && value) options->counts = argv[++i];
        else if (find(argv[i]) >= 0 && count < 64) chosen[count++] = find(argv[i]);
        else {
            fprintf(stderr, "tessera-bench: %s is not a benchmark, or an option with a wrong value\n", argv[i]);
            return -1;
        }
    }
    return count;
}

int main(int argc, char **argv) {
    bench_options options = { tsr__nn_has_bf16() ? TSR__BF16 : TSR__F32, 0, 3, 0, NULL, NULL, 0 };
    bench_report report = { NULL, { 0, 0 } };
    int json = 0, chosen[64];
    if (argc > 1 && !strcmp(argv[1], "--help")) return usage(stdout);
    int count = parse(argc, argv, &options, &json, chosen);
    if (count < 1) return usage(stderr);
    if (options.threads) omp_set_num_threads(options.threads);
    json_t *machine = describe_machine(&options, json), *all = json_object();
    tsr_error err = TSR_ERROR_INIT;
    tsr_status status = TSR_OK;
    for (int i = 0; i < count && status == TSR_OK; i++) {
        if (json) json_object_set_new(all, benchmarks[chosen[i]].name, report.lines = json_array());
        else printf("\n%s: %s\n", benchmarks[chosen[i]].name, benchmarks[chosen[i]].summary);
        status = benchmarks[chosen[i]].run(&options, &report, &err);
    }
    if (json) {
        json_t *object = json_pack("{s:o, s:O}", "machine", machine, "benchmarks", all);
        json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        printf("\n");
        json_decref(object);
    }
    json_decref(all);
    if (status != TSR_OK) fprintf(stderr, "tessera-bench: %s: %s\n", tsr_status_name(status), err.message);
    return status == TSR_OK ? 0 : 1;
}
