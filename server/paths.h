/* server/paths.h - names from strangers to files below a folder, and never anywhere else.
 *
 * Every step is opened by its descriptor and no symbolic link is followed below the root, so that nothing can be swapped in
 * between. The root itself is the owner's and may be a link. */
#ifndef TSR_SERVER_PATHS_H
#define TSR_SERVER_PATHS_H

#include <stddef.h>

#include "tessera/status.h"

/* One name of a file or folder: 1 to 255 bytes of UTF-8 that do not start with a dot and hold no slash, backslash or control
 * character. */
int srv_name_is_good(const char *name);

/* A descriptor of root/subfolder; "" or NULL is the root. Missing folders are made when `create`. Errors: BAD_ARGUMENT (a bad
 * name), UNSUPPORTED (a link), NOT_FOUND, IO. */
tsr_status srv_folder_open(int *out, const char *root, const char *subfolder, int create, tsr_error *err);

/* Opens a regular file of that folder for reading. Errors as above. */
tsr_status srv_file_open(int *out, long long *size_out, int folder, const char *name, tsr_error *err);

/* Both at once, the last part of `path` being the file's name. */
tsr_status srv_path_open(int *out, long long *size_out, const char *root, const char *path, tsr_error *err);

/* The file's whole content; TOO_LARGE over the limit. Release *out with free(). */
tsr_status srv_file_read(void **out, int file, long long size, long long limit, tsr_error *err);

/* Writes a file of that folder whole or not at all: beside it first, then to its name. Without `replace` a name that is taken
 * gives WRONG_STATE. */
tsr_status srv_file_write(int folder, const char *name, const void *data, size_t size, int replace, tsr_error *err);

#endif /* TSR_SERVER_PATHS_H */
