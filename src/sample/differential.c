/* sample/differential.c - see differential.h. */
#include "sample/differential.h"

tsr__differential tsr__differential_of(double strength, const tsr_sigma_table *table, const float *sigmas, int n) {
    tsr__differential rule = { 0 };
    if (strength == 0.0) return rule;
    float lowest = tsr_sigma_table_min(table), end = sigmas[n - 1];
    rule.strength = strength;
    rule.table = table;
    rule.first = tsr_timestep_of_sigma(table, sigmas[0]);
    rule.last = tsr_timestep_of_sigma(table, end > lowest ? end : lowest);
    return rule;
}

/* A run within one timestep divides by zero: NaN, which no mask reaches, so that nothing is painted. The reference does that. */
tsr__mask_step tsr__differential_at(const tsr__differential *rule, float sigma) {
    tsr__mask_step step = { 0.0f, 0.0f, 1.0f };
    if (rule->strength == 0.0) return step;
    step.threshold = (tsr_timestep_of_sigma(rule->table, sigma) - rule->last) / (rule->first - rule->last);
    step.hard = (float)rule->strength;
    step.soft = (float)(1.0 - rule->strength);
    return step;
}
