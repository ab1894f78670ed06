"""TAESD as a model's VAE: every layout gives the same numbers, and broken or wrong files say what they are. The numbers
themselves are golden.golden_taesd's matter."""
import os
import struct
import unittest
import zlib

import checkpoint_files as files
from cli_case import MODEL, Case

PAIR = os.path.join(files.GOLDEN, "..", "taesd")
HALVES = ("encoder", "decoder")


def pair():
    """{name as ComfyUI's VAE has it: Tensor}"""
    result = {}
    for half in HALVES:
        tensors, _ = files.read(os.path.join(PAIR, f"taesd_{half}.safetensors"))
        result.update({f"taesd_{half}.{name}": tensor for name, tensor in tensors.items()})
    return result


def half(tensors, which):
    return files.below(tensors, f"taesd_{which}.")


def scale(value):
    return files.Tensor("F32", [], struct.pack("<f", value))


def diffusers(tensors):
    """As AutoencoderTiny names them: its decoder has no layer for the clamp."""
    result = {}
    for which in HALVES:
        for name, tensor in half(tensors, which).items():
            place, _, rest = name.partition(".")
            result[f"{which}.layers.{int(place) - (which == 'decoder')}.{rest}"] = tensor
    return result


def pixels(data):
    """The PNG's pixel data, without the texts."""
    at, found = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IDAT":
            found += data[at + 8:at + 8 + size]
        at += size + 12
    return zlib.decompress(found)


class Layouts(Case):
    def setUp(self):
        super().setUp()
        self.tensors = pair()
        for which in HALVES:
            files.write(self.path(f"taesd_{which}.safetensors"), half(self.tensors, which))
        files.write(self.path("combined.safetensors"), dict(self.tensors, vae_scale=scale(0.18215)))
        prefixed = {"first_stage_model." + name: tensor for name, tensor in self.tensors.items()}
        files.write(self.path("taesd_whole.safetensors"), prefixed)
        os.mkdir(self.path("taesd"))
        files.write(self.path("taesd/diffusion_pytorch_model.safetensors"), diffusers(self.tensors))
        os.mkdir(self.path("vae_approx"))
        for which in HALVES:
            files.write(self.path(f"vae_approx/taesd_{which}.safetensors"), half(self.tensors, which))
            files.write(self.path(f"vae_approx/taesdxl_{which}.safetensors"), half(self.tensors, which))

    GIVEN = ("taesd_decoder.safetensors", "taesd_encoder.safetensors", "combined.safetensors", "taesd_whole.safetensors",
             "taesd/diffusion_pytorch_model.safetensors", "taesd", "vae_approx")

    def test_all_are_the_same_tensors(self):
        expected = {"first_stage_model." + name: tensor for name, tensor in self.tensors.items()}
        for given in self.GIVEN[:-1]:
            self.good("convert", "--vae", given, "one.safetensors")
            found, _ = files.read(self.path("one.safetensors"))
            self.assertAlmostEqual(struct.unpack("<f", found.pop("first_stage_model.vae_scale").data)[0], 0.18215, 6)
            self.assertEqual(set(found), set(expected), given)
            for name, tensor in expected.items():
                self.assertTrue(tensor.same(found[name]), name)

    def test_all_paint_and_read_the_same_picture(self):
        """Decoding and encoding: an init image goes through both."""
        self.paint("--width", "64", "--height", "64", "--output", "init.png")
        plain = pixels(self.read("init.png"))
        seen = set()
        for given in self.GIVEN:
            self.paint("--init-image", "init.png", "--denoise", "0.5", "--vae", given, "--output", "a.png")
            seen.add(pixels(self.read("a.png")))
        self.assertEqual(len(seen), 1)
        self.assertNotIn(plain, seen)

    def test_a_converted_checkpoint_keeps_it(self):
        self.good("convert", MODEL, "--vae", "taesd_decoder.safetensors", "model.safetensors")
        self.assertIn("an SD1 checkpoint", self.good("inspect", "model.safetensors").stdout)
        for name, given in (("a.png", ["--model", "model.safetensors"]), ("b.png", ["--vae", "taesd"])):
            self.paint("--width", "64", "--height", "64", *given, "--output", name)
        self.assertEqual(pixels(self.read("a.png")), pixels(self.read("b.png")))

    def test_a_folder_has_the_one_for_the_model(self):
        """SDXL's of vae_approx: its scale is another."""
        sdxl = os.path.join(files.GOLDEN, "tiny-sdxl.safetensors")
        self.good("convert", sdxl, "--vae", "vae_approx", "one.safetensors")
        found, _ = files.read(self.path("one.safetensors"))
        self.assertAlmostEqual(struct.unpack("<f", found["first_stage_model.vae_scale"].data)[0], 0.13025, 6)

    def test_inspect_names_it(self):
        for given, words in (("taesd_decoder.safetensors", ["decoder, 8 wide", "4 latent channels", "by its name for SD1"]),
                             ("taesd_encoder.safetensors", ["encoder, 8 wide", "by its name for SD1 and SD2"]),
                             ("vae_approx/taesdxl_decoder.safetensors", ["by its name for SDXL"]),
                             ("combined.safetensors", ["encoder and decoder", "by its vae_scale for SD1"]),
                             ("taesd/diffusion_pytorch_model.safetensors", ["encoder and decoder", "by its name for SD1"])):
            text = self.good("inspect", given).stdout
            for word in ["a tiny VAE (TAESD)"] + words:
                self.assertIn(word, text)
        os.rename(self.path("taesd_decoder.safetensors"), self.path("x.safetensors"))
        self.assertIn("it does not say", self.good("inspect", "x.safetensors").stdout)


class Refused(Case):
    def setUp(self):
        super().setUp()
        self.tensors = pair()

    def refuse(self, name, tensors, *words):
        path = self.path(name)
        files.write(path, tensors)
        self.refused(1, words, "generate", "--steps", "1", "--width", "64", "--height", "64", "--vae", path,
                     "--output", "no.png")
        self.assertFalse(os.path.exists(self.path("no.png")))
        os.remove(path)

    def test_layers(self):
        """Missing, too many, of a wrong shape or of whole numbers."""
        decoder = half(self.tensors, "decoder")
        for gone, word in (("8.conv.2.weight", "taesd_decoder.8.conv.2.weight"), ("10.conv.4.bias", "10.conv.4.bias"),
                           ("12.weight", "taesd_decoder.11.weight"), ("19.bias", "19.bias"),
                           ("9.conv.0.weight", "taesd_decoder.9.")):
            self.refuse("taesd.safetensors", {name: t for name, t in decoder.items() if name != gone}, word)
        for added, word in (("3.pool.0.weight", "no such layer"), ("20.weight", "no such layer"),
                            ("x.weight", "no such layer"), ("5.skip.weight", "no such layer")):
            self.refuse("taesd.safetensors", dict(decoder, **{added: decoder["12.weight"]}), word, added)
        wide = files.Tensor("F16", [9] + decoder["3.conv.0.bias"].shape[1:], bytes(18))
        self.refuse("taesd.safetensors", dict(decoder, **{"3.conv.0.bias": wide}), "3.conv.0.bias", "[9]", "[8]")
        whole = files.Tensor("I16", decoder["12.weight"].shape, decoder["12.weight"].data)
        self.refuse("taesd.safetensors", dict(decoder, **{"12.weight": whole}), "12.weight")

    def test_another_models(self):
        decoder, combined = half(self.tensors, "decoder"), self.tensors
        self.refuse("taesdxl_decoder.safetensors", decoder, "taesdxl_decoder.safetensors", "by its name a TAESD for SDXL", "SD1 and SD2", "name the file")
        self.refuse("a.safetensors", dict(combined, vae_scale=scale(0.13025)), "by its vae_scale", "SDXL")
        self.refuse("taesd.safetensors", dict(combined, vae_scale=scale(1.0)), "by its vae_scale", "other models")
        self.refuse("taesd.safetensors", dict(combined, vae_scale=scale(float("nan"))), "vae_scale")
        first = decoder["1.weight"]
        deep = files.Tensor("F16", [8, 16, 3, 3], first.data * 4)
        self.refuse("taesd.safetensors", dict(decoder, **{"1.weight": deep}), "4 channels", "16")

    def test_halves(self):
        encoder, decoder = half(self.tensors, "encoder"), half(self.tensors, "decoder")
        self.refuse("taesd_encoder.safetensors", encoder, "no TAESD decoder", "put taesd_decoder.safetensors")
        self.paint("--width", "64", "--height", "64", "--output", "init.png")
        files.write(self.path("taesd_decoder.safetensors"), decoder)
        self.refused(1, ["no TAESD encoder", "taesd_encoder.safetensors"], "generate", "--vae",
                     "taesd_decoder.safetensors", "--init-image", "init.png", "--output", "no.png")
        files.write(self.path("taesd_encoder.safetensors"), decoder)
        self.refused(1, ["taesd_encoder.safetensors", "not TAESD's encoder"], "generate", "--vae",
                     "taesd_decoder.safetensors", "--output", "no.png")

    def test_places(self):
        os.mkdir(self.path("empty"))
        self.refused(1, ["empty", "taesd_decoder.safetensors", "diffusion_pytorch_model"], "generate", "--vae", "empty")
        self.refused(1, ["taesdxl_decoder.safetensors", "vae_approx"], "generate", "--vae", "taesdxl")
        os.mkdir(self.path("both"))
        for name in ("taesd", "taesdxl"):
            files.write(self.path(f"both/{name}_decoder.safetensors"), half(self.tensors, "decoder"))
        self.refused(1, ["both", "several models"], "convert", "--vae", "both", "x.safetensors")
        files.write(self.path("x.safetensors"), self.tensors)
        self.refused(1, ["x.safetensors", "does not say for which model", "taesdxl"], "convert", "--vae", "x.safetensors",
                     "y.safetensors")


class Previews(Case):
    """--preview-method, with the pair in vae_approx beside the model. One step: its preview is the picture's latent."""

    def setUp(self):
        super().setUp()
        os.symlink(MODEL, self.path("model.safetensors"))

    def put_pair(self):
        os.mkdir(self.path("vae_approx"))
        for which in HALVES:
            files.write(self.path(f"vae_approx/taesd_{which}.safetensors"), half(pair(), which))

    def preview(self, *arguments):
        """The preview's size and pixels, or None, and what was said."""
        if os.path.exists(self.path("p.png")):
            os.remove(self.path("p.png"))
        said = self.good("generate", "--steps", "1", "--precision", "f32", "--width", "64", "--height", "64", "--model",
                         "model.safetensors", "--preview", "p.png", "--output", "a.png", *arguments).stderr
        data = self.read("p.png") if os.path.exists(self.path("p.png")) else None
        return data and (self.size_of("p.png"), pixels(data)), said

    def test_methods(self):
        own, _ = self.preview()
        self.assertEqual(own[0], (64, 64))
        self.put_pair()
        tiny, said = self.preview()
        self.assertEqual(tiny[0], (64, 64))
        self.assertNotEqual(tiny, own)
        self.assertNotIn("note", said)
        self.assertEqual(self.preview("--preview-method", "taesd")[0], tiny)
        self.assertEqual(self.preview("--preview-method", "latent2rgb")[0][0], (8, 8))
        self.assertIsNone(self.preview("--preview-method", "none")[0])

    def test_taesds_preview_is_its_decoders_picture(self):
        self.put_pair()
        tiny, _ = self.preview("--preview-method", "taesd")
        self.assertEqual(self.preview("--vae", "taesd")[0], tiny)
        self.assertEqual((self.size_of("a.png"), pixels(self.read("a.png"))), tiny)

    def test_missing_and_broken(self):
        self.refused(1, ["preview_method taesd", "taesd_decoder.safetensors", "vae_approx"], "generate", "--model",
                     "model.safetensors", "--preview", "p.png", "--preview-method", "taesd", "--output", "a.png")
        self.refused(2, ["auto", "latent2rgb", "taesd", "none"], "generate", "--preview-method", "full")
        self.assertEqual(self.files(), ["model.safetensors"])
        self.put_pair()
        with open(self.path("vae_approx/taesd_decoder.safetensors"), "wb") as file:
            file.write(b"gone")
        shown, said = self.preview()
        self.assertEqual(shown[0], (64, 64))
        self.assertIn("note: previews without TAESD: ", said)
        self.assertIn("taesd_decoder.safetensors", said)
        self.refused(1, ["preview_method taesd", "taesd_decoder.safetensors"], "generate", "--model", "model.safetensors",
                     "--preview", "p.png", "--preview-method", "taesd", "--output", "b.png")

    def test_under_a_memory_bound(self):
        self.put_pair()
        self.assertEqual(self.preview("--memory", "130MB", "--preview-method", "taesd")[0][0], (64, 64))


if __name__ == "__main__":
    unittest.main()
