/* Scenes: the option table, values, regions from text, JSON, A1111 parameters, base64. No weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "engine/scene_priv.h"
#include "tessera/solver.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        if ((call) != TSR_OK) fail_msg("%s", err.message);                                                             \
    } while (0)

/* The call fails with that status and says all of `word`. */
#define FAILS(code, word, call)                                                                                        \
    do {                                                                                                               \
        tsr_error err = TSR_ERROR_INIT;                                                                                \
        assert_int_equal(call, code);                                                                                  \
        assert_int_equal(err.status, code);                                                                            \
        if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);                         \
    } while (0)

static tsr_scene *fresh(void) {
    tsr_scene *scene = NULL;
    OK(tsr_scene_new(&scene, &err));
    return scene;
}

static void scene__every_default_is_a_valid_value(void **state) {
    (void)state;
    for (int scope = 0; scope < 2; scope++) {
        for (int i = 0; i < tsr_option_count((tsr_option_scope)scope); i++) {
            const tsr_option_info *option = tsr_option_at((tsr_option_scope)scope, i);
            char *text = NULL;
            assert_true(*option->help && *option->group);
            assert_int_equal(tsr_option_find((tsr_option_scope)scope, option->key), i);
            if (!*option->default_text) continue;
            OK(tsr__option_normalise(&text, option, option->default_text, &err));
            assert_string_equal(text, option->default_text);
            free(text);
        }
    }
    assert_null(tsr_option_at(TSR_OPTIONS_SCENE, -1));
    assert_null(tsr_option_at(TSR_OPTIONS_REGION, tsr_option_count(TSR_OPTIONS_REGION)));
}

static void scene__values_get_one_spelling(void **state) {
    static const char *const rows[][3] = { { "steps", "020", "20" },      { "cfg", "4.50", "4.5" },
                                           { "cfg", "1e1", "10" },        { "seed", "007", "7" },
                                           { "seed", "-1", "random" },    { "restore-latent", "off", "false" },
                                           { "init-image", "a b", "a b" } };
    tsr_scene *scene = fresh();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(tsr_scene_set(scene, rows[i][0], rows[i][1], &err));
        assert_string_equal(tsr_scene_get(scene, rows[i][0]), rows[i][2]);
    }
    OK(tsr_scene_set(scene, "steps", NULL, &err));
    assert_string_equal(tsr_scene_get(scene, "steps"), "20");
    assert_false(tsr_scene_is_set(scene, "steps"));
    assert_null(tsr_scene_get(scene, "no_such"));
    tsr_scene_free(scene);
}

static void scene__bad_values_are_refused_and_leave_the_old(void **state) {
    tsr_scene *scene = fresh();
    (void)state;
    OK(tsr_scene_set(scene, "steps", "7", &err));
    FAILS(TSR_BAD_ARGUMENT, "1 to 10000", tsr_scene_set(scene, "steps", "0", &err));
    FAILS(TSR_BAD_ARGUMENT, "whole", tsr_scene_set(scene, "steps", "7.5", &err));
    FAILS(TSR_BAD_ARGUMENT, "whole", tsr_scene_set(scene, "steps", "", &err));
    FAILS(TSR_BAD_ARGUMENT, "number", tsr_scene_set(scene, "cfg", "inf", &err));
    FAILS(TSR_BAD_ARGUMENT, "number", tsr_scene_set(scene, "cfg", "0x10", &err));
    FAILS(TSR_BAD_ARGUMENT, "seed", tsr_scene_set(scene, "seed", "18446744073709551616", &err));
    FAILS(TSR_BAD_ARGUMENT, "keep|restart", tsr_scene_set(scene, "history", "kee", &err));
    FAILS(TSR_NOT_FOUND, "did you mean 'euler'", tsr_scene_set(scene, "sampler", "eulr", &err));
    FAILS(TSR_NOT_FOUND, "did you mean 'prompt'", tsr_scene_set(scene, "promt", "x", &err));
    FAILS(TSR_NOT_FOUND, "option of the command", tsr_scene_set(scene, "from", "x.png", &err));
    FAILS(TSR_BAD_ARGUMENT, "0x07", tsr_scene_set(scene, "prompt", "a\ab", &err));
    assert_string_equal(tsr_scene_get(scene, "steps"), "7");
    tsr_scene_free(scene);
}

static void scene__numbers_do_not_follow_the_locale(void **state) {
    tsr_scene *scene = fresh();
    (void)state;
    /* Where no such locale is installed the test still checks the ordinary path. */
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8")) print_message("de_DE is not installed\n");
    OK(tsr_scene_set(scene, "cfg", "4.25", &err));
    assert_string_equal(tsr_scene_get(scene, "cfg"), "4.25");
    assert_true(tsr__scene_number(scene, TSR__OPT_CFG) == 4.25);
    setlocale(LC_NUMERIC, "C");
    tsr_scene_free(scene);
}

static void scene__regions_parse_quotes_and_backslashes(void **state) {
    tsr_scene *scene = fresh();
    int index = -1;
    (void)state;
    OK(tsr_scene_parse_region(scene, "box=0:0:50%:100%,prompt=\"a \\\"red\\\" cat, sitting\", cfg=5,negative=a\\,b",
                              &index, &err));
    assert_int_equal(index, 0);
    assert_string_equal(tsr_scene_get_region(scene, 0, "prompt"), "a \"red\" cat, sitting");
    assert_string_equal(tsr_scene_get_region(scene, 0, "negative"), "a,b");
    assert_string_equal(tsr_scene_get_region(scene, 0, "cfg"), "5");
    OK(tsr_scene_set(scene, "sampler", "heun", &err));
    assert_string_equal(tsr_scene_get_region(scene, 0, "sampler"), "heun"); /* the scene's */
    assert_false(tsr_scene_region_is_set(scene, 0, "sampler"));
    OK(tsr_scene_parse_region(scene, "prompt=a cat, sitting, 2=2,sampler=euler, box=0:0:8:8,", &index, &err));
    assert_string_equal(tsr_scene_get_region(scene, 1, "prompt"), "a cat, sitting, 2=2");
    assert_string_equal(tsr_scene_get_region(scene, 1, "box"), "0:0:8:8");
    tsr_scene_free(scene);
}

static void scene__a_bad_region_leaves_the_scene_alone(void **state) {
    static const char *const bad[][2] = { { "", "empty" },
                                          { "box", "KEY=VALUE" },
                                          { "=a", "KEY=VALUE" },
                                          { "prompt=a, nois=b", "nois" },
                                          { "prompt=\"a", "not closed" },
                                          { "prompt=a,prompt=b", "twice" },
                                          { "boxx=0:0:1:1", "'box'" },
                                          { "box=0:0:0:8", "box" },
                                          { "box=0:0:8", "box" },
                                          { "color=#12345", "colour" },
                                          { "strength=1.5", "strength" } };
    tsr_scene *scene = fresh();
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tsr_error err = TSR_ERROR_INIT;
        assert_int_not_equal(tsr_scene_parse_region(scene, bad[i][0], NULL, &err), TSR_OK);
        if (!strstr(err.message, bad[i][1])) fail_msg("%s: '%s'", bad[i][0], err.message);
        assert_int_equal(tsr_scene_region_count(scene), 0);
    }
    tsr_scene_free(scene);
}

static void scene__boxes_in_pixels_and_percent(void **state) {
    int box[4];
    (void)state;
    assert_true(tsr__parse_box("10:20:30:40", 128, 64, box));
    assert_true(box[0] == 10 && box[1] == 20 && box[2] == 30 && box[3] == 40);
    assert_true(tsr__parse_box("25%:50%:75%:12.5%", 128, 64, box));
    assert_true(box[0] == 32 && box[1] == 32 && box[2] == 96 && box[3] == 8);
    assert_false(tsr__parse_box("1:2:3:4:5", 128, 64, box));
    assert_false(tsr__parse_box("-1:2:3:4", 128, 64, box));
    assert_false(tsr__parse_box("1::3:4", 128, 64, box));
}

static void scene__check_names_what_does_not_fit(void **state) {
    tsr_scene *scene = fresh();
    (void)state;
    OK(tsr_scene_check(scene, &err));
    OK(tsr_scene_set(scene, "width", "100", &err));
    FAILS(TSR_BAD_ARGUMENT, "try 104", tsr_scene_check(scene, &err));
    OK(tsr_scene_set(scene, "width", NULL, &err));
    OK(tsr_scene_set(scene, "denoise", "0.5", &err));
    FAILS(TSR_BAD_ARGUMENT, "init_image", tsr_scene_check(scene, &err));
    OK(tsr_scene_set(scene, "init_image", "a.png", &err));
    OK(tsr_scene_check(scene, &err));
    OK(tsr_scene_parse_region(scene, "color=#ffffff,prompt=a", NULL, &err));
    FAILS(TSR_BAD_ARGUMENT, "color_image", tsr_scene_check(scene, &err));
    OK(tsr_scene_set_region(scene, 0, "box", "0:0:8:8", &err));
    FAILS(TSR_BAD_ARGUMENT, "has 2", tsr_scene_check(scene, &err));
    OK(tsr_scene_set_region(scene, 0, "color", NULL, &err));
    OK(tsr_scene_set_region(scene, 0, "prompt", NULL, &err));
    FAILS(TSR_BAD_ARGUMENT, "no prompt", tsr_scene_check(scene, &err));
    tsr_scene_free(scene);
}

static void scene__json_round_trip_is_exact(void **state) {
    tsr_scene *scene = fresh(), *copy = NULL, *again = NULL;
    char *first = NULL, *second = NULL;
    (void)state;
    OK(tsr_scene_set(scene, "prompt", "snö, \"quoted\"\nsecond line \\", &err));
    OK(tsr_scene_set(scene, "cfg", "4.1", &err));
    OK(tsr_scene_set(scene, "seed", "18446744073709551615", &err));
    OK(tsr_scene_set(scene, "mask", "m.png", &err));
    OK(tsr_scene_set(scene, "mask_data", "QUJD", &err));
    OK(tsr_scene_parse_region(scene, "mask=r.png,prompt=b,invert=true,feather=2.5", NULL, &err));
    OK(tsr_scene_set_region(scene, 0, "mask_data", "QUJDRA==", &err));
    OK(tsr_scene_copy(&copy, scene, &err));
    OK(tsr_scene_to_json(&first, copy, &err));
    OK(tsr_scene_from_json(&again, first, strlen(first), &err));
    OK(tsr_scene_to_json(&second, again, &err));
    assert_string_equal(first, second);
    assert_string_equal(tsr_scene_get(again, "seed"), "18446744073709551615");
    assert_string_equal(tsr_scene_get(again, "mask_data"), "QUJD");
    assert_string_equal(tsr_scene_get_region(again, 0, "mask_data"), "QUJDRA==");
    /* Another file name means that the kept bytes are not its. */
    OK(tsr_scene_set_region(again, 0, "mask", "other.png", &err));
    assert_false(tsr_scene_region_is_set(again, 0, "mask_data"));
    free(first);
    free(second);
    tsr_scene_free(scene);
    tsr_scene_free(copy);
    tsr_scene_free(again);
}

static void scene__bad_json_is_refused(void **state) {
    static const char *const bad[][2] = { { "", "line" },
                                          { "[]", "object" },
                                          { "{\"steps\":20,\"steps\":30}", "line 1" },
                                          { "{\"stepz\":20}", "'steps'" },
                                          { "{\"steps\":{}}", "steps" },
                                          { "{\"regions\":{}}", "list" },
                                          { "{\"regions\":[1]}", "region 1" },
                                          { "{\"prompt\":\"a\\u0000b\"}", "line 1" },
                                          { "{\"tessera_scene\":2}", "update" },
                                          { "{\"seed\":99999999999999999999}", "line 1" } };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tsr_scene *scene = NULL;
        tsr_error err = TSR_ERROR_INIT;
        assert_int_not_equal(tsr_scene_from_json(&scene, bad[i][0], strlen(bad[i][0]), &err), TSR_OK);
        assert_null(scene);
        if (!strstr(err.message, bad[i][1])) fail_msg("%s: '%s'", bad[i][0], err.message);
    }
}

static tsr_scene *from_parameters(const char *text) {
    tsr_image *image = NULL;
    tsr_scene *scene = NULL;
    OK(tsr_image_new(&image, 8, 8, 3, &err));
    OK(tsr_image_set_text(image, "parameters", text, &err));
    OK(tsr_scene_from_image(&scene, image, &err));
    tsr_image_free(image);
    return scene;
}

static void scene__a1111_parameters_are_read(void **state) {
    (void)state;
    tsr_scene *scene =
        from_parameters("a cat, (red:1.2)\nwith Steps: 3\nNegative prompt: ugly,\nbad\n"
                        "Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 123456789012, Size: 512x768, "
                        "Model: \"x, y\", Clip skip: 2, Unknown: 5");
    assert_string_equal(tsr_scene_get(scene, "prompt"), "a cat, (red:1.2)\nwith Steps: 3");
    assert_string_equal(tsr_scene_get(scene, "negative"), "ugly,\nbad");
    assert_string_equal(tsr_scene_get(scene, "steps"), "25");
    assert_string_equal(tsr_scene_get(scene, "sampler"), "dpmpp_2m");
    assert_string_equal(tsr_scene_get(scene, "scheduler"), "karras");
    assert_string_equal(tsr_scene_get(scene, "cfg"), "7.5");
    assert_string_equal(tsr_scene_get(scene, "seed"), "123456789012");
    assert_string_equal(tsr_scene_get(scene, "width"), "512");
    assert_string_equal(tsr_scene_get(scene, "height"), "768");
    assert_string_equal(tsr_scene_get(scene, "clip_skip"), "2");
    tsr_scene_free(scene);
    scene = from_parameters("Steps: 9, Sampler: Euler a, Schedule type: SGM Uniform");
    assert_false(tsr_scene_is_set(scene, "prompt"));
    assert_string_equal(tsr_scene_get(scene, "sampler"), "euler_ancestral");
    assert_string_equal(tsr_scene_get(scene, "scheduler"), "sgm_uniform");
    tsr_scene_free(scene);
    scene = from_parameters("only a prompt");
    assert_string_equal(tsr_scene_get(scene, "prompt"), "only a prompt");
    tsr_scene_free(scene);
    scene = from_parameters("a\nNegative prompt: \nSteps: nonsense, Sampler: , Size: x, Seed");
    assert_string_equal(tsr_scene_get(scene, "prompt"), "a");
    assert_string_equal(tsr_scene_get(scene, "steps"), "20");
    tsr_scene_free(scene);
}

static void scene__a1111_parameters_round_trip(void **state) {
    tsr_scene *scene = fresh();
    char *text = NULL;
    (void)state;
    OK(tsr_scene_set(scene, "prompt", "a cat", &err));
    OK(tsr_scene_set(scene, "negative", "snow", &err));
    OK(tsr_scene_set(scene, "sampler", "euler_ancestral", &err));
    OK(tsr_scene_set(scene, "scheduler", "karras", &err));
    OK(tsr_scene_set(scene, "seed", "5", &err));
    OK(tsr_scene_parameters_text(&text, scene, &err));
    assert_non_null(
        strstr(text, "a cat\nNegative prompt: snow\nSteps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 4"));
    tsr_scene *again = from_parameters(text);
    assert_string_equal(tsr_scene_get(again, "sampler"), "euler_ancestral");
    assert_string_equal(tsr_scene_get(again, "negative"), "snow");
    free(text);
    tsr_scene_free(scene);
    tsr_scene_free(again);
}

static void base64__vectors_of_rfc_4648_and_refusals(void **state) {
    static const char *const rows[][2] = { { "", "" },
                                           { "f", "Zg==" },
                                           { "fo", "Zm8=" },
                                           { "foo", "Zm9v" },
                                           { "foob", "Zm9vYg==" },
                                           { "fooba", "Zm9vYmE=" },
                                           { "foobar", "Zm9vYmFy" } };
    static const char *const bad[] = { "Z", "Zg=", "Z===", "=Zg=", "Zg==Zg==", "Zm 9", "Zm9\n" };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = NULL;
        void *data = NULL;
        size_t size = 0;
        OK(tsr__base64_encode(&text, rows[i][0], strlen(rows[i][0]), &err));
        assert_string_equal(text, rows[i][1]);
        OK(tsr__base64_decode(&data, &size, text, 100, &err));
        assert_int_equal(size, strlen(rows[i][0]));
        assert_memory_equal(data, rows[i][0], size);
        free(text);
        free(data);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *data = NULL;
        size_t size = 0;
        FAILS(TSR_BAD_FORMAT, "base64", tsr__base64_decode(&data, &size, bad[i], 100, &err));
        assert_null(data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scene__every_default_is_a_valid_value),
        cmocka_unit_test(scene__values_get_one_spelling),
        cmocka_unit_test(scene__bad_values_are_refused_and_leave_the_old),
        cmocka_unit_test(scene__numbers_do_not_follow_the_locale),
        cmocka_unit_test(scene__regions_parse_quotes_and_backslashes),
        cmocka_unit_test(scene__a_bad_region_leaves_the_scene_alone),
        cmocka_unit_test(scene__boxes_in_pixels_and_percent),
        cmocka_unit_test(scene__check_names_what_does_not_fit),
        cmocka_unit_test(scene__json_round_trip_is_exact),
        cmocka_unit_test(scene__bad_json_is_refused),
        cmocka_unit_test(scene__a1111_parameters_are_read),
        cmocka_unit_test(scene__a1111_parameters_round_trip),
        cmocka_unit_test(base64__vectors_of_rfc_4648_and_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
