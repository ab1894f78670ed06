/* server/companion.h - a thread beside each of CivetWeb's, with room on its stack.
 *
 * Debian's CivetWeb gives its threads 100 KiB. A workflow is a graph that is walked recursively, and pictures are decoded
 * here, so a request is served by the companion of the thread that received it, which waits. */
#ifndef TSR_SERVER_COMPANION_H
#define TSR_SERVER_COMPANION_H

typedef struct srv_companion srv_companion;

srv_companion *srv_companion_new(void);            /* NULL when no thread can be had */
void srv_companion_free(srv_companion *companion); /* NULL is allowed */
/* work(user) on the companion's stack; its result. One call at a time. */
int srv_companion_run(srv_companion *companion, int (*work)(void *user), void *user);

#endif /* TSR_SERVER_COMPANION_H */
