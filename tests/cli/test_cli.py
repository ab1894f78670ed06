"""The tessera command from outside, with the shipped model: what it prints, paints, recalls and refuses."""
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import unittest

from cli_case import Case, MODEL, SOURCE, TESSERA, png, safetensors, tensors

LEFT = "box=0:0:50%:100%,prompt=a cat face on grass field"
RIGHT = "box=50%:0:50%:100%,prompt=a tree on grass field"
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class Words(Case):
    def test_help_names_every_command(self):
        text = self.good("help").stdout
        for name in ("generate", "inspect", "samplers", "schedulers", "options", "version"):
            self.assertIn(name, text)
        self.assertEqual(self.good("--help").stdout, text)

    def test_no_command_is_wrong_usage(self):
        self.assertEqual(self.run_command().returncode, 2)

    def test_generate_help_names_the_options_of_the_table(self):
        text = self.good("generate", "--help").stdout
        for name in ("model prompt negative width height steps cfg sampler scheduler seed batch denoise init-image region "
                     "overlap history precision threads output save-latent preview dry-run from scene").split():
            self.assertIn("--" + name + " ", text.replace("\n", " "))
        self.assertLessEqual(max(map(len, text.splitlines())), 118)

    def test_unknown_names_get_the_nearest(self):
        self.refused(2, ["'--promt'", "--prompt"], "generate", "--promt", "a")
        self.refused(2, ["eulr", "'euler'"], "generate", "--sampler", "eulr")
        self.refused(2, ["karas", "'karras'"], "generate", "--scheduler", "karas")
        self.refused(2, ["promp", "'prompt'"], "generate", "--region", "promp=a")
        self.refused(2, ["dpmpp_2n", "'dpmpp_2m'"], "generate", "--region", LEFT + ",sampler=dpmpp_2n")
        self.refused(2, ["painting"], "painting")

    def test_values_out_of_range(self):
        self.refused(2, ["steps", "0", "1 to 10000"], "generate", "--steps", "0")
        self.refused(2, ["steps", "2.5"], "generate", "--steps", "2.5")
        self.refused(2, ["cfg", "nan"], "generate", "--cfg", "nan")
        self.refused(2, ["seed", "-2"], "generate", "--seed", "-2")
        self.refused(2, ["width", "130", "8"], "generate", "--width", "130")
        self.refused(2, ["box", "1:2:3"], "generate", "--region", "box=1:2:3,prompt=a")
        self.refused(2, ["needs a value"], "generate", "--prompt")
        self.refused(2, ["has no prompt"], "generate", "--region", "box=0:0:8:8")
        self.refused(2, ["box, mask and color"], "generate", "--region", "prompt=a")
        self.refused(2, ["not closed"], "generate", "--region", 'box=0:0:8:8,prompt="a, b')
        self.refused(2, ["init_image"], "generate", "--denoise", "0.5")
        self.refused(2, [".png"], "generate", "--output", "picture.gif")


class Lists(Case):
    def test_samplers_of_the_library(self):
        text = self.good("samplers").stdout
        for name in ("euler euler_ancestral heun dpm_2 dpmpp_2s_ancestral dpmpp_2m dpmpp_sde dpmpp_2m_sde dpmpp_3m_sde "
                     "ddim lcm uni_pc").split():
            self.assertRegex(text, r"(?m)^%s +\S" % name)

    def test_schedulers_of_the_library(self):
        text = self.good("schedulers").stdout
        for name in "normal karras exponential simple sgm_uniform ddim_uniform beta linear_quadratic kl_optimal".split():
            self.assertRegex(text, r"(?m)^%s +\S" % name)

    def test_manual_and_docs_are_current(self):
        for form, name in (("man", "man/tessera.1"), ("md", "docs/options.md")):
            with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
                self.assertEqual(file.read(), self.good("options", "--format", form).stdout,
                                 "run: tessera options --format %s > %s" % (form, name))


class Plans(Case):
    def test_dry_run_prints_a_plan_and_writes_nothing(self):
        for history in ("keep", "restart"):
            text = self.good("generate", "--dry-run", "--prompt", "grass field", "--history", history, "--steps", "7",
                             "--region", LEFT, "--region", RIGHT + ",sampler=dpmpp_2m").stdout
            self.assertIn("region 2", text)
            self.assertIn("dpmpp_2m", text)
            self.assertIn(history, text)
        self.assertIn("7 steps", self.good("generate", "--dry-run", "--steps", "7").stdout)
        self.assertEqual(self.files(), [])


class Pictures(Case):
    def test_picture_of_the_asked_size(self):
        done = self.paint("--prompt", "a fox on snow", "--width", "96", "--height", "160", "--output", "fox.png")
        self.assertEqual(done.stdout, "fox.png\n")
        self.assertEqual(self.size_of("fox.png"), (96, 160))
        self.assertEqual(self.files(), ["fox.png"])

    def test_same_seed_same_bytes_other_seed_other_bytes(self):
        for name, seed in (("a.png", "7"), ("b.png", "7"), ("c.png", "8")):
            self.paint("--prompt", "a fox on snow", "--seed", seed, "--output", name)
        self.assertEqual(self.read("a.png"), self.read("b.png"))
        self.assertNotEqual(self.read("a.png"), self.read("c.png"))

    def test_default_names_step_aside(self):
        for _ in range(3):
            self.paint("--prompt", "sea", "--seed", "5")
        self.assertEqual(self.files(), ["tessera-5-2.png", "tessera-5-3.png", "tessera-5.png"])

    def test_batch_formats_latent_and_preview(self):
        self.paint("--prompt", "sea", "--batch", "2", "--output", "s.png", "--save-latent", "s.latent", "--preview", "p.png")
        self.assertEqual(self.files(), ["p.png", "s-1.png", "s-2.png", "s.latent"])
        self.assertNotEqual(self.read("s-1.png"), self.read("s-2.png"))
        self.assertIn(b"latent_tensor", self.read("s.latent")[:200])
        self.paint("--prompt", "sea", "--output", "s.jpg")
        self.paint("--prompt", "sea", "--output", "s.webp")
        self.assertEqual(self.read("s.jpg")[:3], b"\xff\xd8\xff")
        self.assertEqual(self.read("s.webp")[8:12], b"WEBP")

    def test_random_seed_is_recorded(self):
        name = self.paint("--prompt", "sea", "--seed", "random").stdout.strip()
        self.assertRegex(name, r"^tessera-\d+\.png$")
        self.assertIn("Seed: " + name[8:-4], self.good("inspect", name).stdout)

    def test_init_image_and_soft_mask(self):
        self.paint("--prompt", "sea", "--output", "sea.png")
        self.write("mask.png", png(128, 128, lambda x, y: (min(255, 2 * x),) * 3))
        self.paint("--prompt", "a ship, sea", "--init-image", "sea.png", "--mask", "mask.png", "--denoise", "0.6",
                   "--output", "ship.png")
        self.assertEqual(self.size_of("ship.png"), (128, 128))
        self.assertIn("Denoising strength: 0.6", self.good("inspect", "ship.png").stdout)

    def test_regions_of_every_place(self):
        self.write("mask.png", png(128, 128, lambda x, y: WHITE if x < 64 else BLACK))
        self.write("colors.png", png(128, 128, lambda x, y: (255, 136, 0) if x < 64 else (0, 0, 9)))
        places = {"box": ["--region", LEFT], "mask": ["--region", "mask=mask.png,prompt=a cat face on grass field"],
                  "color": ["--color-image", "colors.png", "--region", "color=#ff8800,prompt=a cat face on grass field"]}
        for name, options in places.items():
            self.paint("--prompt", "grass field", *options, "--save-latent", name + ".latent")
        self.assertEqual(self.read("box.latent"), self.read("mask.latent"))
        self.assertEqual(self.read("box.latent"), self.read("color.latent"))


class Recall(Case):
    def test_from_gives_equal_bytes_without_the_mask_files(self):
        self.write("mask.png", png(128, 128, lambda x, y: (2 * y,) * 3))
        self.write("colors.png", png(128, 128, lambda x, y: (255, 0, 0) if x < 40 else (0, 0, 255)))
        self.paint("--prompt", "grass field", "--negative", "snow, \"ice\"", "--seed", "18446744073709551615", "--region",
                   'mask=mask.png,prompt="a cat face, grass field",cfg=5,sampler=dpmpp_2m,feather=4,strength=0.7',
                   "--color-image", "colors.png", "--region", "color=ff0000,prompt=a tree on grass field",
                   "--sampler", "euler_ancestral", "--output", "first.png")
        os.remove(self.path("mask.png"))
        os.remove(self.path("colors.png"))
        self.good("generate", "--from", "first.png", "--output", "second.png")
        self.assertEqual(self.read("first.png"), self.read("second.png"))

    def test_other_options_change_what_was_recalled(self):
        self.paint("--prompt", "sea", "--output", "first.png")
        self.good("generate", "--seed", "9", "--from", "first.png", "--output", "second.png")
        text = self.good("inspect", "second.png").stdout
        self.assertIn("Seed: 9", text)
        self.assertIn("Steps: 3", text)

    def test_a_jpeg_without_room_for_masks_says_so(self):
        noise = os.urandom(160 * 160 * 3)
        self.write("mask.png", png(160, 160, lambda x, y: noise[(y * 160 + x) * 3:(y * 160 + x) * 3 + 3]))
        done = self.paint("--prompt", "sea", "--width", "160", "--height", "160", "--region", "mask=mask.png,prompt=a ship", "--output", "x.jpg")
        self.assertIn("no room for the masks", done.stderr)
        self.good("generate", "--from", "x.jpg", "--output", "y.png")
        os.remove(self.path("mask.png"))
        self.refused(1, ["mask.png"], "generate", "--from", "x.jpg")

    def test_a_picture_without_metadata(self):
        self.write("bare.png", png(8, 8, lambda x, y: WHITE))
        self.refused(1, ["bare.png", "parameters"], "generate", "--from", "bare.png")
        self.refused(1, ["nothing.png"], "generate", "--from", "nothing.png")


class Scenes(Case):
    def test_json_equals_options(self):
        scene = {"prompt": "grass field", "steps": 3, "cfg": 4.5, "seed": 12, "history": "keep",
                 "regions": [{"box": "0:0:50%:100%", "prompt": "a cat face on grass field"},
                             {"box": "50%:0:50%:100%", "prompt": "a tree on grass field", "sampler": "heun"}]}
        self.write("scene.json", json.dumps(scene))
        self.good("generate", "--scene", "scene.json", "--precision", "f32", "--output", "a.png")
        self.paint("--prompt", "grass field", "--cfg", "4.5", "--seed", "12", "--region", LEFT, "--region",
                   RIGHT + ",sampler=heun", "--history", "keep", "--output", "b.png")
        self.assertEqual(self.read("a.png"), self.read("b.png"))

    def test_bad_json(self):
        for text, words in (("{\"promt\": 1}", ["promt", "'prompt'"]), ("{", ["line 1"]), ("[]", ["object"]),
                            ("{\"regions\": [{\"boxx\": 1}]}", ["boxx", "'box'"]), ("{\"steps\": []}", ["steps"]),
                            ("{\"from\": \"x.png\"}", ["from"]), ("[" * 5000, ["line 1"]),
                            ("{\"steps\": 1e999}", ["line 1"]), ("{\"tessera_scene\": 99}", ["update"])):
            self.write("scene.json", text)
            self.refused(1, ["scene.json", *words], "generate", "--scene", "scene.json")


class Models(Case):
    def bad_model(self, words, data):
        self.write("m.safetensors", data)
        self.refused(1, ["m.safetensors", *words], "generate", "--model", "m.safetensors", "--output", "x.png")
        self.assertNotIn("x.png", self.files())

    def test_missing(self):
        self.refused(1, ["no-such.safetensors"], "generate", "--model", "no-such.safetensors")

    def test_a_pipe_is_refused_without_waiting_for_it(self):
        os.mkfifo(self.path("m.safetensors"))
        self.refused(1, ["m.safetensors", "regular file"], "generate", "--model", "m.safetensors")
        self.refused(1, ["m.safetensors", "regular file"], "inspect", "m.safetensors")

    def test_truncated(self):
        with open(MODEL, "rb") as file:
            self.bad_model([], file.read(1 << 20))
        self.bad_model([], b"")
        self.bad_model([], b"\x10\0\0\0\0\0\0\0{")

    def test_hostile(self):
        self.bad_model([], b"\xff" * 64)
        self.bad_model([], safetensors({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 8]}}, b"\0" * 8))
        self.bad_model([], safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, b"\0" * 8))
        self.bad_model([], safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8000]}}, b"\0" * 8))
        self.bad_model([], struct.pack("<Q", 1 << 62) + b"{}")

    def test_other_kinds_are_named(self):
        self.bad_model(["LoRA"], tensors(["lora_unet_down_blocks_0_attentions_0.lora_down.weight",
                                          "lora_unet_down_blocks_0_attentions_0.lora_up.weight"]))
        self.bad_model(["Flux"], tensors(["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"]))
        self.bad_model(["input_blocks.0.0.weight has shape [2, 2]"], tensors(["conditioner.embedders.1.model.ln_final.weight",
                                          "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
                                          "model.diffusion_model.input_blocks.0.0.weight",
                                          "model.diffusion_model.label_emb.0.0.weight",
                                          "first_stage_model.decoder.conv_in.weight"]))
        self.bad_model(["VAE"], tensors(["decoder.conv_in.weight", "encoder.conv_in.weight", "post_quant_conv.weight"]))

    def test_nan_weights_name_the_step(self):
        with open(MODEL, "rb") as file:
            data = bytearray(file.read())
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        first, last = header["model.diffusion_model.out.2.weight"]["data_offsets"]
        self.assertEqual(header["model.diffusion_model.out.2.weight"]["dtype"], "F16")
        data[8 + length + first:8 + length + last] = b"\x00\x7e" * ((last - first) // 2)
        self.write("nan.safetensors", bytes(data))
        self.refused(1, ["step 1", "NaN"], "generate", "--model", "nan.safetensors", "--prompt", "sea", "--output", "x.png")
        self.refused(1, ["step 1", "NaN"], "generate", "--model", "nan.safetensors", "--region", LEFT, "--prompt", "sea")
        self.assertEqual(self.files(), ["nan.safetensors"])


class Masks(Case):
    def bad_mask(self, words, data, *options):
        self.write("m.png", data)
        self.refused(1, words, "generate", "--prompt", "sea", "--region", "mask=m.png,prompt=a ship", *options)
        self.assertEqual(self.files(), ["m.png"])

    def test_wrong_size(self):
        self.bad_mask(["region 1", "m.png", "64x64", "128x128"], png(64, 64, lambda x, y: WHITE))

    def test_empty(self):
        self.bad_mask(["region 1", "m.png", "empty"], png(128, 128, lambda x, y: BLACK))

    def test_not_a_picture(self):
        self.bad_mask(["m.png"], b"not a picture at all")
        self.bad_mask(["m.png"], png(128, 128, lambda x, y: WHITE)[:60])
        os.remove(self.path("m.png"))
        self.refused(1, ["m.png"], "generate", "--region", "mask=m.png,prompt=a ship")

    def test_not_covering_without_a_prompt(self):
        self.refused(1, ["50.0 %", "prompt"], "generate", "--region", LEFT)

    def test_box_outside_and_missing_colour(self):
        self.refused(1, ["region 1", "outside"], "generate", "--prompt", "sea", "--region", "box=200:0:8:8,prompt=a ship")
        self.write("c.png", png(128, 128, lambda x, y: WHITE))
        self.refused(1, ["#123456"], "generate", "--prompt", "sea", "--color-image", "c.png", "--region",
                     "color=#123456,prompt=a ship")


class Failures(Case):
    def test_disk_full_leaves_nothing(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        done = self.run_command("generate", "--steps", "2", "--prompt", "sea", "--output", "x.png", preexec_fn=limit)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("step ")]
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("x.png", lines[0])
        self.assertEqual(self.files(), [])

    def test_an_old_picture_survives_a_failed_write(self):
        self.write("x.png", b"old")
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        done = self.run_command("generate", "--steps", "2", "--prompt", "sea", "--output", "x.png", preexec_fn=limit)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.read("x.png"), b"old")

    def test_no_such_folder_is_said_first(self):
        self.refused(1, ["no/such"], "generate", "--output", "no/such/x.png")

    def test_a_full_standard_output(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([TESSERA, "samplers"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("tessera: "))


class Interrupts(Case):
    def interrupt(self, number, status, *options):
        process = subprocess.Popen([TESSERA, "generate", "--steps", "10000", "--prompt", "sea", "--output", "x.png",
                                    "--preview", "p.png", *options], cwd=self.dir, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while "p.png" not in self.files() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertIn("p.png", self.files())
        process.send_signal(number)
        sent = time.monotonic()
        errors = process.communicate(timeout=60)[1]
        self.assertLess(time.monotonic() - sent, 10)
        self.assertEqual(process.returncode, status, errors)
        self.assertIn("tessera: interrupted", errors)
        self.assertEqual(self.files(), ["p.png"])
        self.assertEqual(self.read("p.png")[-8:-4], b"IEND")

    def test_ctrl_c_stops_cleanly(self):
        self.interrupt(signal.SIGINT, 130)

    def test_ctrl_c_stops_regions_cleanly(self):
        self.interrupt(signal.SIGINT, 130, "--region", LEFT, "--history", "restart")

    def test_termination_stops_cleanly(self):
        self.interrupt(signal.SIGTERM, 143, "--region", LEFT)


class Inspect(Case):
    def test_a_checkpoint(self):
        text = self.good("inspect", MODEL).stdout
        for word in ("SD1", "text encoder", "UNet", "VAE", "F16", "24.25 M"):
            self.assertIn(word, text)

    def test_a_picture_and_a_latent(self):
        self.paint("--prompt", "sea", "--region", LEFT, "--output", "x.png", "--save-latent", "x.latent")
        text = self.good("inspect", "x.png", "x.latent").stdout
        for word in ("128x128", "parameters: sea", "Region 1: a cat face", '"regions"', "4 channels, 16x16"):
            self.assertIn(word, text)

    def test_what_is_no_such_file(self):
        self.write("junk.bin", b"junk junk junk junk")
        self.refused(1, ["junk.bin"], "inspect", "junk.bin")
        self.refused(1, ["none.bin"], "inspect", "none.bin")
        self.refused(2, ["FILE"], "inspect")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
