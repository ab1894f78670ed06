/* apps/progress.c - the bar. */
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void progress_begin(progress_bar *bar) {
    memset(bar, 0, sizeof *bar);
    const char *kind = getenv("TERM");
    bar->terminal = isatty(STDERR_FILENO) && !(kind && strcmp(kind, "dumb") == 0);
    bar->start = seconds_now();
}

void progress_clear(progress_bar *bar) {
    if (bar->drawn) fputs("\r\033[K", stderr);
    bar->drawn = 0;
}

static void describe_region(char *out, size_t size, const tsr_progress *at) {
    static const char *const phases[] = { "", ", base only", ", recovery" };
    const char *phase = at->phase == TSR_PHASE_BASE_ONLY || at->phase == TSR_PHASE_RECOVERY ? phases[at->phase] : "";
    if (at->regions == 0) *out = 0;
    else if (at->region < 0) snprintf(out, size, "  base and %d region%s", at->regions, at->regions == 1 ? "" : "s");
    else if (at->region == 0) snprintf(out, size, "  base%s", phase);
    else snprintf(out, size, "  region %d/%d%s", at->region, at->regions, phase);
}

void progress_show(progress_bar *bar, const tsr_progress *at) {
    enum { WIDTH = 24 };
    char region[64], filled[WIDTH + 1];
    double part = at->evaluations_total > 0 ? (double)at->evaluations_done / (double)at->evaluations_total : 0;
    if (part > 1) part = 1;
    double spent = seconds_now() - bar->start, left = part > 0 ? spent / part - spent : 0;
    int step = at->step + (at->event == TSR_PROGRESS_STEP || at->step < at->steps);
    if (step > at->steps) step = at->steps;
    describe_region(region, sizeof region, at);
    if (bar->terminal) {
        for (int i = 0; i < WIDTH; i++) filled[i] = i < (int)(part * WIDTH) ? '#' : '.';
        filled[WIDTH] = 0;
        fprintf(stderr, "\r[%s] step %d/%d%s  ", filled, step, at->steps, region);
        if (part > 0) fprintf(stderr, "%d:%02d left", (int)left / 60, (int)left % 60);
        fputs("\033[K", stderr);
        bar->drawn = 1;
        fflush(stderr);
    } else if ((int)(part * 4) > bar->quarters && at->event == TSR_PROGRESS_STEP) {
        bar->quarters = (int)(part * 4);
        fprintf(stderr, "step %d/%d%s  %.1f s\n", step, at->steps, region, spent);
    }
}

void show_swaps(int swaps, double seconds, size_t bytes) {
    if (swaps) fprintf(stderr, "; swapped models %d times, %.2f s, %.1f MB", swaps, seconds, (double)bytes / 1e6);
}
