/* server/paths.c - see paths.h. */
#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "http_text.h"

enum { NAME_SIZE = 256, MAX_STEPS = 16 };

int srv_name_is_good(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= NAME_SIZE || name[0] == '.' || !srv_is_utf8(name, length)) return 0;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f || name[i] == '/' || name[i] == '\\') return 0;
    return 1;
}

/* Why openat failed; a link in the way is told apart from what is not there. */
static tsr_status why(int folder, const char *name, int number, tsr_error *err) {
    struct stat about;
    if ((number == ELOOP || number == ENOTDIR) && fstatat(folder, name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(about.st_mode))
        return srv_fail(err, TSR_UNSUPPORTED, "%s: links are not followed", name);
    if (number == ENOENT || number == ENOTDIR || number == ELOOP || number == ENAMETOOLONG)
        return srv_fail(err, TSR_NOT_FOUND, "%s: not found", name);
    return srv_fail(err, TSR_IO, "%s: %s", name, strerror(number));
}

/* The next step of a path, which moves on behind its slash. -1 when it is no name. */
static int next_name(char name[NAME_SIZE], const char **path) {
    size_t length = strcspn(*path, "/");
    if (length == 0 || length >= NAME_SIZE) return -1;
    memcpy(name, *path, length);
    name[length] = 0;
    *path += length;
    *path += **path == '/';
    return srv_name_is_good(name) ? 0 : -1;
}

tsr_status srv_folder_open(int *out, const char *root, const char *subfolder, int create, tsr_error *err) {
    tsr_status status = TSR_OK;
    int folder = -1, steps = 0;
    char name[NAME_SIZE];
    *out = -1;
    folder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) SRV_FAIL(err, TSR_IO, "%.200s: %s", root, strerror(errno));
    while (subfolder && *subfolder) {
        if (++steps > MAX_STEPS || next_name(name, &subfolder)) SRV_FAIL(err, TSR_BAD_ARGUMENT, "not a subfolder");
        if (create && mkdirat(folder, name, 0777) != 0 && errno != EEXIST) SRV_TRY(why(folder, name, errno, err));
        int next = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) SRV_TRY(why(folder, name, errno, err));
        close(folder);
        folder = next;
    }
    *out = folder;
    folder = -1;
done:
    if (folder >= 0) close(folder);
    return status;
}

tsr_status srv_file_open(int *out, long long *size_out, int folder, const char *name, tsr_error *err) {
    tsr_status status = TSR_OK;
    struct stat about;
    int file = -1;
    *out = -1;
    *size_out = 0;
    if (!srv_name_is_good(name)) SRV_FAIL(err, TSR_BAD_ARGUMENT, "not a file's name");
    file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not hold us */
    if (file < 0) SRV_TRY(why(folder, name, errno, err));
    if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) SRV_FAIL(err, TSR_NOT_FOUND, "%s: not a file", name);
    *size_out = about.st_size;
    *out = file;
    file = -1;
done:
    if (file >= 0) close(file);
    return status;
}

tsr_status srv_path_open(int *out, long long *size_out, const char *root, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    const char *slash = strrchr(path, '/');
    char *above = NULL;
    int folder = -1;
    *out = -1;
    *size_out = 0;
    above = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
    if (!above) SRV_FAIL(err, TSR_NO_MEMORY, "out of memory");
    if (slash == path) SRV_FAIL(err, TSR_BAD_ARGUMENT, "not a path below a folder");
    SRV_TRY(srv_folder_open(&folder, root, above, 0, err));
    SRV_TRY(srv_file_open(out, size_out, folder, slash ? slash + 1 : path, err));
done:
    if (folder >= 0) close(folder);
    free(above);
    return status;
}

tsr_status srv_file_read(void **out, int file, long long size, long long limit, tsr_error *err) {
    tsr_status status = TSR_OK;
    char *data = NULL;
    long long done = 0;
    *out = NULL;
    if (size < 0 || size > limit) SRV_FAIL(err, TSR_TOO_LARGE, "the file is too large");
    SRV_ALLOC(err, data, size + 1);
    while (done < size) {
        ssize_t n = read(file, data + done, (size_t)(size - done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) SRV_FAIL(err, TSR_IO, "the file could not be read whole");
        done += n;
    }
    *out = data;
    data = NULL;
done:
    free(data);
    return status;
}

/* --- writing -------------------------------------------------------------------------------------------------------------- */
static tsr_status write_all(int file, const void *data, size_t size, tsr_error *err) {
    const char *at = data;
    while (size) {
        ssize_t n = write(file, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return srv_fail(err, TSR_IO, "the file could not be written: %s", strerror(errno));
        at += n;
        size -= (size_t)n;
    }
    return fsync(file) == 0 ? TSR_OK : srv_fail(err, TSR_IO, "the file could not be written: %s", strerror(errno));
}

tsr_status srv_file_write(int folder, const char *name, const void *data, size_t size, int replace, tsr_error *err) {
    tsr_status status = TSR_OK;
    char beside[40];
    unsigned char random[8];
    int file = -1;
    if (!srv_name_is_good(name)) return srv_fail(err, TSR_BAD_ARGUMENT, "not a file's name");
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return srv_fail(err, TSR_IO, "the system gives no random numbers");
    strcpy(beside, ".upload-");
    for (size_t i = 0; i < sizeof random; i++) snprintf(beside + 8 + 2 * i, 3, "%02x", random[i]);
    file = openat(folder, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file < 0) return srv_fail(err, TSR_IO, "the file could not be written: %s", strerror(errno));
    SRV_TRY(write_all(file, data, size, err));
    if (replace && renameat(folder, beside, folder, name) != 0)
        SRV_FAIL(err, TSR_IO, "the file could not be written: %s", strerror(errno));
    if (!replace && linkat(folder, beside, folder, name, 0) != 0) {
        if (errno == EEXIST) SRV_FAIL(err, TSR_WRONG_STATE, "%s: exists", name);
        SRV_FAIL(err, TSR_IO, "the file could not be written: %s", strerror(errno));
    }
done:
    close(file);
    unlinkat(folder, beside, 0); /* gone already when it was renamed */
    return status;
}
