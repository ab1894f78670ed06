/* bench/bench_memory.c - resident memory of this process. */
#include <stdio.h>

#include "bench.h"

/* VmHWM, the highest resident set since the last reset, in MiB. */
double bench_peak_resident(void) {
    char line[128];
    long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &kilobytes) == 1) break;
    if (file) fclose(file);
    return (double)kilobytes / 1024;
}

/* Where the system forbids it, the peak is that of the whole process. */
void bench_reset_peak_resident(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file) return;
    fputs("5\n", file);
    fclose(file);
}
