/* region/plan_text.c - a plan in words, for --dry-run: who takes part, then the steps, equal ones folded. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "region/plan_priv.h"

/* Text that grows; after an allocation failure it stays as it is and `failed` tells. */
typedef struct text {
    char *data;
    size_t used, size;
    int failed;
} text;

static void add(text *t, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

static void add(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (need < 0 || t->failed) return;
    if (t->used + (size_t)need + 1 > t->size) {
        size_t size = 2 * t->size + (size_t)need + 256;
        char *grown = realloc(t->data, size);
        if (!grown) {
            t->failed = 1;
            return;
        }
        t->data = grown;
        t->size = size;
    }
    va_start(args, format);
    vsnprintf(t->data + t->used, t->size - t->used, format, args);
    va_end(args);
    t->used += (size_t)need;
}

int64_t tsr_plan_evaluations_of(const tsr_plan *plan, const tsr_denoiser *denoiser) {
    int64_t sum = 0;
    for (int k = 0; k < plan->n_actors; k++)
        if (plan->options.history == TSR_HISTORY_KEEP && plan->actors[k].guide.denoiser == denoiser)
            return plan->actors[k].network_evaluations;
    for (int i = 0; i < plan->n_ops; i++) {
        const tsr_plan_step *shown = &plan->ops[i].shown;
        if (shown->region >= 0 && plan->actors[shown->region].guide.denoiser == denoiser) sum += shown->evaluations;
    }
    return sum;
}

/* Networks are numbered as they come; the base's is 1. */
static int model_of(const tsr_plan *plan, int k) {
    int number = 0;
    for (int i = 0; i <= k; i++) {
        int first = 0;
        while (plan->actors[first].guide.denoiser != plan->actors[i].guide.denoiser) first++;
        if (first == i) number++;
        if (plan->actors[i].guide.denoiser == plan->actors[k].guide.denoiser) return number;
    }
    return number;
}

static int has_models(const tsr_plan *plan) {
    for (int k = 1; k < plan->n_actors; k++)
        if (plan->actors[k].guide.denoiser != plan->actors[0].guide.denoiser) return 1;
    return 0;
}

/* How much of the latent an actor paints, in percent. */
static double share_of(const tsr_plan *plan, int k) {
    const tsr__actor *actor = &plan->actors[k];
    double sum = 0.0;
    size_t count = (size_t)plan->shape[2] * (size_t)plan->shape[3];
    const float *values = actor->weights;
    if (!values) {
        const tsr_mask *mask = k == 0 ? plan->inverse : actor->grown;
        values = mask->values;
        count = (size_t)mask->width * (size_t)mask->height;
    }
    for (size_t i = 0; i < count; i++) sum += (double)values[i];
    return 100.0 * sum / (double)count;
}

static void add_actors(text *t, const tsr_plan *plan) {
    int keep = plan->options.history == TSR_HISTORY_KEEP;
    add(t, "history %s, %d steps, latent %dx%d, seed %llu, overlap %d%s\n", keep ? "keep" : "restart", plan->steps,
        plan->shape[3], plan->shape[2], (unsigned long long)plan->options.seed, plan->options.overlap,
        keep ? " px" : "");
    for (int k = 0; k < plan->n_actors; k++) {
        const tsr__actor *a = &plan->actors[k];
        add(t, "  %-20s %-20s %-14s cfg %-5.3g paints %.1f %%", a->label, a->sampler, a->scheduler,
            (double)a->guide.cfg, share_of(plan, k));
        if (has_models(plan)) add(t, ", model %d", model_of(plan, k));
        if (keep && !a->used) add(t, ", not evaluated");
        if (keep && k > 0 && a->used && (a->start > 0.0f || a->end < 1.0f))
            add(t, ", takes part in steps %d-%d", a->first + 1, a->last);
        if (keep && a->crop.width)
            add(t, ", its network sees %dx%d at %d,%d", a->crop.width, a->crop.height, a->crop.x, a->crop.y);
        if (keep && a->n_sigmas != plan->n_sigmas)
            add(t, ", %d steps of its own between the canvas steps", a->n_sigmas - plan->n_sigmas);
        if (a->variation_strength > 0.0f)
            add(t, ", noise varied %.2g %s seed %llu", (double)a->variation_strength,
                tsr_variation_method_name((int)a->variation_method), (unsigned long long)a->variation_seed);
        add(t, "\n");
    }
}

/* The way to share that runs, and what each would cost. */
static void add_sharing(text *t, const tsr_plan *plan) {
    tsr_plan_cost cost;
    if (plan->options.history != TSR_HISTORY_KEEP || plan->n_actors == 1) return;
    add(t, "  mode %s%s\n", tsr_sharing_name((int)plan->sharing),
        plan->options.sharing == TSR_SHARING_AUTO ? " (chosen; see docs/modes.md)" : "");
    for (int sharing = TSR_SHARING_FULL; sharing <= TSR_SHARING_COUPLE; sharing++) {
        if (tsr_plan_cost_of(plan, (tsr_sharing)sharing, &cost))
            add(t, "    %-7s %6lld evaluations, %.2f times the work of a plain run\n", tsr_sharing_name(sharing),
                (long long)cost.evaluations, cost.relative);
        else add(t, "    %-7s not available: %s\n", tsr_sharing_name(sharing), plan->no_couple);
    }
}

/* First op after those of the same step as op i. */
static int group_end(const tsr_plan *plan, int i) {
    int j = i + 1;
    while (j < plan->n_ops && plan->ops[j].shown.step == plan->ops[i].shown.step &&
           plan->ops[j].shown.phase == plan->ops[i].shown.phase)
        j++;
    return j;
}

static int same_group(const tsr_plan *plan, int a, int b, int n) {
    if (plan->ops[b].shown.step < 0 || group_end(plan, b) - b != n) return 0;
    for (int i = 0; i < n; i++) {
        const tsr__op *x = &plan->ops[a + i], *y = &plan->ops[b + i];
        if (x->shown.kind != y->shown.kind || x->shown.region != y->shown.region || x->shown.phase != y->shown.phase ||
            x->shown.evaluations != y->shown.evaluations || x->mask != y->mask || x->add_noise != y->add_noise ||
            x->uses_noise != y->uses_noise || x->leftover != y->leftover || x->seed != y->seed)
            return 0;
    }
    return 1;
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

static void add_call(text *t, const tsr_plan *plan, const tsr__op *op) {
    static const char *const masks[] = { "its own noise mask", "outside the regions", "inside its mask" };
    add(t, "%s: %s", plan->actors[op->shown.region].label, op->shown.sampler);
    if (op->shown.phase == TSR_PHASE_BASE_ONLY) add(t, ", %d steps alone", op->end - op->start);
    else add(t, ", %s", masks[op->mask]);
    if (op->add_noise || op->uses_noise) add(t, ", adds noise of seed %llu", (unsigned long long)op->seed);
    add(t, ", %lld evaluation%s", (long long)op->shown.evaluations, plural(op->shown.evaluations));
}

static void add_op(text *t, const tsr_plan *plan, const tsr__op *op) {
    int64_t n = op->shown.evaluations;
    switch (op->shown.kind) {
    case TSR_PLAN_NOISE:
        add(t, "noise of seed %llu%s", (unsigned long long)op->seed,
            tsr__plan_varies(plan) ? ", varied by region" : "");
        break;
    case TSR_PLAN_CALL: add_call(t, plan, op); break;
    case TSR_PLAN_COMPOSITE: add(t, "%s: put into the picture", plan->actors[op->shown.region].label); break;
    case TSR_PLAN_LOCKSTEP:
        add(t, "%s, %lld evaluation%s", op->shown.region < 0 ? "all together" : "base alone", (long long)n, plural(n));
        break;
    case TSR_PLAN_FINISH: add(t, "done"); break;
    }
}

static void add_group(text *t, const tsr_plan *plan, int first, int n, int last) {
    const tsr_plan_step *a = &plan->ops[first].shown, *b = &plan->ops[last].shown;
    int shown = first;
    while (shown + 1 < first + n && plan->ops[shown].shown.sigma_from <= 0.0f) shown++;
    float from = plan->ops[shown].shown.sigma_from, to = plan->ops[last + shown - first].shown.sigma_to;
    if (a->step < 0) {
        add(t, "  ");
    } else if (first == last && a->phase != TSR_PHASE_BASE_ONLY) {
        add(t, "  step %d (sigma %.4g to %.4g):%s", a->step + 1, (double)from, (double)to, n > 1 ? "" : " ");
    } else {
        int ends = first == last ? a->step + plan->ops[shown].end - plan->ops[shown].start : b->step + 1;
        if (a->kind == TSR_PLAN_LOCKSTEP) ends = b->step + 1;
        add(t, "  steps %d-%d (sigma %.4g to %.4g)%s:%s", a->step + 1, ends, (double)from, (double)to,
            first == last ? "" : ", each", n > 1 ? "" : " ");
    }
    for (int i = 0; i < n; i++) {
        if (i > 0) add(t, n > 1 ? "\n      " : "");
        if (i == 0 && n > 1) add(t, "\n      ");
        add_op(t, plan, &plan->ops[first + i]);
    }
    add(t, "\n");
}

/* What each network is asked, where there are several. */
static void add_models(text *t, const tsr_plan *plan) {
    int last = 0;
    for (int k = 0; has_models(plan) && k < plan->n_actors; k++) {
        int number = model_of(plan, k);
        if (number <= last) continue;
        last = number;
        add(t, "%s model %d: %lld", number == 1 ? ";" : ",", number,
            (long long)tsr_plan_evaluations_of(plan, plan->actors[k].guide.denoiser));
    }
    add(t, "\n");
}

tsr_status tsr_plan_text(char **out, const tsr_plan *plan, tsr_error *err) {
    tsr_status status = TSR_OK;
    text t = { 0 };
    *out = NULL;
    add_actors(&t, plan);
    add_sharing(&t, plan);
    for (int i = 0; i < plan->n_ops;) {
        int n = group_end(plan, i) - i, last = i;
        while (plan->ops[i].shown.step >= 0 && last + 2 * n <= plan->n_ops && same_group(plan, i, last + n, n))
            last += n;
        add_group(&t, plan, i, n, last);
        i = last + n;
    }
    add(&t, "%lld network evaluation%s", (long long)plan->evaluations, plural(plan->evaluations));
    add_models(&t, plan);
    for (int i = 0; i < plan->n_warnings; i++) add(&t, "note: %s\n", plan->warnings[i]);
    if (t.failed) TSR_FAIL(err, TSR_NO_MEMORY, "out of memory for the plan's text");
    *out = t.data;
    t.data = NULL;
done:
    free(t.data);
    return status;
}
