/* Runs that are stopped, saved and gone on with in a new plan: the result must be the same bits as without the stop, for
 * every sampler and at every event. States of other runs and damaged ones are refused. */
#include "gaussian.h"

enum { WIDTH = 8, HEIGHT = 6, BATCH = 2, STEPS = 4, REGIONS = 2 };

/* --- a scene, made anew for every run ---------------------------------------------------------------------------------------- */
typedef struct scene {
    gaussian g;
    gaussian_cond conds[3], negative;
    tsr_mask *masks[REGIONS];
    tsr_latent *latent;
    tsr_region_base base;
    tsr_region regions[REGIONS];
    tsr_regional_options options;
    tsr_ksampler_options lone; /* used when there are no regions */
    int n_regions;
} scene;

static tsr_status couple(void *user, const void **out, const void *const *conds, const float *const *weights, int n,
                         int height, int width, tsr_error *err) {
    (void)user;
    (void)weights;
    (void)height;
    (void)width;
    (void)err;
    assert_true(n > 1);
    *out = conds[1]; /* the network of this test has no room for two */
    return TSR_OK;
}

static void uncouple(void *user, const void *cond) {
    (void)user;
    assert_non_null(cond);
}

static void scene_init(scene *s, int n_regions) {
    static const tsr_region_base base = TSR_REGION_BASE_INIT;
    static const tsr_region region = TSR_REGION_INIT;
    static const tsr_regional_options options = TSR_REGIONAL_OPTIONS_INIT;
    static const tsr_ksampler_options lone = TSR_KSAMPLER_OPTIONS_INIT;
    memset(s, 0, sizeof *s);
    gaussian_init(&s->g, 0.18215f);
    s->g.denoiser.native_size = 4;
    s->g.denoiser.couple = couple;
    s->g.denoiser.uncouple = uncouple;
    s->latent = zero_latent(BATCH, 2, HEIGHT, WIDTH);
    for (size_t i = 0; i < tsr_latent_count(s->latent); i++) s->latent->values[i] = 0.3f * sinf((float)i);
    s->masks[0] = box_mask(8 * WIDTH, 8 * HEIGHT, 0, 0, 24, 48);
    s->masks[1] = box_mask(8 * WIDTH, 8 * HEIGHT, 24, 8, 24, 32);
    for (int k = 0; k < 3; k++) s->conds[k] = (gaussian_cond){ 0.4f * (float)k - 0.5f, 0.6f + 0.1f * (float)k };
    s->negative = (gaussian_cond){ 0.1f, 1.0f };
    s->base = base;
    s->base.guide = (tsr_guide){ &s->g.denoiser, &s->conds[0], &s->negative, 3.0f, 0.0, 0.0 };
    for (int k = 0; k < REGIONS; k++) {
        s->regions[k] = region;
        s->regions[k].guide = (tsr_guide){ &s->g.denoiser, &s->conds[k + 1], &s->negative, 2.0f + (float)k, 0.0, 0.0 };
        s->regions[k].mask = s->masks[k];
    }
    s->options = options;
    s->options.steps = STEPS;
    s->options.seed = 7;
    s->lone = lone;
    s->lone.steps = STEPS;
    s->lone.seed = 7;
    s->n_regions = n_regions;
}

static void scene_clear(scene *s) {
    gaussian_clear(&s->g);
    for (int k = 0; k < REGIONS; k++) tsr_mask_free(s->masks[k]);
    tsr_latent_free(s->latent);
}

/* What a case changes of the scene above, for sampler number `index`. */
typedef void (*setting)(scene *s, int index);

/* --- runs -------------------------------------------------------------------------------------------------------------------- */
typedef struct watcher {
    int events, stop_at;        /* of all events; 0: never */
    int steps_seen, stop_steps; /* of ended steps; 0: never */
    void *state;                /* newest */
    size_t size;
    int saves;
} watcher;

static int on_progress(void *user, const tsr_progress *at) {
    watcher *w = user;
    w->events++;
    w->steps_seen += at->event == TSR_PROGRESS_STEP;
    return w->events == w->stop_at || (w->stop_steps && w->steps_seen == w->stop_steps);
}

static tsr_status on_save(void *user, const void *state, size_t size, tsr_error *err) {
    watcher *w = user;
    (void)err;
    free(w->state);
    w->state = malloc(size); /* exactly, so that a sanitizer sees a byte read past the end */
    assert_non_null(w->state);
    memcpy(w->state, state, size);
    w->size = size;
    w->saves++;
    return TSR_OK;
}

/* One run of the scene, from `state` or the start. */
static tsr_status run(tsr_latent **out, scene *s, const tsr_run_hooks *hooks, tsr_error *err) {
    tsr_plan *plan = NULL;
    *out = NULL;
    if (s->n_regions == 0) {
        s->lone.hooks = hooks;
        return tsr_ksampler(out, s->latent, &s->base.guide, &s->lone, err);
    }
    tsr_status status = tsr_plan_new(&plan, &s->base, s->regions, s->n_regions, &s->options, s->latent->shape, err);
    if (status == TSR_OK) status = tsr_plan_run(out, plan, s->latent, hooks, err);
    tsr_plan_free(plan);
    return status;
}

static tsr_run_hooks hooks_of(watcher *w, const void *state, size_t size) {
    tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
    hooks.user = w;
    hooks.progress = on_progress;
    hooks.save = on_save;
    hooks.state = state;
    hooks.state_size = size;
    return hooks;
}

static tsr_latent *run_whole(setting set, int n_regions, int index, watcher *w) {
    scene s;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    scene_init(&s, n_regions);
    set(&s, index);
    tsr_run_hooks hooks = hooks_of(w, NULL, 0);
    hooks.save = NULL;
    expect_ok(run(&out, &s, &hooks, &err), &err);
    scene_clear(&s);
    return out;
}

static tsr_latent *go_on(setting set, int n_regions, int index, const watcher *from) {
    scene s;
    tsr_latent *out = NULL;
    watcher w = { 0 };
    tsr_error err = TSR_ERROR_INIT;
    scene_init(&s, n_regions);
    set(&s, index);
    tsr_run_hooks hooks = hooks_of(&w, from->state, from->size);
    expect_ok(run(&out, &s, &hooks, &err), &err);
    scene_clear(&s);
    assert_int_equal(w.saves, 0);
    return out;
}

static void expect_same(const tsr_latent *a, const tsr_latent *b, int index, int event) {
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    for (size_t i = 0; i < tsr_latent_count(a); i++)
        if (memcmp(&a->values[i], &b->values[i], sizeof(float)) != 0)
            fail_msg("%s, stopped at event %d: value %zu is %.9g, without the stop %.9g", tsr_sampler_name(index),
                     event, i, (double)a->values[i], (double)b->values[i]);
}

/* Stops at every event in turn; every time a fresh scene and plan go on from what was saved. */
static void stop_everywhere(setting set, int n_regions, int index) {
    watcher all = { 0 };
    tsr_latent *whole = run_whole(set, n_regions, index, &all);
    assert_true(all.events >= STEPS);
    for (int event = 1; event <= all.events; event++) {
        scene s;
        tsr_latent *out = NULL;
        tsr_error err = TSR_ERROR_INIT;
        watcher w = { .stop_at = event };
        scene_init(&s, n_regions);
        set(&s, index);
        tsr_run_hooks hooks = hooks_of(&w, NULL, 0);
        assert_int_equal(run(&out, &s, &hooks, &err), TSR_CANCELLED);
        assert_null(out);
        assert_int_equal(w.saves, 1);
        scene_clear(&s);
        out = go_on(set, n_regions, index, &w);
        expect_same(out, whole, index, event);
        tsr_latent_free(out);
        free(w.state);
    }
    tsr_latent_free(whole);
}

/* --- cases -------------------------------------------------------------------------------------------------------------------- */
static void set_lone(scene *s, int index) {
    s->lone.sampler = tsr_sampler_name(index);
    s->lone.scheduler = "karras";
}

static void set_lone_repaint(scene *s, int index) {
    set_lone(s, index);
    s->lone.denoise = 0.7;
    s->latent->noise_mask = box_mask(8 * WIDTH, 8 * HEIGHT, 8, 8, 40, 24);
}

static const char *keep_sampler(int index) {
    const char *name = tsr_sampler_name(index % tsr_sampler_count());
    return is_own_step_sampler(name) ? "euler" : name;
}

/* Soft masks, a window, another scheduler, varied noise: a bit of everything. */
static void set_keep(scene *s, int index) {
    s->base.sampler = keep_sampler(index);
    s->base.scheduler = "karras";
    s->regions[0].sampler = keep_sampler(index + 1);
    s->regions[0].feather_px = 12.0f;
    s->regions[0].variation_seed = 31;
    s->regions[0].variation_strength = 0.4f;
    s->regions[0].variation_method = TSR_VARIATION_SLERP;
    s->regions[1].sampler = keep_sampler(index + 7);
    s->regions[1].scheduler = "exponential";
    s->regions[1].strength = 0.6f;
    s->regions[1].start = 0.25f;
    s->regions[1].end = 0.8f;
    s->options.overlap = 8;
    s->options.base_only_steps = 1;
    s->options.sharing = TSR_SHARING_FULL;
}

static void set_keep_crop(scene *s, int index) {
    set_keep(s, index);
    s->options.sharing = TSR_SHARING_CROP;
    s->options.crop_context = 1;
    s->latent->noise_mask = box_mask(8 * WIDTH, 8 * HEIGHT, 8, 0, 40, 48);
}

static void set_couple(scene *s, int index) {
    s->base.sampler = keep_sampler(index);
    s->base.scheduler = "karras";
    for (int k = 0; k < REGIONS; k++) s->regions[k].guide.cfg = s->base.guide.cfg;
    s->options.sharing = TSR_SHARING_COUPLE;
    s->options.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    s->options.steps = STEPS + 2;
    s->options.start_step = 1;
    s->options.end_step = STEPS + 1;
    s->options.leftover_noise = 1;
}

static void set_restart(scene *s, int index) {
    s->base.sampler = tsr_sampler_name(index);
    s->base.scheduler = "karras";
    s->regions[0].sampler = tsr_sampler_name((index + 1) % tsr_sampler_count());
    s->regions[0].variation_seed = 3;
    s->regions[0].variation_strength = 0.5f;
    s->options.history = TSR_HISTORY_RESTART;
    s->options.overlap = 3;
    s->options.base_only_steps = 2;
    s->options.seed_2nd = 11;
    s->options.seed_2nd_mode = TSR_SEED_2ND_FIXED;
    s->options.recovery_mode = TSR_RECOVERY_RATIO_BETWEEN;
}

static void set_restart_advanced(scene *s, int index) {
    set_restart(s, index);
    s->options.system = TSR_SYSTEM_REGIONAL_ADVANCED;
    s->options.start_step = 1;
    s->options.restore_latent = 0;
    s->options.recovery_mode = TSR_RECOVERY_RATIO_ADDITIONAL;
    s->options.recovery_sampler = "heun";
    s->latent->noise_mask = box_mask(8 * WIDTH, 8 * HEIGHT, 8, 0, 40, 48);
}

/* A change map: grey from left to right. */
static void add_change_map(scene *s, double base, double regions) {
    tsr_mask_free(s->latent->noise_mask);
    s->latent->noise_mask = box_mask(8 * WIDTH, 8 * HEIGHT, 0, 0, 8 * WIDTH, 8 * HEIGHT);
    for (int i = 0; i < 64 * WIDTH * HEIGHT; i++)
        s->latent->noise_mask->values[i] = (float)(i % (8 * WIDTH)) / (float)(8 * WIDTH - 1);
    s->base.guide.differential = base;
    for (int k = 0; k < REGIONS; k++) s->regions[k].guide.differential = regions;
}

static void set_lone_change_map(scene *s, int index) {
    set_lone(s, index);
    s->lone.denoise = 0.7;
    add_change_map(s, 1.0, 0.0);
}

static void set_keep_change_map(scene *s, int index) {
    set_keep_crop(s, index);
    add_change_map(s, 0.6, 1.0);
}

static void set_restart_change_map(scene *s, int index) {
    set_restart_advanced(s, index);
    add_change_map(s, 1.0, 0.5);
}

static const struct one_case {
    setting set;
    int n_regions;
    int stride; /* of the samplers that are stopped at every event */
} cases[] = { { set_lone, 0, 1 },
              { set_lone_repaint, 0, 3 },
              { set_keep, 2, 1 },
              { set_keep_crop, 2, 3 },
              { set_couple, 2, 3 },
              { set_restart, 2, 1 },
              { set_restart_advanced, 2, 3 },
              { set_lone_change_map, 0, 5 },
              { set_keep_change_map, 2, 5 },
              { set_restart_change_map, 2, 5 } };
enum { CASES = sizeof cases / sizeof *cases };

static void resume__is_bit_equal_for_every_sampler_at_every_event(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++)
        for (int i = 0; i < tsr_sampler_count(); i += cases[c].stride)
            stop_everywhere(cases[c].set, cases[c].n_regions, i);
}

/* Stopped after each of its steps, as an impatient person would. */
static void resume__goes_on_from_what_was_gone_on_with(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++) {
        int index = tsr_sampler_find("dpmpp_2m_sde"), runs = 0;
        watcher none = { 0 }, last = { 0 };
        tsr_latent *whole = run_whole(cases[c].set, cases[c].n_regions, index, &none), *out = NULL;
        for (tsr_status status = TSR_CANCELLED; status == TSR_CANCELLED; runs++) {
            scene s;
            tsr_error err = TSR_ERROR_INIT;
            watcher w = { .stop_steps = 1 };
            scene_init(&s, cases[c].n_regions);
            cases[c].set(&s, index);
            tsr_run_hooks hooks = hooks_of(&w, last.state, last.size);
            status = run(&out, &s, &hooks, &err);
            if (status != TSR_CANCELLED) expect_ok(status, &err);
            scene_clear(&s);
            free(last.state);
            last = w;
        }
        assert_true(runs > STEPS - 2);
        expect_same(out, whole, index, 0);
        free(last.state);
        tsr_latent_free(out);
        tsr_latent_free(whole);
    }
}

/* Keeps every state it is given. */
typedef struct album {
    watcher pages[64];
    int n;
} album;

static tsr_status on_page(void *user, const void *state, size_t size, tsr_error *err) {
    album *a = user;
    assert_true(a->n < 64);
    return on_save(&a->pages[a->n++], state, size, err);
}

static void resume__states_between_steps_go_on_too(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++) {
        int index = tsr_sampler_find("uni_pc");
        watcher none = { 0 };
        tsr_latent *whole = run_whole(cases[c].set, cases[c].n_regions, index, &none), *out = NULL;
        album every = { 0 }, second = { 0 };
        for (int k = 1; k <= 2; k++) {
            scene s;
            tsr_error err = TSR_ERROR_INIT;
            tsr_run_hooks hooks = TSR_RUN_HOOKS_INIT;
            scene_init(&s, cases[c].n_regions);
            cases[c].set(&s, index);
            hooks.user = k == 1 ? &every : &second;
            hooks.save = on_page;
            hooks.save_steps = k;
            expect_ok(run(&out, &s, &hooks, &err), &err);
            expect_same(out, whole, index, -k); /* saving changes nothing */
            tsr_latent_free(out);
            scene_clear(&s);
        }
        assert_in_range(every.n, STEPS - 2, STEPS + 1);
        assert_in_range(second.n, 1, every.n - 1);
        for (int i = 0; i < every.n; i++) {
            out = go_on(cases[c].set, cases[c].n_regions, index, &every.pages[i]);
            expect_same(out, whole, index, i);
            tsr_latent_free(out);
            free(every.pages[i].state);
        }
        for (int i = 0; i < second.n; i++) free(second.pages[i].state);
        tsr_latent_free(whole);
    }
}

/* --- refusals ----------------------------------------------------------------------------------------------------------------- */
static watcher stopped(setting set, int n_regions, int event) {
    scene s;
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    watcher w = { .stop_at = event };
    scene_init(&s, n_regions);
    set(&s, 1);
    tsr_run_hooks hooks = hooks_of(&w, NULL, 0);
    assert_int_equal(run(&out, &s, &hooks, &err), TSR_CANCELLED);
    scene_clear(&s);
    return w;
}

static void expect_refused(scene *s, const watcher *from, tsr_status expected, const char *word) {
    tsr_latent *out = NULL;
    tsr_error err = TSR_ERROR_INIT;
    watcher w = { 0 };
    tsr_run_hooks hooks = hooks_of(&w, from->state, from->size);
    tsr_status status = run(&out, s, &hooks, &err);
    if (status != expected)
        fail_msg("%s instead of %s: %s", tsr_status_name(status), tsr_status_name(expected), err.message);
    assert_null(out);
    assert_int_equal(s->g.evaluations, 0);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not say %s", err.message, word);
    assert_null(strchr(err.message, '\n'));
}

static void resume__refuses_states_of_other_runs(void **state) {
    watcher keep = stopped(set_keep, 2, 5), lone = stopped(set_lone, 0, 3);
    (void)state;
    for (int change = 0; change < 11; change++) {
        static const char *const words[] = { "plan", "plan",  "region", "region",
                                             "mask", "start", "latent", "without regions",
                                             "base", "plan",  "base" };
        scene s;
        scene_init(&s, 2);
        set_keep(&s, 1);
        if (change == 0) s.options.seed++;
        if (change == 1) s.options.sharing = TSR_SHARING_CROP;
        if (change == 2) s.regions[1].sampler = "lms";
        if (change == 3) s.regions[0].variation_seed++;
        if (change == 4) s.masks[1]->values[700] = 0.5f;
        if (change == 5) s.latent->values[3] += 1.0f;
        if (change == 6) {
            tsr_latent_free(s.latent);
            s.latent = zero_latent(1, 2, HEIGHT, WIDTH);
        }
        if (change == 8) s.base.guide.cfg = 4.0f;
        if (change == 9) s.options.steps++;
        if (change == 10) s.base.guide.differential = 0.5;
        expect_refused(&s, change == 7 ? &lone : &keep, TSR_BAD_ARGUMENT, words[change]);
        scene_clear(&s);
    }
    for (int change = 0; change < 4; change++) {
        scene s;
        scene_init(&s, 0);
        set_lone(&s, 1);
        if (change == 0) s.lone.seed++;
        if (change == 1) s.lone.sampler = "heun";
        if (change == 3) s.base.guide.differential = 1.0;
        expect_refused(&s, change == 2 ? &keep : &lone, TSR_BAD_ARGUMENT, change == 2 ? "with regions" : "sampler");
        scene_clear(&s);
    }
    free(keep.state);
    free(lone.state);
}

/* As the frame's own checksum is made: for states that lie with care. */
static void seal(watcher *w) {
    unsigned char *bytes = w->state;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < w->size - 8; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    for (int i = 0; i < 8; i++) bytes[w->size - 8 + (size_t)i] = (unsigned char)(hash >> (8 * i));
}

static void flip(watcher *w, size_t at, unsigned char bits) {
    unsigned char *bytes = w->state;
    if (at < w->size) bytes[at] ^= bits;
}

static void resume__refuses_damage(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++) {
        watcher whole = stopped(cases[c].set, cases[c].n_regions, 4), part = { 0 };
        scene s;
        scene_init(&s, cases[c].n_regions);
        cases[c].set(&s, 1);
        for (size_t size = 0; size < whole.size; size += size < 200 ? 1 : 97) {
            (void)on_save(&part, whole.state, size ? size : 1, NULL);
            part.size = size;
            expect_refused(&s, &part, TSR_BAD_FORMAT, "state");
        }
        for (size_t at = 0; at < whole.size; at += at < 200 ? 1 : 211) {
            (void)on_save(&part, whole.state, whole.size, NULL);
            flip(&part, at, 0x11);
            expect_refused(&s, &part, at >= 8 && at < 12 ? TSR_UNSUPPORTED : TSR_BAD_FORMAT, "state");
        }
        (void)on_save(&part, whole.state, whole.size, NULL);
        flip(&part, 8, 2);
        seal(&part);
        expect_refused(&s, &part, TSR_UNSUPPORTED, "version");
        scene_clear(&s);
        free(part.state);
        free(whole.state);
    }
}

/* A sealed state with any byte changed must end in a latent or in a failure that says why, and never in a crash. */
static void resume__survives_sealed_lies(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++) {
        watcher whole = stopped(cases[c].set, cases[c].n_regions, 4), part = { 0 };
        int refused = 0;
        for (size_t at = 36; at < whole.size - 8; at += at < 400 ? 1 : 251) {
            scene s;
            tsr_latent *out = NULL;
            tsr_error err = TSR_ERROR_INIT;
            watcher w = { 0 };
            scene_init(&s, cases[c].n_regions);
            cases[c].set(&s, 1);
            (void)on_save(&part, whole.state, whole.size, NULL);
            flip(&part, at, 0x81);
            seal(&part);
            tsr_run_hooks hooks = hooks_of(&w, part.state, part.size);
            if (run(&out, &s, &hooks, &err) != TSR_OK) {
                refused++;
                assert_null(out);
                assert_true(err.message[0]);
            }
            tsr_latent_free(out);
            scene_clear(&s);
        }
        assert_true(refused > 64); /* all marks, at least */
        free(part.state);
        free(whole.state);
    }
}

static tsr_status on_full_disk(void *user, const void *state, size_t size, tsr_error *err) {
    (void)state;
    (void)size;
    (void)user;
    if (err) {
        err->status = TSR_IO;
        snprintf(err->message, sizeof err->message, "no space left");
    }
    return TSR_IO;
}

static void resume__a_save_that_fails_is_told(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++)
        for (int stops = 0; stops < 2; stops++) {
            scene s;
            tsr_latent *out = NULL;
            tsr_error err = TSR_ERROR_INIT;
            watcher w = { .stop_at = stops ? 3 : 0 };
            scene_init(&s, cases[c].n_regions);
            cases[c].set(&s, 1);
            tsr_run_hooks hooks = hooks_of(&w, NULL, 0);
            hooks.save = on_full_disk;
            hooks.save_steps = stops ? 0 : 1;
            assert_int_equal(run(&out, &s, &hooks, &err), TSR_IO);
            assert_null(out);
            assert_string_equal(err.message, "no space left");
            scene_clear(&s);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume__is_bit_equal_for_every_sampler_at_every_event),
        cmocka_unit_test(resume__goes_on_from_what_was_gone_on_with),
        cmocka_unit_test(resume__states_between_steps_go_on_too),
        cmocka_unit_test(resume__refuses_states_of_other_runs),
        cmocka_unit_test(resume__refuses_damage),
        cmocka_unit_test(resume__survives_sealed_lies),
        cmocka_unit_test(resume__a_save_that_fails_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
