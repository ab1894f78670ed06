/* Nodes that prepare repainting, against numbers that tests/golden/make_repaint.py computed from their rules. */
#include "graph_fixture.h"
#include "node_runner.h"

static golden_file *file;

static tsr__value *mask_value(const golden_tensor *masks, int n) {
    tsr__value *value = NULL;
    assert_int_equal(tsr__value_masks(&value, n, (int)masks[0].shape[1], (int)masks[0].shape[0], NULL), TSR_OK);
    for (int i = 0; i < n; i++) memcpy(value->masks.items[i]->values, masks[i].data, masks[i].count * sizeof(float));
    return value;
}

static tsr__value *picture_value(golden_tensor picture, int n) {
    tsr__value *value = NULL;
    assert_int_equal(tsr__value_pictures(&value, n, (int)picture.shape[0], (int)picture.shape[1], 3, NULL), TSR_OK);
    for (int i = 0; i < n; i++)
        memcpy(value->pictures.values + (size_t)i * picture.count, picture.data, picture.count * sizeof(float));
    return value;
}

static void expect_mask(const tsr_mask *mask, const float *values, golden_tensor want, const char *name) {
    assert_int_equal(mask->width, want.shape[1]);
    assert_int_equal(mask->height, want.shape[0]);
    for (size_t i = 0; i < want.count; i++)
        if (values[i] != want.data[i])
            fail_msg("%s: %g at %zu, not %g", name, (double)values[i], i, (double)want.data[i]);
}

static void go(node_run *run) {
    if (node_go(run) != TSR_OK) fail_msg("%s", run->err.message);
}

/* The model's VAE, by its loader. */
static tsr__value *open_vae(tsr_graph *graph) {
    node_run run;
    node_begin(&run, "CheckpointLoaderSimple");
    run.call.graph = graph;
    run.values[0] = NULL;
    assert_int_equal(tsr__value_new(&run.values[0], TSR__V_COMBO, NULL), TSR_OK);
    run.values[0]->text = tsr__strdup("one.safetensors");
    go(&run);
    tsr__value *vae = tsr__value_ref(run.call.results[2]);
    node_end(&run);
    return vae;
}

static tsr_latent *encode(tsr_graph *graph, tsr__value *vae, tsr__value *pixels) {
    tsr_latent *latent = NULL;
    tsr_error err = TSR_ERROR_INIT;
    if (tsr__encode(&latent, graph, vae, &pixels->pictures, 0, &err) != TSR_OK) fail_msg("%s", err.message);
    return latent;
}

static void check_inpaint(tsr_graph *graph, tsr__value *vae, const char *name, int growth) {
    char number[8];
    golden_tensor mask = golden_get(file, "encode/%s/mask", name);
    tsr__value *pixels = picture_value(golden_get(file, "encode/%s/pixels", name), 1), *masks = mask_value(&mask, 1),
               *grey = picture_value(golden_get(file, "encode/%s/grey", name), 1);
    tsr_latent *want = encode(graph, vae, grey);
    node_run run;
    snprintf(number, sizeof number, "%d", growth);
    node_begin(&run, "VAEEncodeForInpaint");
    run.call.graph = graph;
    node_link(&run, "pixels", pixels);
    node_link(&run, "mask", masks);
    node_link(&run, "vae", vae);
    node_set(&run, "grow_mask_by", number);
    go(&run);
    const tsr_latent *got = run.call.results[0]->latent;
    assert_memory_equal(got->shape, want->shape, sizeof got->shape);
    assert_true(max_abs_diff(got->values, want->values, tsr_latent_count(want)) <= 1e-5);
    expect_mask(got->noise_mask, got->noise_mask->values, golden_get(file, "encode/%s/noise_mask/%d", name, growth),
                name);
    if (growth == 6) {
        tsr_mask *small = NULL;
        golden_tensor seen = golden_get(file, "latent/%s", name);
        assert_int_equal(tsr_mask_resize(&small, got->noise_mask, (int)seen.shape[1], (int)seen.shape[0], NULL),
                         TSR_OK);
        assert_true(max_abs_diff(small->values, seen.data, seen.count) <= 1e-6);
        tsr_mask_free(small);
    }
    node_end(&run);
    tsr_latent_free(want);
    tsr__value_unref(pixels);
    tsr__value_unref(masks);
    tsr__value_unref(grey);
}

static void inpaint__equals_the_rule_at_every_size(void **state) {
    static const char *const names[] = { "even", "odd", "high" };
    static const int growths[] = { 0, 1, 2, 6, 7 };
    fixture f;
    (void)state;
    fixture_open(&f, NULL);
    tsr__value *vae = open_vae(f.graph);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 5; k++) check_inpaint(f.graph, vae, names[i], growths[k]);
    tsr__value_unref(vae);
    fixture_close(&f);
}

/* Two pictures with a mask each are two calls; three masks fit nothing. */
static void inpaint__takes_a_mask_a_picture(void **state) {
    fixture f;
    node_run run;
    (void)state;
    fixture_open(&f, NULL);
    golden_tensor two[3] = { golden_get(file, "encode/odd/mask"), golden_get(file, "encode/odd/mask"),
                             golden_get(file, "encode/odd/mask") };
    tsr__value *vae = open_vae(f.graph), *pixels = picture_value(golden_get(file, "encode/odd/pixels"), 2),
               *masks = mask_value(two, 2), *three = mask_value(two, 3),
               *grey = picture_value(golden_get(file, "encode/odd/grey"), 1);
    memset(masks->masks.items[0]->values, 0, two[0].count * sizeof(float)); /* the first keeps everything */
    tsr_latent *want = encode(f.graph, vae, grey);
    for (int bad = 0; bad < 2; bad++) {
        node_begin(&run, "VAEEncodeForInpaint");
        run.call.graph = f.graph;
        node_link(&run, "pixels", pixels);
        node_link(&run, "mask", bad ? three : masks);
        node_link(&run, "vae", vae);
        assert_int_equal(node_go(&run), bad ? TSR_BAD_ARGUMENT : TSR_OK);
        if (bad) {
            assert_non_null(strstr(run.err.message, "3 masks for 2 pictures"));
            node_end(&run);
            continue;
        }
        const tsr_latent *got = run.call.results[0]->latent;
        size_t each = tsr_latent_count(got) / 2,
               plane = (size_t)got->noise_mask->width * (size_t)got->noise_mask->height;
        assert_int_equal(got->noise_mask->count, 2);
        for (size_t i = 0; i < plane; i++) assert_true(got->noise_mask->values[i] == 0.0f);
        expect_mask(got->noise_mask, got->noise_mask->values + plane, golden_get(file, "encode/odd/noise_mask/6"),
                    "second");
        assert_true(max_abs_diff(got->values + each, want->values, each) <= 1e-5);
        assert_true(max_abs_diff(got->values, want->values, each) > 0.05);
        node_end(&run);
    }
    tsr_latent_free(want);
    tsr__value_unref(vae);
    tsr__value_unref(pixels);
    tsr__value_unref(masks);
    tsr__value_unref(three);
    tsr__value_unref(grey);
    fixture_close(&f);
}

/* SetLatentNoiseMask keeps the mask as it is, at its size and with its soft values. */
static void noise_mask__is_kept_as_it_is(void **state) {
    node_run run;
    golden_tensor mask = golden_get(file, "encode/high/mask");
    tsr_latent *latent = NULL;
    tsr__value *samples = NULL, *masks = mask_value(&mask, 1);
    (void)state;
    assert_int_equal(tsr_latent_new(&latent, 1, 4, 4, 5, NULL), TSR_OK);
    assert_int_equal(tsr__value_take_latent(&samples, latent, NULL), TSR_OK);
    node_begin(&run, "SetLatentNoiseMask");
    node_link(&run, "samples", samples);
    node_link(&run, "mask", masks);
    go(&run);
    const tsr_mask *kept = run.call.results[0]->latent->noise_mask;
    expect_mask(kept, kept->values, mask, "high");
    node_end(&run);
    tsr__value_unref(samples);
    tsr__value_unref(masks);
}

/* The sides of a padded picture and its mask; the case is the numbers of its name. */
static void check_pad(const char *name) {
    static const char *const inputs[] = { "left", "top", "right", "bottom", "feathering" };
    int v[7];
    node_run run;
    tsr__value *image = NULL;
    const char *at = name;
    for (int i = 0; i < 7; i++) {
        char *end = NULL;
        v[i] = (int)strtol(at, &end, 10);
        at = end + (*end == ',');
    }
    assert_int_equal(tsr__value_pictures(&image, 1, v[1], v[0], 3, NULL), TSR_OK);
    for (int i = 0; i < 3 * v[0] * v[1]; i++) image->pictures.values[i] = 0.001f * (float)(i % 900);
    node_begin(&run, "ImagePadForOutpaint");
    node_link(&run, "image", image);
    for (int i = 0; i < 5; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", v[2 + i]);
        node_set(&run, inputs[i], number);
    }
    go(&run);
    const tsr_mask *mask = run.call.results[1]->masks.items[0];
    const tsr__pictures *p = &run.call.results[0]->pictures;
    golden_tensor want = golden_get(file, "pad/%s", name);
    expect_mask(mask, mask->values, want, name);
    assert_true(p->w == mask->width && p->h == mask->height);
    for (int y = 0; y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            int inside = x >= v[2] && x < v[2] + v[0] && y >= v[3] && y < v[3] + v[1];
            float expected = inside ? image->pictures.values[((y - v[3]) * v[0] + x - v[2]) * 3] : 0.5f;
            assert_true(p->values[(y * p->w + x) * 3] == expected);
        }
    node_end(&run);
    tsr__value_unref(image);
}

static void pad__equals_the_rule(void **state) {
    int found = 0;
    (void)state;
    for (size_t i = 0; i < golden_count(file); i++) {
        if (strncmp(golden_name(file, i), "pad/", 4) != 0) continue;
        check_pad(golden_name(file, i) + 4);
        found++;
    }
    assert_int_equal(found, 6);
}

static int open_file(void **state) {
    (void)state;
    file = golden_open("repaint.safetensors");
    return 0;
}

static int close_file(void **state) {
    (void)state;
    golden_close(file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inpaint__equals_the_rule_at_every_size),
        cmocka_unit_test(inpaint__takes_a_mask_a_picture),
        cmocka_unit_test(noise_mask__is_kept_as_it_is),
        cmocka_unit_test(pad__equals_the_rule),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
