/* core/clock.h - one clock for measuring how long things take. */
#ifndef TSR_CLOCK_H
#define TSR_CLOCK_H

/* Seconds since some fixed moment; never goes back. */
double tsr__seconds(void);

#endif /* TSR_CLOCK_H */
