/* test_image.c - pictures and their texts through every format, and files that are broken on purpose. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <png.h>
#include <zlib.h>

#include "tessera/image.h"

static const char UNICODE_TEXT[] = "\xe9\xbe\x8d, caf\xc3\xa9 & \xf0\x9f\x8c\xbb (sunflower:1.2)\nSteps: 20";

static tsr_image *make_image(int width, int height, int channels) {
    tsr_image *image = NULL;
    assert_int_equal(TSR_OK, tsr_image_new(&image, width, height, channels, NULL));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                image->pixels[(y * width + x) * channels + c] = (unsigned char)(x * 3 + y * 5 + c * 40);
    return image;
}

/* A JSON-like text of about `size` letters. */
static char *long_text(size_t size) {
    static const char piece[] = "{\"node\": [1, 2.5, \"a:b\"]},";
    char *text = malloc(size + 1);
    for (size_t i = 0; i < size; i++) text[i] = piece[i % (sizeof piece - 1)];
    text[size] = 0;
    return text;
}

static void add_texts(tsr_image *image, size_t workflow_size) {
    char *workflow = long_text(workflow_size);
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "parameters", UNICODE_TEXT, NULL));
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "prompt", "{\"3\": {\"text\": \"\xc3\xbc\"}}", NULL));
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "workflow", workflow, NULL));
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "tessera", "{\"regions\": []}", NULL));
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "Creation: Time", "", NULL));
    free(workflow);
}

static tsr_image *reload(const tsr_image *image, const char *extension, int quality) {
    void *data = NULL;
    size_t size = 0;
    tsr_image *again = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr_image_save_memory(&data, &size, image, extension, quality, &err) != TSR_OK) fail_msg("%s", err.message);
    if (tsr_image_load_memory(&again, data, size, &err) != TSR_OK) fail_msg("%s", err.message);
    free(data);
    return again;
}

static void assert_same_texts(const tsr_image *a, const tsr_image *b) {
    assert_int_equal(a->text_count, b->text_count);
    for (int i = 0; i < a->text_count; i++) {
        const char *text = tsr_image_text(b, a->texts[i].key);
        assert_non_null(text);
        assert_string_equal(a->texts[i].text, text);
    }
}

static void assert_same_pixels(const tsr_image *a, const tsr_image *b) {
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_int_equal(a->channels, b->channels);
    assert_memory_equal(a->pixels, b->pixels, (size_t)a->width * (size_t)a->height * (size_t)a->channels);
}

static void lossless__gives_back_pixels_and_texts(void **state) {
    static const char *const extensions[] = { ".png", ".webp", "Name.With.PNG" };
    (void)state;
    for (int e = 0; e < 3; e++)
        for (int channels = 3; channels <= 4; channels++) {
            tsr_image *image = make_image(37, 19, channels);
            add_texts(image, 200000);
            tsr_image *again = reload(image, extensions[e], 100);
            assert_same_pixels(image, again);
            assert_same_texts(image, again);
            tsr_image_free(image);
            tsr_image_free(again);
        }
}

static void lossy__gives_back_texts_and_nearly_the_pixels(void **state) {
    static const char *const extensions[] = { ".jpg", ".JPEG", ".webp" };
    (void)state;
    for (int e = 0; e < 3; e++) {
        tsr_image *image = NULL;
        assert_int_equal(TSR_OK, tsr_image_new(&image, 64, 40, 3, NULL));
        for (int i = 0; i < 64 * 40 * 3; i++) image->pixels[i] = (unsigned char)(i / 192 * 4 + i % 3 * 30);
        add_texts(image, 30000);
        tsr_image *again = reload(image, extensions[e], 95);
        assert_same_texts(image, again);
        assert_int_equal(64, again->width);
        assert_int_equal(40, again->height);
        int worst = 0;
        for (int i = 0; i < 64 * 40 * 3; i++)
            if (abs(image->pixels[i] - again->pixels[i]) > worst) worst = abs(image->pixels[i] - again->pixels[i]);
        assert_true(worst <= 12);
        tsr_image_free(image);
        tsr_image_free(again);
    }
}

static void webp__lossy_keeps_alpha_and_texts(void **state) {
    (void)state;
    tsr_image *image = make_image(16, 16, 4);
    add_texts(image, 100);
    tsr_image *again = reload(image, ".webp", 80);
    assert_int_equal(4, again->channels);
    for (int i = 0; i < 256; i++) assert_int_equal(image->pixels[i * 4 + 3], again->pixels[i * 4 + 3]);
    assert_same_texts(image, again);
    tsr_image_free(image);
    tsr_image_free(again);
}

static void jpeg__says_why_it_cannot(void **state) {
    void *data = NULL;
    size_t size = 0;
    tsr_error err = TSR_ERROR_INIT;
    char *text = long_text(70000);
    (void)state;
    tsr_image *alpha = make_image(8, 8, 4), *plain = make_image(8, 8, 3);
    assert_int_equal(TSR_UNSUPPORTED, tsr_image_save_memory(&data, &size, alpha, ".jpg", 0, NULL));
    assert_null(data);
    assert_int_equal(TSR_OK, tsr_image_set_text(plain, "tessera", text, NULL));
    assert_int_equal(TSR_TOO_LARGE, tsr_image_save_memory(&data, &size, plain, ".jpg", 0, &err));
    assert_non_null(strstr(err.message, "PNG or WebP"));
    tsr_image_free(alpha);
    tsr_image_free(plain);
    free(text);
}

static void png__refuses_keys_it_cannot_hold(void **state) {
    static const char *const bad[] = { " a", "a ", "a  b", "a\nb", "\xe9\xbe\x8d" };
    void *data = NULL;
    size_t size = 0;
    (void)state;
    for (int i = 0; i < 5; i++) {
        tsr_image *image = make_image(2, 2, 3), *again = NULL;
        assert_int_equal(TSR_OK, tsr_image_set_text(image, bad[i], "x", NULL));
        assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_save_memory(&data, &size, image, ".png", 0, NULL));
        assert_null(data);
        again = reload(image, ".webp", 0); /* EXIF has no such rule */
        assert_same_texts(image, again);
        tsr_image_free(again);
        tsr_image_free(image);
    }
    tsr_image *latin = make_image(2, 2, 3), *again = NULL;
    assert_int_equal(TSR_OK, tsr_image_set_text(latin, "r\xc3\xa9gion", "\xc3\xa9", NULL));
    again = reload(latin, ".png", 0);
    assert_same_texts(latin, again);
    tsr_image_free(again);
    tsr_image_free(latin);
}

static void texts__replace_and_refuse(void **state) {
    tsr_image *image = make_image(2, 2, 3);
    (void)state;
    assert_null(tsr_image_text(image, "a"));
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "a", "1", NULL));
    assert_int_equal(TSR_OK, tsr_image_set_text(image, "a", "2", NULL));
    assert_int_equal(1, image->text_count);
    assert_string_equal("2", tsr_image_text(image, "a"));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_set_text(image, "", "x", NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_set_text(image, "b", "\xff\xfe", NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_set_text(image, "b", "\xed\xa0\x80", NULL));
    char key[16];
    for (int i = 1; i < 1024; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(TSR_OK, tsr_image_set_text(image, key, "x", NULL));
    }
    assert_int_equal(TSR_TOO_LARGE, tsr_image_set_text(image, "one more", "x", NULL));
    tsr_image *again = reload(image, ".png", 0);
    assert_same_texts(image, again);
    tsr_image_free(again);
    tsr_image_free(image);
}

/* A PNG of libpng's own making: any depth and colour type, row bytes counting up. */
static unsigned char *foreign_png(size_t *size, int depth, int type, int width, int height, int interlace) {
    char *data = NULL;
    FILE *stream = open_memstream(&data, size);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_color palette[4] = { { 10, 20, 30 }, { 40, 50, 60 }, { 70, 80, 90 }, { 100, 110, 120 } };
    png_byte clear[4] = { 255, 128, 0, 255 };
    png_init_io(png, stream);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, type, interlace, 0, 0);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 4);
        png_set_tRNS(png, info, clear, 4, NULL);
    }
    png_write_info(png, info);
    png_bytep rows[64];
    size_t row_bytes = png_get_rowbytes(png, info);
    for (int y = 0; y < height; y++) {
        rows[y] = malloc(row_bytes);
        for (size_t i = 0; i < row_bytes; i++)
            rows[y][i] = (png_byte)(type == PNG_COLOR_TYPE_PALETTE ? 0x1b
                                    : depth == 16 && i % 2         ? 0xfe
                                                                   : i * 7 + (size_t)y);
    }
    png_write_image(png, rows);
    png_write_end(png, info);
    for (int y = 0; y < height; y++) free(rows[y]);
    png_destroy_write_struct(&png, &info);
    fclose(stream);
    return (unsigned char *)data;
}

static void png__of_other_kinds_becomes_rgb(void **state) {
    static const struct {
        int depth, type, channels;
        int first[4]; /* what the pixel at (1, 0) must be; 16-bit ones are rounded, not cut */
    } kinds[] = {
        { 8, PNG_COLOR_TYPE_GRAY, 3, { 7, 7, 7, 0 } },         { 1, PNG_COLOR_TYPE_GRAY, 3, { 0, 0, 0, 0 } },
        { 2, PNG_COLOR_TYPE_PALETTE, 4, { 40, 50, 60, 128 } }, { 8, PNG_COLOR_TYPE_GRAY_ALPHA, 4, { 14, 14, 14, 21 } },
        { 16, PNG_COLOR_TYPE_RGB, 3, { 43, 57, 71, 0 } },      { 16, PNG_COLOR_TYPE_RGB_ALPHA, 4, { 57, 71, 85, 99 } },
        { 8, PNG_COLOR_TYPE_RGB, 3, { 21, 28, 35, 0 } },
    };
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int interlace = 0; interlace < 2; interlace++) {
            size_t size = 0;
            unsigned char *data = foreign_png(&size, kinds[k].depth, kinds[k].type, 12, 9, interlace);
            tsr_image *image = NULL;
            tsr_error err = TSR_ERROR_INIT;
            if (tsr_image_load_memory(&image, data, size, &err) != TSR_OK) fail_msg("kind %zu: %s", k, err.message);
            assert_int_equal(kinds[k].channels, image->channels);
            for (int c = 0; c < image->channels; c++)
                assert_int_equal(kinds[k].first[c], image->pixels[image->channels + c]);
            tsr_image_free(image);
            free(data);
        }
}

static void truncated__is_an_error_at_every_length(void **state) {
    static const char *const extensions[] = { ".png", ".jpg", ".webp" };
    (void)state;
    for (int e = 0; e < 3; e++) {
        void *data = NULL;
        size_t size = 0;
        tsr_image *image = make_image(24, 24, 3), *again = NULL;
        add_texts(image, 300);
        assert_int_equal(TSR_OK, tsr_image_save_memory(&data, &size, image, extensions[e], 90, NULL));
        /* The last two bytes of a JPEG are its end mark, which a picture can do without. */
        for (size_t n = 0; n < size - 2; n++) {
            unsigned char *part = malloc(n ? n : 1); /* exact size, for the address sanitizer */
            memcpy(part, data, n);
            tsr_error err = TSR_ERROR_INIT;
            tsr_status status = tsr_image_load_memory(&again, part, n, &err);
            /* A JPEG may already hold every pixel a few bits before its data ends. */
            if (status == TSR_OK && (e != 1 || n + 6 < size))
                fail_msg("%s loads from %zu of %zu", extensions[e], n, size);
            if (status != TSR_OK) assert_null(again);
            if (status != TSR_OK) assert_true(err.message[0] != 0);
            tsr_image_free(again);
            free(part);
        }
        tsr_image_free(image);
        free(data);
    }
}

static void damaged__never_harms(void **state) {
    static const char *const extensions[] = { ".png", ".jpg", ".webp" };
    (void)state;
    int refused = 0;
    for (int e = 0; e < 3; e++) {
        void *data = NULL;
        size_t size = 0;
        tsr_image *image = make_image(16, 16, 3), *again = NULL;
        add_texts(image, 60);
        assert_int_equal(TSR_OK, tsr_image_save_memory(&data, &size, image, extensions[e], 90, NULL));
        unsigned char *bytes = data;
        for (size_t i = 0; i < size; i++)
            for (int flip = 0; flip < 2; flip++) {
                unsigned char old = bytes[i];
                bytes[i] ^= flip ? 0xff : 0x81;
                tsr_error err = TSR_ERROR_INIT;
                tsr_status status = tsr_image_load_memory(&again, bytes, size, &err);
                refused += status != TSR_OK;
                assert_true((status == TSR_OK) == (again != NULL));
                tsr_image_free(again);
                bytes[i] = old;
            }
        tsr_image_free(image);
        free(data);
    }
    assert_true(refused > 100);
}

static void put_u32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* The PNG with one more chunk behind its header. */
static unsigned char *insert_chunk(size_t *out_size, const unsigned char *png, size_t size, const char *type,
                                   const void *data, size_t length) {
    unsigned char *out = malloc(size + length + 12);
    memcpy(out, png, 33);
    put_u32(out + 33, (uint32_t)length);
    memcpy(out + 37, type, 4);
    memcpy(out + 41, data, length);
    put_u32(out + 41 + length, (uint32_t)crc32(crc32(0, NULL, 0), out + 37, (uInt)length + 4));
    memcpy(out + 45 + length, png + 33, size - 33);
    *out_size = size + length + 12;
    return out;
}

static tsr_status load_with_chunk(tsr_image **out, const char *type, const void *data, size_t length) {
    size_t png_size = 0, size = 0;
    unsigned char *png = foreign_png(&png_size, 8, PNG_COLOR_TYPE_RGB, 4, 4, 0);
    unsigned char *all = insert_chunk(&size, png, png_size, type, data, length);
    tsr_status status = tsr_image_load_memory(out, all, size, NULL);
    free(png);
    free(all);
    return status;
}

static void png__foreign_texts(void **state) {
    unsigned char packed[300] = "Title\0";
    uLongf packed_size = sizeof packed - 7;
    tsr_image *image = NULL;
    (void)state;
    assert_int_equal(TSR_OK, load_with_chunk(&image, "tEXt", "Author\0caf\xe9", 11));
    assert_string_equal("caf\xc3\xa9", tsr_image_text(image, "Author"));
    tsr_image_free(image);
    assert_int_equal(Z_OK, compress(packed + 7, &packed_size, (const Bytef *)"zipped", 6));
    assert_int_equal(TSR_OK, load_with_chunk(&image, "zTXt", packed, 7 + packed_size));
    assert_string_equal("zipped", tsr_image_text(image, "Title"));
    tsr_image_free(image);
    memmove(packed + 10, packed + 7, packed_size);
    memcpy(packed, "Title\0\1\0\0", 10);
    assert_int_equal(TSR_OK, load_with_chunk(&image, "iTXt", packed, 10 + packed_size));
    assert_string_equal("zipped", tsr_image_text(image, "Title"));
    tsr_image_free(image);
    assert_int_equal(TSR_BAD_FORMAT, load_with_chunk(&image, "tEXt", "no zero", 7));
    assert_int_equal(TSR_BAD_FORMAT, load_with_chunk(&image, "iTXt", "a\0\1", 3));
    assert_int_equal(TSR_BAD_FORMAT, load_with_chunk(&image, "zTXt", "a\0\0junk", 7));
    assert_int_equal(TSR_BAD_FORMAT, load_with_chunk(&image, "zTXt", "a\0", 2));
    assert_null(image);
}

static void texts__of_ten_megabytes_come_back(void **state) {
    static const char *const extensions[] = { ".png", ".webp" };
    char *text = long_text(10000000);
    (void)state;
    for (int e = 0; e < 2; e++) {
        tsr_image *image = make_image(4, 4, 3);
        assert_int_equal(TSR_OK, tsr_image_set_text(image, "workflow", text, NULL));
        tsr_image *again = reload(image, extensions[e], 0);
        assert_same_texts(image, again);
        tsr_image_free(again);
        tsr_image_free(image);
    }
    free(text);
}

static void png__bomb_of_text_is_refused(void **state) {
    size_t plain = (size_t)70 << 20;
    uLongf size = compressBound(plain);
    unsigned char *zeros = malloc(plain), *packed = malloc(size + 7);
    tsr_image *image = NULL;
    (void)state;
    memset(zeros, 'a', plain);
    memcpy(packed, "Title\0", 7);
    assert_int_equal(Z_OK, compress2(packed + 7, &size, zeros, plain, 1));
    assert_int_equal(TSR_TOO_LARGE, load_with_chunk(&image, "zTXt", packed, size + 7));
    assert_null(image);
    free(zeros);
    free(packed);
}

static void png__hostile_numbers_are_refused(void **state) {
    size_t size = 0;
    unsigned char *png = foreign_png(&size, 8, PNG_COLOR_TYPE_RGB, 4, 4, 0);
    tsr_image *image = NULL;
    tsr_error err = TSR_ERROR_INIT;
    (void)state;
    unsigned char *longer = insert_chunk(&size, png, size, "tEXt", "a\0b", 3);
    put_u32(longer + 33, 0x7fffffff);
    assert_int_equal(TSR_BAD_FORMAT, tsr_image_load_memory(&image, longer, size, &err));
    put_u32(longer + 33, 0xfffffff8);
    assert_int_equal(TSR_BAD_FORMAT, tsr_image_load_memory(&image, longer, size, NULL));
    put_u32(longer + 16, 20000); /* width */
    err = (tsr_error)TSR_ERROR_INIT;
    assert_int_equal(TSR_TOO_LARGE, tsr_image_load_memory(&image, longer, size, &err));
    assert_non_null(strstr(err.message, "16384"));
    put_u32(longer + 16, 16384);
    put_u32(longer + 20, 16384);
    assert_int_equal(TSR_BAD_FORMAT, tsr_image_load_memory(&image, longer, size, NULL)); /* too short for that */
    assert_null(image);
    free(png);
    free(longer);
}

/* A small JPEG with this APP1 segment behind its start mark. */
static tsr_image *load_with_exif(const unsigned char *tiff, size_t tiff_size) {
    void *data = NULL;
    size_t size = 0;
    tsr_image *plain = make_image(10, 6, 3), *again = NULL;
    assert_int_equal(TSR_OK, tsr_image_save_memory(&data, &size, plain, ".jpg", 95, NULL));
    unsigned char *all = malloc(size + tiff_size + 10);
    size_t length = tiff_size + 8;
    memcpy(all, data, 2);
    const unsigned char head[10] = {
        0xff, 0xe1, (unsigned char)(length >> 8), (unsigned char)length, 'E', 'x', 'i', 'f'
    };
    memcpy(all + 2, head, 10);
    memcpy(all + 12, tiff, tiff_size);
    memcpy(all + 12 + tiff_size, (unsigned char *)data + 2, size - 2);
    assert_int_equal(TSR_OK, tsr_image_load_memory(&again, all, size + tiff_size + 10, NULL));
    tsr_image_free(plain);
    free(data);
    free(all);
    return again;
}

static void exif__of_other_programs(void **state) {
    (void)state;
    /* Little-endian: orientation 6, Make "workflow:{}", Model "Canon", comment "UNICODE" with big-endian letters (as
     * piexif writes them whatever the block's order). */
    static const unsigned char tiff[] = "II*\0\x08\0\0\0\x04\0"
                                        "\x0f\x01\x02\0\x0c\0\0\0\x3e\0\0\0"
                                        "\x10\x01\x02\0\x06\0\0\0\x4a\0\0\0"
                                        "\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
                                        "\x69\x87\x04\0\x01\0\0\0\x50\0\0\0"
                                        "\0\0\0\0"
                                        "workflow:{}\0"
                                        "Canon\0"
                                        "\x01\0\x86\x92\x07\0\x0e\0\0\0\x62\0\0\0\0\0\0\0"
                                        "UNICODE\0\0c\0a\0t";
    tsr_image *image = load_with_exif(tiff, sizeof tiff - 1);
    assert_int_equal(6, image->width); /* turned */
    assert_int_equal(10, image->height);
    assert_int_equal(2, image->text_count);
    assert_string_equal("{}", tsr_image_text(image, "workflow"));
    assert_string_equal("cat", tsr_image_text(image, "parameters"));
    tsr_image_free(image);
}

static void exif__out_of_bounds_is_ignored(void **state) {
    (void)state;
    static const unsigned char far_text[] = "MM\0*\0\0\0\x08\0\x02"
                                            "\x01\x0f\0\x02\xff\xff\xff\xff\0\0\0\x08"
                                            "\x87\x69\0\x04\0\0\0\x01\xff\xff\xff\xf0"
                                            "\0\0\0\0";
    static const unsigned char loop[] = "MM\0*\0\0\0\x08\xff\xff"
                                        "\x87\x69\0\x04\0\0\0\x01\0\0\0\x08";
    tsr_image *image = load_with_exif(far_text, sizeof far_text - 1);
    assert_int_equal(0, image->text_count);
    tsr_image_free(image);
    image = load_with_exif(loop, sizeof loop - 1);
    assert_int_equal(0, image->text_count);
    tsr_image_free(image);
    image = load_with_exif((const unsigned char *)"MM\0*\xff\xff\xff\xff", 8);
    assert_int_equal(0, image->text_count);
    tsr_image_free(image);
}

/* Marks a corner by brightness and checks where each orientation puts it. */
static void exif__orientation_puts_the_corner_right(void **state) {
    /* For orientation 1..8: is the stored top-left corner shown at the right, at the bottom? */
    static const int right[9] = { 0, 0, 1, 1, 0, 0, 1, 1, 0 }, bottom[9] = { 0, 0, 0, 1, 1, 0, 0, 1, 1 };
    (void)state;
    for (int o = 1; o <= 8; o++) {
        unsigned char tiff[] = "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0";
        tiff[19] = (unsigned char)o;
        tsr_image *image = load_with_exif(tiff, sizeof tiff - 1);
        /* make_image grows brighter from the top left to the bottom right. */
        int w = image->width, h = image->height, x = right[o] ? w - 1 : 0, y = bottom[o] ? h - 1 : 0;
        assert_int_equal(o >= 5 ? 6 : 10, w);
        assert_true(image->pixels[(y * w + x) * 3] + 20 < image->pixels[((h - 1 - y) * w + (w - 1 - x)) * 3]);
        /* Along the stored rows brightness grows by 3 a pixel, along the columns by 5. */
        int ox = w - 1 - x, oy = h - 1 - y, along_x = image->pixels[(y * w + ox) * 3],
            along_y = image->pixels[(oy * w + x) * 3];
        if (o < 5) assert_true(abs(along_x - 27) < 8 && abs(along_y - 25) < 8);
        else assert_true(abs(along_x - 25) < 8 && abs(along_y - 27) < 8);
        tsr_image_free(image);
    }
}

static void save__writes_whole_files_or_none(void **state) {
    char folder[] = "/tmp/tessera-image-XXXXXX", path[64];
    tsr_error err = TSR_ERROR_INIT;
    tsr_image *image = make_image(5, 4, 3), *again = NULL;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    assert_int_equal(TSR_OK, tsr_image_save(image, path, 0, NULL));
    assert_int_equal(TSR_OK, tsr_image_load(&again, path, NULL));
    assert_same_pixels(image, again);
    tsr_image_free(again);
    unlink(path);
    snprintf(path, sizeof path, "%s/a.gif", folder);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_save(image, path, 0, &err));
    assert_non_null(strstr(err.message, "a.gif: unknown picture format"));
    snprintf(path, sizeof path, "%s/none/a.png", folder);
    assert_int_equal(TSR_IO, tsr_image_save(image, path, 0, NULL));
    assert_int_equal(TSR_NOT_FOUND, tsr_image_load(&again, path, NULL));
    snprintf(path, sizeof path, "%s/a.png", folder);
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_save(image, path, 101, NULL));
    assert_int_equal(0, rmdir(folder)); /* so nothing was left in it */
    tsr_image_free(image);
}

static void save__disk_full_is_one_line_and_no_file(void **state) {
    char folder[] = "/tmp/tessera-image-XXXXXX", path[64];
    tsr_error err = TSR_ERROR_INIT;
    struct rlimit old, small;
    tsr_image *image = make_image(200, 200, 3);
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    /* A limit on file sizes stands in for a full disk. */
    assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &old));
    small = old;
    small.rlim_cur = 100;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &small));
    tsr_status status = tsr_image_save(image, path, 0, &err);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &old));
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(TSR_IO, status);
    assert_non_null(strstr(err.message, path));
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(0, rmdir(folder)); /* so nothing was left in it */
    tsr_image_free(image);
}

static void floats__truncate_as_the_reference(void **state) {
    const float in[6] = { 0.0f, 1.0f, 0.5f, -3.0f, 7.0f, 0.9999f };
    const unsigned char want[6] = { 0, 255, 127, 0, 255, 254 };
    float back[6];
    tsr_image *image = NULL;
    (void)state;
    assert_int_equal(TSR_OK, tsr_image_from_floats(&image, in, 2, 1, NULL));
    assert_memory_equal(want, image->pixels, 6);
    tsr_image_to_floats(image, back);
    for (int i = 0; i < 6; i++) assert_true(back[i] == (float)want[i] / 255.0f);
    tsr_image_free(image);
}

static void sizes__are_checked(void **state) {
    tsr_image *image = NULL;
    (void)state;
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_new(&image, 0, 4, 3, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_new(&image, TSR_IMAGE_MAX_SIDE + 1, 4, 3, NULL));
    assert_int_equal(TSR_BAD_ARGUMENT, tsr_image_new(&image, 4, 4, 2, NULL));
    assert_int_equal(TSR_BAD_FORMAT, tsr_image_load_memory(&image, "GIF89a", 6, NULL));
    assert_null(image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lossless__gives_back_pixels_and_texts),
        cmocka_unit_test(lossy__gives_back_texts_and_nearly_the_pixels),
        cmocka_unit_test(webp__lossy_keeps_alpha_and_texts),
        cmocka_unit_test(jpeg__says_why_it_cannot),
        cmocka_unit_test(png__refuses_keys_it_cannot_hold),
        cmocka_unit_test(texts__replace_and_refuse),
        cmocka_unit_test(png__of_other_kinds_becomes_rgb),
        cmocka_unit_test(truncated__is_an_error_at_every_length),
        cmocka_unit_test(damaged__never_harms),
        cmocka_unit_test(png__foreign_texts),
        cmocka_unit_test(texts__of_ten_megabytes_come_back),
        cmocka_unit_test(png__bomb_of_text_is_refused),
        cmocka_unit_test(png__hostile_numbers_are_refused),
        cmocka_unit_test(exif__of_other_programs),
        cmocka_unit_test(exif__out_of_bounds_is_ignored),
        cmocka_unit_test(exif__orientation_puts_the_corner_right),
        cmocka_unit_test(save__writes_whole_files_or_none),
        cmocka_unit_test(save__disk_full_is_one_line_and_no_file),
        cmocka_unit_test(floats__truncate_as_the_reference),
        cmocka_unit_test(sizes__are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
