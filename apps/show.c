/* apps/show.c - pictures as coloured characters, by libchafa. */
#include "show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifdef TESSERA_HAVE_CHAFA
#include <chafa.h>

int can_show(void) {
    return isatty(STDOUT_FILENO);
}

static ChafaCanvasMode color_mode(void) {
    const char *color = getenv("COLORTERM");
    if (color && (strcmp(color, "truecolor") == 0 || strcmp(color, "24bit") == 0)) return CHAFA_CANVAS_MODE_TRUECOLOR;
    return CHAFA_CANVAS_MODE_INDEXED_256;
}

int show_image(const tsr_image *image) {
    struct winsize window = { 0 };
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    int columns = window.ws_col ? window.ws_col : 80, rows = window.ws_row > 4 ? window.ws_row - 2 : 24;
    if (columns > 64) columns = 64;
    if (rows > 32) rows = 32;
    /* A character is about twice as high as wide. */
    chafa_calc_canvas_geometry(image->width, image->height, &columns, &rows, 0.5f, TRUE, FALSE);
    ChafaSymbolMap *symbols = chafa_symbol_map_new();
    chafa_symbol_map_add_by_tags(symbols, CHAFA_SYMBOL_TAG_BLOCK | CHAFA_SYMBOL_TAG_SPACE);
    ChafaCanvasConfig *config = chafa_canvas_config_new();
    chafa_canvas_config_set_geometry(config, columns, rows);
    chafa_canvas_config_set_canvas_mode(config, color_mode());
    chafa_canvas_config_set_symbol_map(config, symbols);
    ChafaCanvas *canvas = chafa_canvas_new(config);
    chafa_canvas_draw_all_pixels(canvas, image->channels == 4 ? CHAFA_PIXEL_RGBA8_UNASSOCIATED : CHAFA_PIXEL_RGB8,
                                 image->pixels, image->width, image->height, image->width * image->channels);
    GString *text = chafa_canvas_print(canvas, NULL);
    fwrite(text->str, 1, text->len, stdout);
    fputc('\n', stdout);
    fflush(stdout);
    g_string_free(text, TRUE);
    chafa_canvas_unref(canvas);
    chafa_canvas_config_unref(config);
    chafa_symbol_map_unref(symbols);
    return rows;
}

#else

int can_show(void) {
    return 0;
}

int show_image(const tsr_image *image) {
    (void)image;
    return 0;
}

#endif
