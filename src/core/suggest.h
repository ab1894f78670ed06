/* core/suggest.h - the nearest known name, for 'unknown sampler "eulr": did you mean "euler"?'. */
#ifndef TSR_SUGGEST_H
#define TSR_SUGGEST_H

/* The one of name_at(0..count-1) with the fewest typing mistakes between it and name (case does not matter), or NULL when
 * none is near enough to be meant. name may be NULL. */
const char *tsr__suggest(const char *name, const char *(*name_at)(int), int count);

#endif /* TSR_SUGGEST_H */
