/* core/file.c - files read whole, and written whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

struct tsr__outfile {
    char *path, *temporary;
    FILE *stream;
};

static void outfile_free(tsr__outfile *file) {
    if (!file) return;
    if (file->stream) fclose(file->stream);
    free(file->path);
    free(file->temporary);
    free(file);
}

tsr_status tsr__outfile_open(tsr__outfile **out, const char *path, tsr_error *err) {
    tsr_status status = TSR_OK;
    tsr__outfile *file = NULL;
    int fd = -1;
    *out = NULL;
    TSR_ALLOC_ZERO(err, file, 1);
    file->path = tsr__strdup(path);
    file->temporary = tsr__format("%s.XXXXXX", path);
    if (!file->path || !file->temporary) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory");
    fd = mkstemp(file->temporary);
    if (fd < 0) TSR_FAIL(err, TSR_IO, "%s: cannot be written: %s", path, strerror(errno));
    /* mkstemp makes a private file; give it the mode an ordinary new file would have. The mask can only be read by
     * setting it, which would touch the whole process, so take the common 0644. */
    (void)fchmod(fd, 0644);
    file->stream = fdopen(fd, "wb");
    if (!file->stream) {
        unlink(file->temporary);
        TSR_FAIL(err, TSR_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    fd = -1;
    *out = file;
    file = NULL;
done:
    if (fd >= 0) close(fd);
    outfile_free(file);
    return status;
}

tsr_status tsr__outfile_write(tsr__outfile *file, const void *data, size_t size, tsr_error *err) {
    if (size && fwrite(data, 1, size, file->stream) != size)
        return tsr__fail(err, TSR_IO, "%s: write failed: %s", file->path, strerror(errno));
    return TSR_OK;
}

tsr_status tsr__outfile_commit(tsr__outfile *file, tsr_error *err) {
    tsr_status status = TSR_OK;
    if (!file) return TSR_OK;
    if (fflush(file->stream) || ferror(file->stream) || fsync(fileno(file->stream)))
        TSR_FAIL(err, TSR_IO, "%s: write failed: %s", file->path, strerror(errno));
    int bad = fclose(file->stream);
    file->stream = NULL;
    if (bad || rename(file->temporary, file->path))
        TSR_FAIL(err, TSR_IO, "%s: write failed: %s", file->path, strerror(errno));
done:
    if (status != TSR_OK) unlink(file->temporary);
    outfile_free(file);
    return status;
}

void tsr__outfile_abort(tsr__outfile *file) {
    if (file) unlink(file->temporary);
    outfile_free(file);
}

tsr_status tsr__read_file(void **out, size_t *size_out, const char *path, size_t limit, tsr_error *err) {
    tsr_status status = TSR_OK;
    FILE *stream = NULL;
    unsigned char *data = NULL;
    size_t used = 0, room = 1 << 16;
    *out = NULL;
    *size_out = 0;
    stream = fopen(path, "rb");
    if (!stream) TSR_FAIL(err, errno == ENOENT ? TSR_NOT_FOUND : TSR_IO, "%s: %s", path, strerror(errno));
    data = malloc(room + 1);
    while (data) {
        size_t n = fread(data + used, 1, room - used, stream);
        used += n;
        if (used < room) break;
        if (used > limit) break;
        room *= 2;
        unsigned char *grown = realloc(data, room + 1);
        if (!grown) free(data);
        data = grown;
    }
    if (!data) TSR_FAIL(err, TSR_NO_MEMORY, "%s: out of memory", path);
    if (ferror(stream)) TSR_FAIL(err, TSR_IO, "%s: read failed: %s", path, strerror(errno));
    if (used > limit) TSR_FAIL(err, TSR_TOO_LARGE, "%s: over the limit of %zu bytes", path, limit);
    data[used] = 0;
    *out = data;
    *size_out = used;
    data = NULL;
done:
    if (stream) fclose(stream);
    free(data);
    return status;
}
