/* apps/cmd_pack.h - `tessera convert IN OUT.tsrpack`: packed caches. */
#ifndef TESSERA_APP_CMD_PACK_H
#define TESSERA_APP_CMD_PACK_H

#include "tessera/tessera.h"

typedef struct pack_request {
    const char *in, *out;
    const tsr_model_parts *parts;
    const char *precision, *threads; /* NULL: not given */
} pack_request;

/* Whether the name ends like a packed cache's. */
int is_pack_name(const char *path);
int command_pack(const pack_request *request);

#endif /* TESSERA_APP_CMD_PACK_H */
