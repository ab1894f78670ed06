/* server/store_files.c - see store_priv.h. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store_priv.h"

enum { SUFFIX = 7 }; /* ".XXXXXX" of mkstemp */

static int is_beside(const char *found, const char *name) {
    size_t n = strlen(name);
    if (strncmp(found, name, n) != 0 || strlen(found) != n + SUFFIX || found[n] != '.') return 0;
    return strspn(found + n + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == SUFFIX - 1;
}

void srv__file_remove(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
    DIR *dir = folder ? opendir(folder) : NULL;
    struct dirent *entry;
    (void)unlink(path); /* none of this need be there */
    while (dir && (entry = readdir(dir)))
        if (is_beside(entry->d_name, slash + 1)) (void)unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir) closedir(dir);
    free(folder);
}
