/* apps/progress.h - how far a run is: a bar on a terminal, a few lines elsewhere. Writes to stderr only. */
#ifndef TESSERA_APP_PROGRESS_H
#define TESSERA_APP_PROGRESS_H

#include "tessera/tessera.h"

typedef struct progress_bar {
    int terminal; /* stderr is one */
    int quarters; /* lines printed so far, elsewhere */
    int drawn;    /* a bar is on the line */
    double start; /* seconds, monotonic */
} progress_bar;

double seconds_now(void);
void progress_begin(progress_bar *bar);
void progress_show(progress_bar *bar, const tsr_progress *at);
/* Removes the bar, so that something else can be printed. */
void progress_clear(progress_bar *bar);
/* What a memory bound cost a run, to go on a line; nothing when that was nothing. */
void show_swaps(int swaps, double seconds, size_t bytes);

#endif /* TESSERA_APP_PROGRESS_H */
