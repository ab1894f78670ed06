/* server/info_cache.h - the text of GET /object_info, which is long and seldom changes. */
#ifndef TSR_SERVER_INFO_CACHE_H
#define TSR_SERVER_INFO_CACHE_H

#include "shared_text.h"
#include "tessera/status.h"

struct srv_context;
typedef struct srv_info_cache srv_info_cache;

srv_info_cache *srv_info_cache_new(void);        /* NULL when out of memory */
void srv_info_cache_free(srv_info_cache *cache); /* NULL is allowed */

/* All nodes, made anew when a folder of models or pictures has changed. */
tsr_status srv_info_all(srv_text **out, struct srv_context *context, tsr_error *err);

#endif /* TSR_SERVER_INFO_CACHE_H */
