/* server/system_info.h - the machine, as GET /system_stats tells of it. */
#ifndef TSR_SERVER_SYSTEM_INFO_H
#define TSR_SERVER_SYSTEM_INFO_H

#include <jansson.h>

json_t *srv_system_stats(void); /* NULL when out of memory */

#endif /* TSR_SERVER_SYSTEM_INFO_H */
