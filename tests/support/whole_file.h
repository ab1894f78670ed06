/* support/whole_file.h - files read and written at once; failures end the test. */
#ifndef TSR_WHOLE_FILE_H
#define TSR_WHOLE_FILE_H

#include <stddef.h>

/* The bytes, released with free(). */
unsigned char *read_whole(const char *path, size_t *size);
void write_whole(const char *path, const unsigned char *data, size_t size);

#endif /* TSR_WHOLE_FILE_H */
