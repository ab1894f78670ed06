/* apps/signals.h - Ctrl-C and termination as a number that runs look at. */
#ifndef TESSERA_APP_SIGNALS_H
#define TESSERA_APP_SIGNALS_H

/* From now on SIGINT and SIGTERM are only noted, and a file-size limit is a failed write. */
void watch_signals(void);

/* The number of the last noted signal; 0 if there was none. */
int stop_signal(void);

#endif /* TESSERA_APP_SIGNALS_H */
