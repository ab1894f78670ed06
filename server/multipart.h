/* server/multipart.h - multipart/form-data (RFC 7578) in memory, without copying its parts. */
#ifndef TSR_SERVER_MULTIPART_H
#define TSR_SERVER_MULTIPART_H

#include <stddef.h>

enum { SRV_FORM_PARTS = 32, SRV_PART_NAME = 64, SRV_PART_FILENAME = 256 };

typedef struct srv_part {
    char name[SRV_PART_NAME];
    char filename[SRV_PART_FILENAME]; /* "" when it is no file */
    const char *data;                 /* inside the body */
    size_t size;
} srv_part;

typedef struct srv_form {
    srv_part parts[SRV_FORM_PARTS];
    int count;
} srv_form;

/* content_type may be NULL: then the body's own first line tells the boundary. NULL, or what is wrong with the body. */
const char *srv_form_parse(srv_form *out, const char *content_type, const void *body, size_t size);
const srv_part *srv_form_part(const srv_form *form, const char *name); /* the first of that name, or NULL */
/* The part as text in out: 1; 0 when absent; -1 when it is too long, or no text. */
int srv_form_text(char *out, size_t out_size, const srv_form *form, const char *name);

#endif /* TSR_SERVER_MULTIPART_H */
