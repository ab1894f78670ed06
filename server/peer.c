/* server/peer.c - see peer.h. */
#include "peer.h"

#include <arpa/inet.h>
#include <civetweb.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "time_now.h"

#define SLOWEST (32.0 * 1024.0) /* bytes a second */
enum { LAST_DESCRIPTOR = 65536 };

struct srv_peer {
    srv_peers *peers;
    srv_peer *next, *previous;
    int socket;      /* ours: CivetWeb's duplicated, so that its number is not reused while we know it */
    double deadline; /* 0: none */
};

struct srv_peers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t watchdog;
    int watching, stop;
    atomic_int count;
    srv_peer *first;
};

/* --- the watchdog ----------------------------------------------------------------------------------------------------------- */
static void *watch(void *user) {
    srv_peers *peers = user;
    pthread_mutex_lock(&peers->lock);
    while (!peers->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec++;
        pthread_cond_timedwait(&peers->wake, &peers->lock, &until);
        double now = srv_clock();
        for (srv_peer *peer = peers->first; peer; peer = peer->next) {
            if (peer->deadline <= 0.0 || peer->deadline > now) continue;
            shutdown(peer->socket, SHUT_RDWR);
            peer->deadline = 0.0;
        }
    }
    pthread_mutex_unlock(&peers->lock);
    return NULL;
}

tsr_status srv_peers_new(srv_peers **out, tsr_error *err) {
    tsr_status status = TSR_OK;
    srv_peers *peers = NULL;
    pthread_condattr_t steady;
    *out = NULL;
    SRV_ALLOC(err, peers, 1);
    pthread_mutex_init(&peers->lock, NULL);
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&peers->wake, &steady);
    pthread_condattr_destroy(&steady);
    if (pthread_create(&peers->watchdog, NULL, watch, peers) != 0) SRV_FAIL(err, TSR_IO, "cannot start a thread");
    peers->watching = 1;
    *out = peers;
    peers = NULL;
done:
    srv_peers_free(peers);
    return status;
}

void srv_peers_free(srv_peers *peers) {
    if (!peers) return;
    if (peers->watching) {
        pthread_mutex_lock(&peers->lock);
        peers->stop = 1;
        pthread_cond_signal(&peers->wake);
        pthread_mutex_unlock(&peers->lock);
        pthread_join(peers->watchdog, NULL);
    }
    pthread_cond_destroy(&peers->wake);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}

void srv_peers_wake(srv_peers *peers) {
    pthread_mutex_lock(&peers->lock);
    for (srv_peer *peer = peers->first; peer; peer = peer->next) shutdown(peer->socket, SHUT_RD);
    pthread_mutex_unlock(&peers->lock);
}

int srv_peers_count(const srv_peers *peers) {
    return atomic_load(&peers->count);
}

/* --- one peer --------------------------------------------------------------------------------------------------------------- */
/* Descriptors are small numbers, so that the search ends early. */
static int find_socket(const struct mg_request_info *info) {
    struct sockaddr_in wanted;
    memset(&wanted, 0, sizeof wanted);
    if (inet_pton(AF_INET, info->remote_addr, &wanted.sin_addr) != 1) return -1;
    wanted.sin_port = htons((uint16_t)info->remote_port);
    for (int fd = 0; fd < LAST_DESCRIPTOR; fd++) {
        struct sockaddr_in remote = { 0 }, local = { 0 };
        socklen_t remote_size = sizeof remote, local_size = sizeof local;
        if (getpeername(fd, (struct sockaddr *)&remote, &remote_size) != 0 || remote.sin_family != AF_INET ||
            remote.sin_port != wanted.sin_port || remote.sin_addr.s_addr != wanted.sin_addr.s_addr)
            continue;
        if (getsockname(fd, (struct sockaddr *)&local, &local_size) != 0 || ntohs(local.sin_port) != info->server_port)
            continue;
        return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
    return -1;
}

srv_peer *srv_peer_of(srv_peers *peers, struct mg_connection *connection) {
    srv_peer *peer = mg_get_user_connection_data(connection);
    const struct mg_request_info *info = mg_get_request_info(connection);
    if (peer || !info) return peer;
    int fd = find_socket(info);
    peer = fd < 0 ? NULL : calloc(1, sizeof *peer);
    if (!peer) {
        if (fd >= 0) close(fd);
        return NULL;
    }
    peer->peers = peers;
    peer->socket = fd;
    pthread_mutex_lock(&peers->lock);
    peer->next = peers->first;
    if (peer->next) peer->next->previous = peer;
    peers->first = peer;
    pthread_mutex_unlock(&peers->lock);
    atomic_fetch_add(&peers->count, 1);
    mg_set_user_connection_data(connection, peer);
    return peer;
}

static void set_deadline(srv_peer *peer, double deadline) {
    if (!peer) return;
    pthread_mutex_lock(&peer->peers->lock);
    peer->deadline = deadline;
    pthread_mutex_unlock(&peer->peers->lock);
}

void srv_peer_allow(srv_peer *peer, double seconds, long long bytes) {
    set_deadline(peer, srv_clock() + seconds + (bytes > 0 ? (double)bytes / SLOWEST : 0.0));
}

void srv_peer_rest(srv_peer *peer) {
    set_deadline(peer, 0.0);
}

int srv_peer_socket(const srv_peer *peer) {
    return peer->socket;
}

void srv_peer_closed(srv_peers *peers, const struct mg_connection *connection) {
    srv_peer *peer = mg_get_user_connection_data(connection);
    if (!peer) return;
    mg_set_user_connection_data(connection, NULL);
    pthread_mutex_lock(&peers->lock);
    if (peer->next) peer->next->previous = peer->previous;
    if (peer->previous) peer->previous->next = peer->next;
    else peers->first = peer->next;
    pthread_mutex_unlock(&peers->lock);
    atomic_fetch_sub(&peers->count, 1);
    close(peer->socket);
    free(peer);
}
