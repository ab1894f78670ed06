/* nn/nn_profile.c - see nn_profile.h. A full table stops taking new rows and says so in its last one. */
#include "nn/nn_profile.h"
#include "core/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 512 };

struct tsr__profile {
    tsr__nn_profile_row rows[MAX_ROWS];
    int count;
};

tsr_status tsr__nn_profile_start(tsr__nn *nn, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!nn->profile) TSR_ALLOC(err, nn->profile, 1);
    memset(nn->profile, 0, sizeof *nn->profile);
done:
    return status;
}

void tsr__nn_profile_stop(tsr__nn *nn) {
    tsr__profile_free(nn->profile);
    nn->profile = NULL;
}

static int by_time(const void *a, const void *b) {
    double x = ((const tsr__nn_profile_row *)a)->seconds, y = ((const tsr__nn_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

const tsr__nn_profile_row *tsr__nn_profile_rows(tsr__nn *nn, int *count) {
    *count = 0;
    if (!nn->profile) return NULL;
    qsort(nn->profile->rows, (size_t)nn->profile->count, sizeof nn->profile->rows[0], by_time);
    *count = nn->profile->count;
    return nn->profile->rows;
}

double tsr__profile_start(const tsr__nn *nn) {
    return nn->profile ? tsr__seconds() : 0;
}

void tsr__profile_stop(tsr__nn *nn, double start, const char *kind, double work, const char *shape, ...) {
    if (!nn->profile) return;
    double seconds = tsr__seconds() - start;
    tsr__profile *profile = nn->profile;
    char text[sizeof profile->rows[0].shape];
    va_list args;
    va_start(args, shape);
    vsnprintf(text, sizeof text, shape, args);
    va_end(args);
    int i = 0;
    while (i < profile->count && (strcmp(profile->rows[i].kind, kind) || strcmp(profile->rows[i].shape, text))) i++;
    if (i == MAX_ROWS) {
        i = MAX_ROWS - 1;
        profile->rows[i].kind = "others";
        profile->rows[i].shape[0] = 0;
    } else if (i == profile->count) {
        profile->count++;
        profile->rows[i].kind = kind;
        memcpy(profile->rows[i].shape, text, sizeof text);
    }
    profile->rows[i].calls++;
    profile->rows[i].seconds += seconds;
    profile->rows[i].work += work;
}

void tsr__profile_free(tsr__profile *profile) {
    free(profile);
}
