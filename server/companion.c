/* server/companion.c - see companion.h. */
#include "companion.h"

#include <pthread.h>
#include <stdlib.h>

enum { STACK_BYTES = 16 << 20 }; /* of address space; memory is used as far as it is needed */

struct srv_companion {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int (*work)(void *user); /* NULL: done */
    void *user;
    int result, stop;
};

static void *serve(void *user) {
    srv_companion *c = user;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->work && !c->stop) pthread_cond_wait(&c->changed, &c->lock);
        if (c->stop) break;
        pthread_mutex_unlock(&c->lock);
        int result = c->work(c->user);
        pthread_mutex_lock(&c->lock);
        c->result = result;
        c->work = NULL;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

srv_companion *srv_companion_new(void) {
    srv_companion *c = calloc(1, sizeof *c);
    pthread_attr_t wide;
    if (!c) return NULL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    pthread_attr_init(&wide);
    pthread_attr_setstacksize(&wide, STACK_BYTES);
    int failed = pthread_create(&c->thread, &wide, serve, c);
    pthread_attr_destroy(&wide);
    if (!failed) return c;
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

void srv_companion_free(srv_companion *c) {
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->stop = 1;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int srv_companion_run(srv_companion *c, int (*work)(void *user), void *user) {
    pthread_mutex_lock(&c->lock);
    c->user = user;
    c->work = work;
    pthread_cond_broadcast(&c->changed);
    while (c->work) pthread_cond_wait(&c->changed, &c->lock);
    int result = c->result;
    pthread_mutex_unlock(&c->lock);
    return result;
}
