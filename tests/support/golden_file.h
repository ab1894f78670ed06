/* support/golden_file.h - reads the committed golden numbers (safetensors, float32) for the tests.
 *
 * Deliberately independent of src/weights, which it helps to test. Failures end the test program. */
#ifndef TSR_GOLDEN_FILE_H
#define TSR_GOLDEN_FILE_H

#include <jansson.h>
#include <stddef.h>

typedef struct golden_file golden_file;

typedef struct golden_tensor {
    const float *data; /* valid until golden_close */
    int rank;
    size_t shape[8];
    size_t count; /* product of shape */
} golden_tensor;

/* path is relative to tests/golden/data. */
golden_file *golden_open(const char *path);
void golden_close(golden_file *file);
/* The tensor of that name (printf format); ends the program when there is none. F32, I64 and BOOL/U8 are all given as
 * float. */
golden_tensor golden_get(golden_file *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
int golden_has(golden_file *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t golden_count(const golden_file *file);
const char *golden_name(const golden_file *file, size_t i);
/* A JSON file under tests/golden/data; release with json_decref. */
json_t *golden_json(const char *path);

/* Largest absolute difference, and root mean square. NaN anywhere gives infinity. */
double max_abs_diff(const float *a, const float *b, size_t count);
double rms_diff(const float *a, const float *b, size_t count);
double max_abs(const float *a, size_t count);
double cosine(const float *a, const float *b, size_t count);

#endif /* TSR_GOLDEN_FILE_H */
