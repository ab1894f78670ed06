/* bench/bench_open.c - the same model from its file of float16 and from its packed cache, in one run: time until every network is
 * there, and until the first step is done, with the file outside and inside the system's page cache. --modes chooses
 * among sd15 (also the default), sd21 and sdxl. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "bench.h"
#include "core/check.h"
#include "core/memory.h"
#include "engine/engine_priv.h"
#include "synthetic.h"

static const struct size_row {
    const char *name;
    synthetic_family family;
    const char *side; /* pixels */
} rows[] = {
    { "sd15", SYNTHETIC_SD15, "512" },
    { "sd21", SYNTHETIC_SD21, "768" },
    { "sdxl", SYNTHETIC_SDXL, "1024" },
};

/* --- the page cache --------------------------------------------------------------------------------------------------- */
/* Asks the system to forget a file, which it does where nobody has it mapped and it is written. */
static void forget(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    (void)fsync(file);
    (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
}

/* How much of a file is in memory, in per cent. */
static double cached_part(const char *path) {
    struct stat info;
    unsigned char *pages = NULL;
    double part = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    const long page = sysconf(_SC_PAGESIZE);
    if (file < 0 || page < 1 || fstat(file, &info) != 0 || info.st_size < 1) goto done;
    size_t count = ((size_t)info.st_size + (size_t)page - 1) / (size_t)page, here = 0;
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) goto done;
    pages = malloc(count);
    if (pages && mincore(map, (size_t)info.st_size, pages) == 0)
        for (size_t i = 0; i < count; i++) here += pages[i] & 1u;
    part = 100.0 * (double)here / (double)count;
    (void)munmap(map, (size_t)info.st_size);
done:
    free(pages);
    if (file >= 0) close(file);
    return part;
}

/* Reads it once. */
static void remember(const char *path) {
    static char block[1 << 20];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    while (read(file, block, sizeof block) > 0) {}
    close(file);
}

/* "RssAnon" or "RssFile" of this process, in MiB. */
static double resident(const char *kind) {
    char line[128], format[32];
    long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    snprintf(format, sizeof format, "%s: %%ld", kind);
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, format, &kilobytes) == 1) break; /* NOLINT(cert-err34-c): the kernel's own numbers */
    if (file) fclose(file);
    return (double)kilobytes / 1024;
}

/* --- one opening ------------------------------------------------------------------------------------------------------ */
static tsr_status make_scene(tsr_scene **out, const char *side, tsr_error *err) {
    tsr_status status = TSR_OK;
    TSR_TRY(tsr_scene_new(out, err));
    TSR_TRY(tsr_scene_set(*out, "width", side, err));
    TSR_TRY(tsr_scene_set(*out, "height", side, err));
    TSR_TRY(tsr_scene_set(*out, "steps", "1", err));
    TSR_TRY(tsr_scene_set(*out, "prompt", "a house on a hill", err));
    TSR_TRY(tsr_scene_set(*out, "negative", "blurry", err));
done:
    return status;
}

static tsr_status step(const tsr__job *job, double *seconds, tsr_error *err) {
    tsr_ksampler_options options = TSR_KSAMPLER_OPTIONS_INIT;
    tsr_latent *latent = NULL;
    options.steps = 1;
    double start = bench_now();
    tsr_status status = tsr_ksampler(&latent, job->latent, &job->base.guide, &options, err);
    *seconds = bench_now() - start;
    tsr_latent_free(latent);
    return status;
}

static tsr_status measure(const struct size_row *row, const bench_options *options, bench_report *report,
                          const char *path, const char *what, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_engine *engine = NULL;
    tsr_scene *scene = NULL;
    tsr__job *job = NULL;
    tsr_engine_options engine_options = TSR_ENGINE_OPTIONS_INIT;
    double first = 0, later = 0, best = 0;
    char text[96];
    engine_options.model = path;
    engine_options.precision = options->precision == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    engine_options.threads = options->threads;
#ifdef __GLIBC__
    (void)malloc_trim(0); /* what the one before has freed is not this one's */
#endif
    snprintf(text, sizeof text, "%s: of the file in memory before", what);
    bench_value(report, text, cached_part(path), "%");
    double start = bench_now();
    TSR_TRY(tsr_engine_open(&engine, &engine_options, err));
    TSR_TRY(tsr__engine_need_text(engine, err));
    TSR_TRY(tsr__engine_need_unet(engine, err));
    TSR_TRY(tsr__engine_need_vae(engine, err));
    snprintf(text, sizeof text, "%s: until every network is there", what);
    bench_line(report, row->name, text, bench_now() - start, 0, 0);
    TSR_TRY(make_scene(&scene, row->side, err));
    TSR_TRY(tsr__job_new(&job, engine, scene, NULL, 1, err));
    TSR_TRY(step(job, &first, err));
    snprintf(text, sizeof text, "%s: and the first step is done", what);
    bench_line(report, row->name, text, bench_now() - start, 0, 0);
    for (int i = 0; i < options->repeat; i++) {
        TSR_TRY(step(job, &later, err));
        if (i == 0 || later < best) best = later;
    }
    snprintf(text, sizeof text, "%s: the first step", what);
    bench_line(report, row->name, text, first, 0, 0);
    snprintf(text, sizeof text, "%s: a later step", what);
    bench_line(report, row->name, text, best, 0, 0);
    snprintf(text, sizeof text, "%s: memory of its own", what);
    bench_value(report, text, resident("RssAnon"), "MiB");
    snprintf(text, sizeof text, "%s: pages of files", what);
    bench_value(report, text, resident("RssFile"), "MiB");
done:
    tsr__job_free(job);
    tsr_scene_free(scene);
    tsr_engine_close(engine);
    return status;
}

/* --- both ------------------------------------------------------------------------------------------------------------- */
static tsr_status compare(const struct size_row *row, const bench_options *options, bench_report *report,
                          const char *original, const char *cache, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr_pack_options pack = TSR_PACK_OPTIONS_INIT;
    pack.precision = options->precision == TSR__BF16 ? TSR_PRECISION_BF16 : TSR_PRECISION_F32;
    pack.threads = options->threads;
    double start = bench_now();
    TSR_TRY(tsr_pack_model(NULL, cache, original, NULL, &pack, err));
    bench_line(report, row->name, "packing and writing the cache", bench_now() - start, 0, 0);
    forget(original);
    TSR_TRY(measure(row, options, report, original, "original, from disk", err));
    remember(original);
    TSR_TRY(measure(row, options, report, original, "original", err));
    forget(original);
    forget(cache);
    TSR_TRY(measure(row, options, report, cache, "cache, from disk", err));
    remember(cache);
    TSR_TRY(measure(row, options, report, cache, "cache", err));
done:
    return status;
}

tsr_status bench_open(const bench_options *options, bench_report *report, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *modes = options->modes ? options->modes : "sd15";
    for (size_t i = 0; i < sizeof rows / sizeof *rows && status == TSR_OK; i++) {
        if (!strstr(modes, rows[i].name)) continue;
        const char *original = synthetic_checkpoint(rows[i].family);
        if (!original) return tsr__fail(err, TSR_IO, "no synthetic checkpoint: set TMPDIR to a folder with room");
        char *cache = tsr__format("%s.tsrpack", original);
        if (!cache) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
        status = compare(&rows[i], options, report, original, cache, err);
        (void)unlink(cache);
        free(cache);
    }
    return status;
}
