/* server/time_now.h - the two clocks of the server: one to measure with, one to write down. */
#ifndef TSR_SERVER_TIME_NOW_H
#define TSR_SERVER_TIME_NOW_H

#include <stdint.h>

/* Seconds since some fixed moment; never goes back. */
double srv_clock(void);
/* Milliseconds since 1970. */
int64_t srv_now_ms(void);

#endif /* TSR_SERVER_TIME_NOW_H */
