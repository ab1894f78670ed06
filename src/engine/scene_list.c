/* engine/scene_list.c - several values in one text, with ; between them.
 *
 * Knows nothing of what the values mean. */
#include <stdlib.h>
#include <string.h>

#include "engine/scene_priv.h"

int tsr__list_count(const char *list) {
    int count = 1;
    for (; *list; list++) count += *list == ';';
    return count;
}

static const char *find_item(const char *list, int index, size_t *length) {
    if (tsr__list_count(list) == 1) index = 0;
    while (index-- > 0 && *list) {
        list += strcspn(list, ";");
        list += *list == ';';
    }
    *length = strcspn(list, ";");
    return list;
}

tsr_status tsr__list_item(char **out, const char *list, int index, tsr_error *err) {
    size_t length;
    const char *item = find_item(list, index, &length);
    char *copy = malloc(length + 1);
    *out = copy;
    if (!copy) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    memcpy(copy, item, length);
    copy[length] = 0;
    return TSR_OK;
}

double tsr__list_number(const char *list, int index) {
    char room[64];
    size_t length;
    double value = 0;
    const char *item = find_item(list, index, &length);
    if (length >= sizeof room) return 0;
    memcpy(room, item, length);
    room[length] = 0;
    (void)tsr__parse_number(room, &value);
    return value;
}

tsr_status tsr__list_add(char **list, const char *item, tsr_error *err) {
    size_t before = *list ? strlen(*list) + 1 : 0, length = strlen(item);
    char *grown = realloc(*list, before + length + 1);
    if (!grown) return tsr__fail(err, TSR_NO_MEMORY, "out of memory");
    if (before) grown[before - 1] = ';';
    memcpy(grown + before, item, length + 1);
    *list = grown;
    return TSR_OK;
}
