/* engine/scene_numbers.c - numbers, boxes and sizes in a scene's texts, whatever the program's locale.
 *
 * Knows nothing of options. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/scene_priv.h"

/* strtod and printf follow the program's locale; scenes do not. */
static char decimal_point(void) {
    const struct lconv *conventions = localeconv();
    return conventions && conventions->decimal_point && conventions->decimal_point[0] ? conventions->decimal_point[0]
                                                                                      : '.';
}

int tsr__parse_number(const char *text, double *out) {
    char copy[64], *end = NULL, *point;
    size_t n = strlen(text);
    if (n == 0 || n >= sizeof copy || strspn(text, "+-0123456789.eE") != n) return 0;
    memcpy(copy, text, n + 1);
    if ((point = strchr(copy, '.')) != NULL) *point = decimal_point();
    *out = strtod(copy, &end);
    return end == copy + n && isfinite(*out);
}

void tsr__print_number(char *out, size_t size, double value) {
    snprintf(out, size, "%.9g", value);
    char *point = strchr(out, decimal_point());
    if (point) *point = '.';
}

/* One edge of a box: pixels, or percent of `whole`. */
static int parse_length(const char *text, size_t n, int whole, int *out) {
    char copy[32];
    double value;
    int percent = n > 0 && text[n - 1] == '%';
    if (n == 0 || n >= sizeof copy) return 0;
    memcpy(copy, text, n);
    copy[n - (size_t)percent] = 0;
    if (!tsr__parse_number(copy, &value) || value < 0 || value > 65536) return 0;
    *out = (int)lround(percent ? value * whole / 100.0 : value);
    return 1;
}

int tsr__parse_box(const char *text, int width, int height, int box[4]) {
    for (int i = 0; i < 4; i++) {
        size_t n = strcspn(text, ":");
        if (!parse_length(text, n, i % 2 ? height : width, &box[i])) return 0;
        text += n;
        if (i < 3 && *text++ != ':') return 0;
    }
    return *text == 0;
}

static int parse_size(const char *text, size_t *out) {
    static const struct {
        const char *unit;
        double bytes;
    } units[] = { { "B", 1 },    { "kB", 1e3 },     { "KB", 1e3 },     { "MB", 1e6 },
                  { "GB", 1e9 }, { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 } };
    char number[32];
    double value;
    size_t n = strspn(text, "0123456789.");
    if (n == 0 || n >= sizeof number) return 0;
    memcpy(number, text, n);
    number[n] = 0;
    if (!tsr__parse_number(number, &value)) return 0;
    for (text += n; *text == ' ';) text++;
    *out = 0;
    if (!*text) return value == 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text, units[i].unit) != 0) continue;
        if (value * units[i].bytes > 0x1p50) return 0;
        *out = (size_t)(value * units[i].bytes);
        return 1;
    }
    return 0;
}

tsr_status tsr_size_parse(size_t *out, const char *text, tsr_error *err) {
    *out = 0;
    if (parse_size(text, out)) return TSR_OK;
    return tsr__fail(err, TSR_BAD_ARGUMENT, "'%.64s' is not a size such as 6GB, 512MB or 1.5GiB, nor 0", text);
}
