/* engine/workflow_text.h - the JSON of ComfyUI's workflows, with integers beyond int64 and NaN, as Python writes it. */
#ifndef TSR_WORKFLOW_TEXT_H
#define TSR_WORKFLOW_TEXT_H

#include <jansson.h>

#include "tessera/status.h"
#include <stddef.h>

#define TSR__WORKFLOW_TEXT_MAX ((size_t)64 << 20)

/* Integers that jansson cannot hold become strings that start with TSR__BIG_MARK; _dump undoes that. */
#define TSR__BIG_MARK '\x01'
tsr_status tsr__workflow_parse(json_t **out, const char *text, size_t size, tsr_error *err);
char *tsr__workflow_dump(const json_t *json, size_t flags); /* release with free(); NULL: no memory */

#endif /* TSR_WORKFLOW_TEXT_H */
