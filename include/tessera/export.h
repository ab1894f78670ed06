/* tessera/export.h - what marks a function as part of the public library.
 *
 * The library is built with hidden visibility; only functions with TSR_API leave it. */
#ifndef TSR_EXPORT_H
#define TSR_EXPORT_H

#if defined(__GNUC__) && __GNUC__ >= 4
#define TSR_API __attribute__((visibility("default")))
#else
#define TSR_API
#endif

/* Grows when the meaning of a public structure changes. */
enum { TSR_ABI_VERSION = 0 };

#endif /* TSR_EXPORT_H */
