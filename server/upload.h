/* server/upload.h - pictures that clients send: what they are, and under which name they stay. */
#ifndef TSR_SERVER_UPLOAD_H
#define TSR_SERVER_UPLOAD_H

#include "request.h"

int srv_upload_image(srv_request *request); /* POST /upload/image */
int srv_upload_mask(srv_request *request);  /* POST /upload/mask */

/* The folder of a ComfyUI type ("input", "output", "temp"); NULL for another. */
const char *srv_folder_of(const srv_context *context, const char *type);
/* "name.png [input]": cuts the annotation off and returns its type, or NULL when there is none. */
const char *srv_cut_annotation(char *name);
/* The HTTP status that says why a file cannot be had. */
int srv_answer_no_file(srv_request *request, const tsr_error *err);
/* Decodes a picture; one at a time, since the largest takes a gigabyte. TOO_LARGE also over 64 megapixels. */
tsr_status srv_picture_decode(tsr_image **out, srv_context *context, const void *data, size_t size, tsr_error *err);

#endif /* TSR_SERVER_UPLOAD_H */
