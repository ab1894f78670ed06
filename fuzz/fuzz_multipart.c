/* fuzz_multipart.c - upload forms: parts lie inside the body, and their names are text.
 *
 * The first line of the input is the Content-Type; an empty one means that none was sent. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http_text.h"
#include "multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static srv_form form;
    const uint8_t *line_end = size ? memchr(data, '\n', size) : NULL;
    char type[256], text[64];
    size_t length = line_end ? (size_t)(line_end - data) : size;
    if (!line_end || length >= sizeof type) return 0;
    memcpy(type, data, length);
    type[length] = 0;
    size_t body_size = size - length - 1;
    char *body = malloc(body_size + 1); /* of its own, so that a read beyond it is seen */
    if (!body) return 0;
    memcpy(body, line_end + 1, body_size);
    const char *fault = srv_form_parse(&form, *type ? type : NULL, body, body_size);
    if (fault && !*fault) abort();
    for (int i = 0; !fault && i < form.count; i++) {
        const srv_part *part = &form.parts[i];
        if (part->data < body || part->data > body + body_size || part->size > (size_t)(body + body_size - part->data))
            abort();
        if (!srv_is_utf8(part->name, strlen(part->name)) || !srv_form_part(&form, part->name)) abort();
        srv_form_text(text, sizeof text, &form, part->name);
    }
    free(body);
    return 0;
}
