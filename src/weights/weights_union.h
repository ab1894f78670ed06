/* weights/weights_union.h - tensors of several files as one, under other names.
 *
 * A union borrows its sources' bytes; only tensors that are put together of several, or turned, are copied. Knows no names
 * of networks. Threads: one at a time while it is made. */
#ifndef TSR_WEIGHTS_UNION_H
#define TSR_WEIGHTS_UNION_H

#include <jansson.h>

#include "weights/weights.h"

typedef struct tsr__union tsr__union;
/* path: what messages about the result call it. */
tsr_status tsr__union_new(tsr__union **out, const char *path, tsr_error *err);
void tsr__union_free(tsr__union *all); /* NULL is allowed; closes what it owns */
/* The union closes source some time; also after a failure. */
tsr_status tsr__union_own(tsr__union *all, tsr__weights *source, tsr_error *err);
/* A view of an owned source under a name. Adding a name again is BAD_FORMAT when the union is finished. */
tsr_status tsr__union_add(tsr__union *all, const char *name, const tsr__tensor_view *view, tsr_error *err);
/* n tensors of one width, one below the other. As they are when their types are the same, else as float32. */
tsr_status tsr__union_stack(tsr__union *all, const char *name, const tsr__tensor_view *const *parts, int n,
                            tsr_error *err);
/* A matrix turned, in its own type where elements stand alone, else as float32. */
tsr_status tsr__union_transpose(tsr__union *all, const char *name, const tsr__tensor_view *view, tsr_error *err);
/* One float32 number. */
tsr_status tsr__union_add_number(tsr__union *all, const char *name, float value, tsr_error *err);
/* A float32 tensor of like's shape; *values has like->count of them to fill, and is the union's. */
tsr_status tsr__union_floats(float **values, tsr__union *all, const char *name, const tsr__tensor_view *like,
                             tsr_error *err);
/* The metadata key tessera.config: a JSON object, borrowed. The first one stays. */
tsr_status tsr__union_set_config(tsr__union *all, const json_t *config, tsr_error *err);
/* Makes weights of it; the union is gone, also after a failure. */
tsr_status tsr__union_finish(tsr__weights **out, tsr__union *all, tsr_error *err);

#endif /* TSR_WEIGHTS_UNION_H */
