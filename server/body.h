/* server/body.h - the body of a request, kept outside memory when it may be large. */
#ifndef TSR_SERVER_BODY_H
#define TSR_SERVER_BODY_H

#include <stddef.h>

#include "request.h"

/* A body in a file without a name, mapped. */
typedef struct srv_spool {
    const void *data; /* NULL when empty */
    size_t size;
} srv_spool;

/* Answers itself and returns that status; 0 when all is well. Release with srv_spool_clear. */
int srv_request_spool(srv_spool *out, srv_request *request, size_t limit);
void srv_spool_clear(srv_spool *spool);

#endif /* TSR_SERVER_BODY_H */
