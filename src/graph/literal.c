/* graph/literal.c - a JSON literal as the type its input wants, by ComfyUI's casts (int(), float(), str(), bool()). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_priv.h"

/* A literal as text, without the mark of a big integer; NULL when it is no string. */
static const char *text_of(const json_t *value) {
    const char *text = json_string_value(value);
    return text && *text == TSR__BIG_MARK ? text + 1 : text;
}

/* 1 when `text` is a whole number of at most 64 bits (with sign: 63). */
static int parse_whole(const char *text, int64_t *integer, uint64_t *bits) {
    char *end = NULL;
    while (*text == ' ') text++;
    errno = 0;
    if (*text == '-') {
        *integer = strtoll(text, &end, 10);
        *bits = (uint64_t)*integer;
    } else {
        *bits = strtoull(text, &end, 10);
        *integer = *bits > INT64_MAX ? INT64_MAX : (int64_t)*bits;
    }
    return end != text && *end == 0 && errno == 0;
}

/* A whole number beyond 64 bits: a number above (or below) every range. */
static int cast_huge(tsr__value *v, const char *text) {
    if (text[strspn(text, " -0123456789")]) return 0;
    v->number = nextafter(strtod(text, NULL), *text == '-' ? -INFINITY : INFINITY);
    v->integer = v->number < 0.0 ? INT64_MIN : INT64_MAX;
    v->bits = v->number < 0.0 ? 0 : UINT64_MAX;
    return isfinite(v->number);
}

static int cast_int(tsr__value *v, const json_t *value) {
    errno = 0;
    if (json_is_integer(value)) {
        v->integer = json_integer_value(value);
        v->bits = (uint64_t)v->integer;
    } else if (json_is_real(value)) {
        double real = json_real_value(value);
        if (!(fabs(real) < 9.2e18)) return 0;
        v->integer = (int64_t)real;
        v->bits = (uint64_t)v->integer;
    } else if (json_is_boolean(value)) {
        v->integer = json_is_true(value);
        v->bits = (uint64_t)v->integer;
    } else if (!text_of(value) || !parse_whole(text_of(value), &v->integer, &v->bits)) {
        return errno == ERANGE && cast_huge(v, text_of(value));
    }
    v->number = v->integer < 0 ? (double)v->integer : (double)v->bits;
    return 1;
}

static int cast_float(tsr__value *v, const json_t *value) {
    char *end = NULL;
    if (json_is_number(value)) {
        v->number = json_number_value(value);
    } else if (json_is_boolean(value)) {
        v->number = json_is_true(value);
    } else {
        const char *text = text_of(value);
        if (!text) return 0;
        v->number = strtod(text, &end);
        if (end == text || *end) return 0;
    }
    return isfinite(v->number);
}

static int cast_boolean(tsr__value *v, const json_t *value) {
    const char *text = text_of(value);
    if (text) v->boolean = *text != 0 && strcmp(text, "false") != 0 && strcmp(text, "False") != 0;
    else if (json_is_number(value)) v->boolean = json_number_value(value) != 0.0;
    else if (json_is_boolean(value)) v->boolean = json_is_true(value);
    else return 0;
    return 1;
}

/* str(): numbers become text; objects and null do not. */
static int cast_text(tsr__value *v, const json_t *value) {
    if (text_of(value)) v->text = tsr__strdup(text_of(value));
    else if (json_is_integer(value)) v->text = tsr__format("%lld", (long long)json_integer_value(value));
    else if (json_is_real(value)) v->text = tsr__format("%g", json_real_value(value));
    else if (json_is_boolean(value)) v->text = tsr__strdup(json_is_true(value) ? "True" : "False");
    return v->text != NULL;
}

static int cast(tsr__value *v, const json_t *value) {
    switch (v->type) {
    case TSR__V_INT: return cast_int(v, value);
    case TSR__V_FLOAT: return cast_float(v, value);
    case TSR__V_BOOLEAN: return cast_boolean(v, value);
    case TSR__V_STRING:
    case TSR__V_COMBO: return cast_text(v, value);
    default: return 0;
    }
}

tsr_status tsr__literal(tsr__value **out, const tsr__input *input, const json_t *value, tsr_error *err) {
    tsr_status status = tsr__value_new(out, input->type, err);
    if (status != TSR_OK) return status;
    if (!cast(*out, tsr__unwrap(value))) {
        tsr__value_unref(*out);
        *out = NULL;
    }
    return TSR_OK;
}
