"""Inpainting models (9 channels into the UNet) in every layout: told by their shapes, painting one picture."""
import json
import os
import struct
import unittest

import checkpoint_files as files
from cli_case import Case, png

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
FAMILIES = ("sd1", "sd2", "sdxl")


def numbers(name, count, scale):
    """As tests/support/numbers.h makes them."""
    seed = 2166136261
    for byte in name.encode():
        seed = ((seed ^ byte) * 16777619) & 0xFFFFFFFF
    result = []
    for i in range(count):
        x = (i * 0x9E3779B9 + seed) & 0xFFFFFFFF
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        x ^= x >> 16
        result.append(((x >> 8) / 16777216.0 - 0.5) * 2.0 * scale)
    return result


def widened(family, extra=5):
    """The golden checkpoint of a family, whose UNet takes more channels."""
    tensors, metadata = files.golden(family)
    old = tensors[FIRST]
    rows, have = old.shape[:2]
    first = struct.unpack(f"<{rows * have * 9}e", old.data)
    added = numbers("inpaint", rows * extra * 9, 0.25)
    values = []
    for row in range(rows):
        values += first[row * have * 9:(row + 1) * have * 9]
        values += added[row * extra * 9:(row + 1) * extra * 9]
    tensors[FIRST] = files.Tensor("F16", [rows, have + extra, 3, 3], struct.pack(f"<{len(values)}e", *values))
    return tensors, metadata


class Layouts(Case):
    def setUp(self):
        super().setUp()
        self.write("in.png", png(64, 64, lambda x, y: (4 * x, 4 * y, 120)))
        self.write("mask.png", png(64, 64, lambda x, y: (255,) * 3 if 16 <= x < 48 and 8 <= y < 40 else (0,) * 3))

    def latent(self, *model):
        self.paint(*model, "--prompt", "a cat", "--init-image", "in.png", "--mask", "mask.png", "--output", "x.png",
                   "--save-latent", "x.latent", "--precision", "f32")
        return files.read(self.path("x.latent"))[0]["latent_tensor"].data

    def says(self, path, *words):
        text = self.good("inspect", path).stdout
        for word in words:
            self.assertIn(word, text)

    def test_every_layout_paints_one_picture(self):
        for family in FAMILIES:
            with self.subTest(family):
                self.layouts(family)

    def layouts(self, family):
        tensors, metadata = widened(family)
        single, folder = family + ".safetensors", family + "_folder"
        files.write(self.path(single), tensors, metadata)
        files.write_folder(self.path(folder), family)
        unet = os.path.join(folder, "unet", "diffusion_pytorch_model.safetensors")
        files.write(self.path(unet), files.unet(tensors))
        expected = self.latent("--model", single)
        self.assertEqual(self.latent("--model", folder), expected)
        plain = os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")
        files.write(self.path("unet.safetensors"), files.unet(tensors))
        self.assertEqual(self.latent("--model", plain, "--unet", "unet.safetensors"), expected)
        self.assertNotEqual(self.latent("--model", plain), expected)
        name = "family " + {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}[family] + ", inpainting"
        self.says(single, "9 going in", name)
        self.says(folder, "9 going in", name)
        self.says("unet.safetensors", "9 going in", name)
        self.converted(single, expected, name)

    def converted(self, single, expected, name):
        self.good("convert", single, single + ".gguf")
        self.says(single + ".gguf", "GGUF", "9 going in", name)
        self.assertEqual(self.latent("--model", single + ".gguf"), expected)
        self.good("convert", single, "unet.gguf", "--part", "unet")
        self.says("unet.gguf", "9 going in", name)
        self.assertEqual(self.latent("--model", single, "--unet", "unet.gguf"), expected)
        self.good("convert", single, single + ".folder/")
        with open(self.path(single + ".folder/unet/config.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["in_channels"], 9)
        self.assertEqual(self.latent("--model", single + ".folder"), expected)
        os.remove(self.path("unet.gguf"))

    def test_models_that_edit(self):
        tensors, metadata = widened("sd1", 4)
        files.write(self.path("edit.safetensors"), tensors, metadata)
        self.says("edit.safetensors", "8 going in", "family SD1, edits pictures")
        self.paint("--model", "edit.safetensors", "--prompt", "a cat", "--init-image", "in.png", "--output", "e.png")

    def test_sd2_predicts_eps_when_it_is_for_inpainting(self):
        name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
        for wide in (False, True):
            tensors, metadata = widened("sd2") if wide else files.golden("sd2")
            metadata["tessera.config"] = json.dumps({key: value for key, value in
                                                     json.loads(metadata["tessera.config"]).items()
                                                     if key != "prediction"})
            # As widely spread as the bias of a network that predicts v.
            source = next(key for key in sorted(tensors) if key.endswith("transformer_blocks.0.norm1.bias"))
            count = tensors[source].shape[0]
            tensors[name] = files.Tensor("F32", [count],
                                         struct.pack(f"<{count}f", *(0.5 * (-1) ** i for i in range(count))))
            files.write(self.path("m.safetensors"), tensors, metadata)
            self.says("m.safetensors", "inpainting, predicts eps" if wide else "family SD2, predicts v")


if __name__ == "__main__":
    unittest.main(verbosity=2)
