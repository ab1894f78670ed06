/* bench/bench.h - what benchmarks share: options, the clock, the machine's matmul peak, and the report.
 *
 * A benchmark is a function and a row of the table in bench_main.c. It adds lines to the report it is given; the report
 * prints them as a table at once, or all together as one JSON object. */
#ifndef TSR_BENCH_H
#define TSR_BENCH_H

#include "nn/nn.h"
#include "tessera/status.h"
#include <stdint.h>

typedef struct bench_options {
    tsr__precision precision;
    int threads; /* 0: all */
    int repeat;  /* timed runs; the fastest counts */
    int profile; /* also time by operation and shape, where a benchmark can */
    /* of the benchmarks of regions; NULL and 0: their own choice */
    const char *modes;  /* "full,crop": only these */
    const char *counts; /* "4,8": only so many regions */
    int steps;
} bench_options;

typedef struct bench_report bench_report;

double bench_now(void); /* seconds */

/* GFLOP/s of oneDNN's own 4096 x 4096 x 4096 matmul in this precision, the fastest of `repeat` runs. Measured at the
 * first call of a process for each precision; later calls answer the same. */
tsr_status bench_matmul_peak(bench_report *report, const bench_options *options, double *gflops, tsr_error *err);

/* One measured line: seconds of one run and its floating-point operations (0: none counted). peak_gflops 0 leaves the
 * fraction out. */
void bench_line(bench_report *report, const char *name, const char *shape, double seconds, double work,
                double peak_gflops);
/* A measured line against another one: seconds, their ratio to the plain run's, the network evaluations, and the ratio
 * that is wanted (0: none). */
void bench_ratio(bench_report *report, const char *name, const char *shape, double seconds, double ratio,
                 int64_t evaluations, double goal);
/* A number that is not a time: "peak activation memory", 812.5, "MiB". */
void bench_value(bench_report *report, const char *name, double value, const char *unit);
/* The highest resident memory since the last reset, in MiB. */
double bench_peak_resident(void);
void bench_reset_peak_resident(void);
/* The rows of the context's profile (tsr__nn_profile_rows), slowest first, at most `limit`. */
void bench_profile(bench_report *report, tsr__nn *nn, int limit, double peak_gflops);

/* The benchmarks. */
tsr_status bench_kernels(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_unet(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_vae(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_taesd(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_regions(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_regions_demo(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_lora(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_sizes(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_open(const bench_options *options, bench_report *report, tsr_error *err);
tsr_status bench_clean(const bench_options *options, bench_report *report, tsr_error *err);

#endif /* TSR_BENCH_H */
