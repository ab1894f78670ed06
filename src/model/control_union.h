/* model/control_union.h - what a union ControlNet has besides a ControlNet: it is told which kind of picture it reads, by a change
 * of the picture's features and by one of the time embedding. For control_net.c.
 *
 * Knows no names of kinds, only their numbers in the file. */
#ifndef TSR_CONTROL_UNION_H
#define TSR_CONTROL_UNION_H

#include "model/layers.h"

typedef struct tsr__control_union tsr__control_union;

int tsr__control_union_is(const tsr__loader *loader);
/* channels: of the picture's features; embed: width of the time embedding. The weights are not kept. */
tsr_status tsr__control_union_new(tsr__control_union **out, tsr__loader *loader, int channels, int embed,
                                  tsr_error *err);
void tsr__control_union_free(tsr__control_union *parts); /* NULL is allowed */
int tsr__control_union_types(const tsr__control_union *parts);

/* type: 0 .. types - 1, or -1: none is told. */
/* Changes the picture's features [1, h, w, channels]; nothing for -1. */
tsr_status tsr__control_union_features(const tsr__control_union *parts, tsr__nn *nn, tsr__tensor *features, int type,
                                       tsr_error *err);
/* What the time embedding gets besides: [1, 1, 1, embed]. */
tsr_status tsr__control_union_time(const tsr__control_union *parts, tsr__nn *nn, tsr__tensor *out, int type,
                                   tsr_error *err);

#endif /* TSR_CONTROL_UNION_H */
