/* image_jpeg.c - JPEG through libjpeg; texts in one EXIF segment.
 *
 * libjpeg reports errors by longjmp. Everything that lives across a jump is in a struct the jump does not touch. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "core/memory.h"
#include "picture_priv.h"

#define EXIF_HEADER      6     /* "Exif\0\0" */
#define SEGMENT_MAX      65533 /* an APP1 segment without its length */
#define SCANS_MAX        500   /* a progressive file of a few bytes a scan could otherwise work for hours */
#define GOOD_QUALITY     90    /* from here on colour keeps its full resolution */
#define DECODE_BYTES_MAX (2L << 30)

typedef struct job {
    struct jpeg_error_mgr manager; /* first: libjpeg hands back its address */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct reader;
    struct jpeg_compress_struct writer;
    jmp_buf jump;
    tsr_error *err;
    tsr_status status;
    tsr_image *image;   /* reading */
    unsigned char *out; /* writing: libjpeg's buffer */
    unsigned long out_size;
} job;

static void on_error(j_common_ptr common) {
    job *j = (job *)common->err;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    if (j->status == TSR_OK) j->status = tsr__fail(j->err, TSR_BAD_FORMAT, "JPEG: %s", text);
    longjmp(j->jump, 1);
}

/* libjpeg paints what is missing of a cut-off file grey and only warns; that is not the picture. */
static void on_message(j_common_ptr common, int level) {
    if (level < 0 && common->err->msg_code == JWRN_JPEG_EOF) {
        job *j = (job *)common->err;
        j->status = tsr__fail(j->err, TSR_BAD_FORMAT, "JPEG: the file is cut off");
        longjmp(j->jump, 1);
    }
}

static void on_progress(j_common_ptr common) {
    job *j = (job *)common->err;
    if (j->reader.input_scan_number <= SCANS_MAX) return;
    j->status = tsr__fail(j->err, TSR_TOO_LARGE, "JPEG: more than %d scans", SCANS_MAX);
    longjmp(j->jump, 1);
}

static struct jpeg_error_mgr *init_manager(job *j) {
    jpeg_std_error(&j->manager);
    j->manager.error_exit = on_error;
    j->manager.emit_message = on_message;
    return &j->manager;
}

static void read_pixels(job *j, const unsigned char *data, size_t size) {
    j->reader.err = init_manager(j);
    if (setjmp(j->jump)) return;
    jpeg_create_decompress(&j->reader);
    jpeg_mem_src(&j->reader, data, (unsigned long)size);
    jpeg_save_markers(&j->reader, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&j->reader, TRUE);
    if (j->reader.jpeg_color_space == JCS_CMYK || j->reader.jpeg_color_space == JCS_YCCK) {
        j->status = tsr__fail(j->err, TSR_UNSUPPORTED, "JPEG: CMYK colours; convert the picture to RGB");
        return;
    }
    j->status = tsr__image_new_loaded(&j->image, "JPEG", j->reader.image_width, j->reader.image_height, 3, j->err);
    if (j->status != TSR_OK) return;
    j->progress.progress_monitor = on_progress;
    j->reader.progress = &j->progress;
    j->reader.mem->max_memory_to_use = DECODE_BYTES_MAX;
    j->reader.out_color_space = JCS_RGB;
    jpeg_start_decompress(&j->reader);
    while (j->reader.output_scanline < j->reader.output_height) {
        JSAMPROW row = j->image->pixels + (size_t)j->reader.output_scanline * (size_t)j->image->width * 3;
        jpeg_read_scanlines(&j->reader, &row, 1);
    }
}

tsr_status tsr__jpeg_decode(tsr_image **out, const unsigned char *data, size_t size, tsr_error *err) {
    tsr_status status = TSR_OK;
    job j = { .err = err };
    int orientation = 1;
    *out = NULL;
    read_pixels(&j, data, size);
    TSR_TRY(j.status);
    tsr__text_sink sink = { j.image, 0, 0 };
    for (jpeg_saved_marker_ptr m = j.reader.marker_list; m; m = m->next)
        if (m->data_length > EXIF_HEADER && !memcmp(m->data, "Exif\0", EXIF_HEADER))
            TSR_TRY(tsr__exif_read(&sink, &orientation, m->data + EXIF_HEADER, m->data_length - EXIF_HEADER, err));
    TSR_TRY(tsr__image_orient(j.image, orientation, err));
    *out = j.image;
    j.image = NULL;
done:
    jpeg_destroy_decompress(&j.reader);
    tsr_image_free(j.image);
    return status;
}

static void write_pixels(job *j, const tsr_image *image, int quality, const tsr__bytes *exif) {
    j->writer.err = init_manager(j);
    if (setjmp(j->jump)) return;
    jpeg_create_compress(&j->writer);
    jpeg_mem_dest(&j->writer, &j->out, &j->out_size);
    j->writer.image_width = (JDIMENSION)image->width;
    j->writer.image_height = (JDIMENSION)image->height;
    j->writer.input_components = 3;
    j->writer.in_color_space = JCS_RGB;
    jpeg_set_defaults(&j->writer);
    jpeg_set_quality(&j->writer, quality, TRUE);
    j->writer.optimize_coding = TRUE;
    if (quality >= GOOD_QUALITY) j->writer.comp_info[0].h_samp_factor = j->writer.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&j->writer, TRUE);
    if (exif->size) jpeg_write_marker(&j->writer, JPEG_APP0 + 1, exif->data, (unsigned)exif->size);
    while (j->writer.next_scanline < j->writer.image_height) {
        JSAMPROW row = image->pixels + (size_t)j->writer.next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(&j->writer, &row, 1);
    }
    jpeg_finish_compress(&j->writer);
}

tsr_status tsr__jpeg_encode(tsr__bytes *out, const tsr_image *image, int quality, tsr_error *err) {
    tsr_status status = TSR_OK;
    job j = { .err = err };
    tsr__bytes exif = { NULL, 0, 0 };
    if (image->channels != 3)
        TSR_FAIL(err, TSR_UNSUPPORTED, "JPEG has no transparency; save as PNG or WebP, or drop the alpha channel");
    if (image->text_count) {
        TSR_TRY(tsr__bytes_add(&exif, "Exif\0", EXIF_HEADER, err));
        TSR_TRY(tsr__exif_write(&exif, image, err));
    }
    if (exif.size > SEGMENT_MAX)
        TSR_FAIL(err, TSR_TOO_LARGE,
                 "the texts take %zu bytes and a JPEG holds %d; save as PNG or WebP, or without them", exif.size,
                 SEGMENT_MAX);
    write_pixels(&j, image, quality, &exif);
    TSR_TRY(j.status);
    TSR_TRY(tsr__bytes_add(out, j.out, j.out_size, err));
done:
    jpeg_destroy_compress(&j.writer);
    free(j.out);
    tsr__bytes_clear(&exif);
    return status;
}
