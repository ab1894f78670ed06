/* region/region_names.c - the closed sets of tessera/region.h: one row a member, ComfyUI's spelling. */
#include <string.h>

#include "tessera/region.h"

static const char *const histories[] = { "keep", "restart" };
static const char *const seed_modes[] = { "ignore",    "fixed",     "seed+seed_2nd", "seed-seed_2nd",
                                          "increment", "decrement", "randomize" };
static const char *const recovery_modes[] = { "DISABLE", "ratio additional", "ratio between" };
static const char *const methods[] = { "linear", "slerp" };
static const char *const sharings[] = { "auto", "full", "crop", "couple" };
static const char *const policies[] = { "blend", "stack" };

#define COUNT(table) ((int)(sizeof(table) / sizeof *(table)))

static int find(const char *const *table, int count, const char *name) {
    for (int i = 0; name && i < count; i++)
        if (strcmp(table[i], name) == 0) return i;
    return -1;
}

static const char *at(const char *const *table, int count, int index) {
    return index < 0 || index >= count ? NULL : table[index];
}

int tsr_history_find(const char *name) {
    return find(histories, COUNT(histories), name);
}
int tsr_seed_2nd_mode_find(const char *name) {
    return find(seed_modes, COUNT(seed_modes), name);
}
int tsr_recovery_mode_find(const char *name) {
    return find(recovery_modes, COUNT(recovery_modes), name);
}
int tsr_variation_method_find(const char *name) {
    return find(methods, COUNT(methods), name);
}
const char *tsr_history_name(int history) {
    return at(histories, COUNT(histories), history);
}
const char *tsr_seed_2nd_mode_name(int mode) {
    return at(seed_modes, COUNT(seed_modes), mode);
}
const char *tsr_recovery_mode_name(int mode) {
    return at(recovery_modes, COUNT(recovery_modes), mode);
}
const char *tsr_variation_method_name(int method) {
    return at(methods, COUNT(methods), method);
}
int tsr_sharing_find(const char *name) {
    return find(sharings, COUNT(sharings), name);
}
int tsr_overlap_policy_find(const char *name) {
    return find(policies, COUNT(policies), name);
}
const char *tsr_sharing_name(int sharing) {
    return at(sharings, COUNT(sharings), sharing);
}
const char *tsr_overlap_policy_name(int policy) {
    return at(policies, COUNT(policies), policy);
}
