/* server/log.h - one line an event to standard error, plain or JSON. Never prompts, tokens or query strings. */
#ifndef TSR_SERVER_LOG_H
#define TSR_SERVER_LOG_H

typedef struct srv_log srv_log;
typedef enum srv_log_level { SRV_LOG_INFO, SRV_LOG_WARNING, SRV_LOG_ERROR } srv_log_level;

/* NULL when out of memory; every function takes a NULL log and then does nothing. */
srv_log *srv_log_new(int json, int quiet);
void srv_log_free(srv_log *log);
/* event: a word ("job_done"); the rest are pairs of names and printf-formatted values in one text: "job=%s seconds=%.2f".
 * Control characters in values are escaped. */
void srv_log_event(srv_log *log, srv_log_level level, const char *event, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 4, 5)))
#endif
    ;

#endif /* TSR_SERVER_LOG_H */
