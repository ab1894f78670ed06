/* apps/signals.c - see signals.h. Knows nothing of runs. */
#include "signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int noted; /* the one thing that a signal handler may touch */

static void on_signal(int number) {
    atomic_store(&noted, number);
}

void watch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    /* A second one ends the program at once, in the middle of a long network call too. */
    action.sa_flags = SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_flags = 0;
    action.sa_handler = SIG_IGN; /* a file-size limit shall be a failed write, not death */
    sigaction(SIGXFSZ, &action, NULL);
}

int stop_signal(void) {
    return atomic_load(&noted);
}
