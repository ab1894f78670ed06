/* server/server_features.h - what the server can do, as GET /features and the WebSocket's feature_flags tell it. */
#ifndef TSR_SERVER_FEATURES_H
#define TSR_SERVER_FEATURES_H

#include <jansson.h>

struct srv_context;

json_t *srv_features(const struct srv_context *context); /* NULL when out of memory */

/* Whether there is anything to paint with. */
int srv_has_checkpoints(struct srv_context *context);

#endif /* TSR_SERVER_FEATURES_H */
