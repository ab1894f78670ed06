/* core/suggest.c - edit distance between short names. */
#include "suggest.h"

#include <stddef.h>
#include <string.h>

enum { MAX_NAME = 64 };

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int least(int a, int b, int c) {
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance; b has at most MAX_NAME characters. */
static int distance(const char *a, const char *b) {
    int row[MAX_NAME + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + (lower(a[i - 1]) != lower(b[j - 1])));
            diagonal = above;
        }
    }
    return row[n];
}

const char *tsr__suggest(const char *name, const char *(*name_at)(int), int count) {
    const char *best = NULL;
    int best_distance = 0;
    if (!name || !*name || strlen(name) > MAX_NAME) return NULL;
    for (int i = 0; i < count; i++) {
        const char *candidate = name_at(i);
        if (!candidate || strlen(candidate) > MAX_NAME) continue;
        int d = distance(name, candidate);
        if (!best || d < best_distance) {
            best = candidate;
            best_distance = d;
        }
    }
    /* Further away than half of the word is another word. */
    return best && best_distance <= ((int)strlen(name) + 1) / 2 ? best : NULL;
}
