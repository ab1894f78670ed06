"""Control networks from every layout: the same weights under other names give the same picture, byte by byte."""
import array
import math
import os
import random
import sys
import unittest

import checkpoint_files as files
import control_files as control
import test_doc_commands as doc_commands
from cli_case import Case, png

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "fuzz"))
import make_pth_corpus as torch_files  # noqa: E402

CHANNELS = (64, 128, 256)


def single(family):
    return os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")


def torch_file(path, tensors):
    """What torch.save writes of a state dict inside another one."""
    members, state = [], []
    for key, (name, tensor) in enumerate(tensors.items()):
        strides, step = [], 1
        for side in reversed(tensor.shape):
            strides.insert(0, step)
            step *= side
        storage = torch_files.Storage("FloatStorage", str(key), step)
        state.append((name, torch_files.tensor(storage, tensor.shape, strides)))
        members.append((str(key), tensor.data))
    state = torch_files.Call(torch_files.ORDERED, (), state)
    with open(path, "wb") as file:
        file.write(torch_files.archive(torch_files.pickled({"state_dict": state}), members))


class ControlCase(Case):
    def setUp(self):
        super().setUp()
        self.write("room.png", png(64, 64, lambda x, y: (4 * x, 4 * y, 255 * ((x // 8 + y // 8) % 2))))

    def latent(self, family, *arguments):
        done = self.good("generate", "--steps", "2", "--precision", "f32", "--model", single(family), "--prompt", "a room",
                         "--width", "64", "--height", "64", "--cfg", "2", "--output", "x.png", "--save-latent", "x.latent",
                         *arguments)
        self.assertNotIn("warn", done.stderr)
        return files.read(self.path("x.latent"))[0]["latent_tensor"].data

    def steered(self, family, network, *arguments):
        return self.latent(family, "--control", network, "--control-image", "room.png", *arguments)


class Layouts(ControlCase):
    def test_controlnets(self):
        for family in ("sd1", "sd2", "sdxl"):
            tensors = control.controlnet(family)
            renamed = control.controlnet_diffusers(tensors)
            files.write(self.path("ldm.safetensors"), tensors)
            expected = self.steered(family, "ldm.safetensors")
            self.assertNotEqual(expected, self.latent(family))
            files.write(self.path("renamed.safetensors"), renamed)
            self.assertEqual(self.steered(family, "renamed.safetensors"), expected, family)
            folder = "folder-" + family
            os.mkdir(self.path(folder))
            files.write(self.path(folder + "/diffusion_pytorch_model.safetensors"), renamed)
            files.write_json(self.path(folder + "/config.json"), {"_class_name": "ControlNetModel",
                                                                  "attention_head_dim": [1, 2, 4]})
            self.assertEqual(self.steered(family, folder), expected, family)

    def test_types_and_torch_files(self):
        tensors = control.halves(control.controlnet("sd1"))
        files.write(self.path("wide.safetensors"), control.widened(tensors))
        expected = self.steered("sd1", "wide.safetensors")
        os.mkdir(self.path("folder"))
        files.write(self.path("folder/diffusion_pytorch_model.fp16.safetensors"), control.controlnet_diffusers(tensors))
        self.assertEqual(self.steered("sd1", "folder"), expected)
        wide = control.widened(tensors)
        torch_file(self.path("ldm.pth"), {"control_model." + name: tensor for name, tensor in wide.items()})
        self.assertEqual(self.steered("sd1", "ldm.pth"), expected)
        os.mkdir(self.path("torch"))
        torch_file(self.path("torch/diffusion_pytorch_model.bin"), control.controlnet_diffusers(wide))
        self.assertEqual(self.steered("sd1", "torch"), expected)

    def test_scaled_f8(self):
        numbers, tensors = random.Random(2), control.controlnet("sd1")
        for name, tensor in list(tensors.items()):
            if len(tensor.shape) < 2:
                continue
            small = bytes(numbers.choice((0x08, 0x10, 0x88, 0x90, 0x14, 0x93)) for _ in range(len(tensor.data) // 4))
            tensors[name] = files.Tensor("F8_E4M3", tensor.shape, small)
            if "in_layers" in name:
                tensors[name.replace("weight", "scale_weight")] = files.Tensor("F32", [1],
                                                                               array.array("f", [1.5]).tobytes())
        files.write(self.path("ldm.safetensors"), tensors)
        renamed = dict(control.controlnet_diffusers(tensors), scaled_fp8=files.Tensor("F8_E4M3", [0], b""))
        files.write(self.path("renamed.safetensors"), renamed)
        expected = self.steered("sd1", "ldm.safetensors")
        self.assertEqual(self.steered("sd1", "renamed.safetensors"), expected)
        files.write(self.path("plain.safetensors"), {name: tensor for name, tensor in tensors.items()
                                                     if not name.endswith("scale_weight")})
        self.assertNotEqual(self.steered("sd1", "plain.safetensors"), expected)

    def test_adapters(self):
        cases = (("sd1", control.adapter(CHANNELS), control.adapter_diffusers),
                 ("sd1", control.light(CHANNELS), control.light_diffusers),
                 ("sdxl", control.adapter((64, 128, 128, 128), 768), control.adapter_diffusers))
        for family, tensors, rename in cases:
            files.write(self.path("own.safetensors"), tensors)
            expected = self.steered(family, "own.safetensors")
            self.assertNotEqual(expected, self.latent(family))
            files.write(self.path("renamed.safetensors"), rename(tensors))
            self.assertEqual(self.steered(family, "renamed.safetensors"), expected, family)
            files.write(self.path("half.safetensors"), {"adapter." + name: tensor for name, tensor in tensors.items()})
            self.assertEqual(self.steered(family, "half.safetensors"), expected, family)

    def test_the_mean_over_the_picture(self):
        """Shuffle networks are told by the file's name, as for ComfyUI, or by config.json."""
        tensors = control.controlnet("sd1")
        files.write(self.path("a.safetensors"), tensors)
        files.write(self.path("control_v11e_sd15_shuffle.safetensors"), tensors)
        expected = self.steered("sd1", "control_v11e_sd15_shuffle.safetensors")
        self.assertNotEqual(self.steered("sd1", "a.safetensors"), expected)
        os.mkdir(self.path("folder"))
        files.write(self.path("folder/diffusion_pytorch_model.safetensors"), control.controlnet_diffusers(tensors))
        files.write_json(self.path("folder/config.json"), {"global_pool_conditions": True})
        self.assertEqual(self.steered("sd1", "folder"), expected)


class Scenes(ControlCase):
    def test_regions_in_every_mode(self):
        files.write(self.path("net.safetensors"), control.controlnet_diffusers(control.controlnet("sd1")))
        files.write(self.path("adapter.safetensors"), control.adapter_diffusers(control.adapter(CHANNELS)))
        region = ("box=50%:0:50%:100%,prompt=a cat,control=adapter.safetensors,control_image=room.png,"
                  "control_preprocess=canny")
        for mode in ("full", "crop"):
            plain = self.latent("sd1", "--region", "box=50%:0:50%:100%,prompt=a cat", "--mode", mode)
            steered = self.steered("sd1", "net.safetensors", "--region", region, "--mode", mode)
            self.assertNotEqual(plain, steered)
            off = self.steered("sd1", "net.safetensors", "--control-strength", "0", "--region",
                               region + ",control_strength=0", "--mode", mode)
            self.assertEqual(plain, off)

    def test_inpaint_blanks_what_the_mask_covers(self):
        files.write(self.path("net.safetensors"), control.controlnet("sd1"))
        self.write("left.png", png(64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3))
        self.write("nothing.png", png(64, 64, lambda x, y: (0,) * 3))
        arguments = ["--init-image", "room.png", "--denoise", "0.8"]
        with_mask = lambda mask, kind: self.steered("sd1", "net.safetensors", *arguments, "--mask", mask,
                                                    "--control-preprocess", kind)
        self.assertNotEqual(with_mask("left.png", "inpaint"), with_mask("left.png", "none"))
        self.assertEqual(with_mask("nothing.png", "inpaint"), with_mask("nothing.png", "none"))
        self.refused(1, ["control_preprocess inpaint", "mask"], "generate", "--model", single("sd1"), "--prompt", "a",
                     "--control", "net.safetensors", "--control-image", "room.png", "--control-preprocess", "inpaint")

    def test_a_difference_needs_the_original(self):
        """A packed cache has no numbers to add to."""
        tensors = {name: tensor for name, tensor in control.controlnet("sd1").items()
                   if name.split(".")[0] not in control.ENCODER}
        tensors.update(control.made({"input_blocks.1.0.in_layers.2.up": [64, 4],
                                     "input_blocks.1.0.in_layers.2.down": [4, 64, 3, 3]}))
        files.write(self.path("lora.safetensors"), dict(tensors, lora_controlnet=files.Tensor("F32", [0], b"")))
        self.assertNotEqual(self.steered("sd1", "lora.safetensors"), self.latent("sd1"))
        self.good("convert", single("sd1"), "one.tsrpack", "--precision", "f32")
        self.refused(1, ["lora.safetensors", "packed cache", "checkpoint itself"], "generate", "--model", "one.tsrpack",
                     "--prompt", "a", "--control", "lora.safetensors", "--control-image", "room.png", "--steps", "1",
                     "--output", "y.png")

    def test_types_of_a_union_only_count_there(self):
        files.write(self.path("net.safetensors"), control.controlnet("sd1"))
        self.assertEqual(self.steered("sd1", "net.safetensors"),
                         self.steered("sd1", "net.safetensors", "--control-type", "tile"))
        self.refused(2, ["control_type", "openpose"], "generate", "--prompt", "a", "--control-type", "dots")


class Inspect(ControlCase):
    def says(self, path, *words):
        text = self.good("inspect", path).stdout
        for word in words:
            self.assertIn(word, text)

    def test_each_kind_is_named(self):
        zero = lambda *shape: files.Tensor("F16", list(shape), bytes(2 * math.prod(shape)))
        attention = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"
        hint, label = {"input_hint_block.0.weight": zero(16, 3, 3, 3)}, {"label_emb.0.0.weight": zero(4, 2816)}
        sd1 = dict(hint, **{attention + ".weight": zero(4, 768)})
        files.write(self.path("sd1.safetensors"), sd1)
        self.says("sd1.safetensors", "a ControlNet (safetensors)", "control: for SD1 with 768 values a token")
        files.write(self.path("sd2.safetensors"), dict(hint, **{attention + ".weight": zero(4, 1024)}))
        self.says("sd2.safetensors", "a ControlNet (", "for SD2 with 1024")
        files.write(self.path("small.safetensors"), dict(hint, **label))
        self.says("small.safetensors", "a ControlNet (", "for SDXL, reads no text")
        files.write(self.path("union.safetensors"), dict(hint, **label, **{
            attention + ".weight": zero(4, 2048), "task_embedding": zero(8, 320),
            "control_add_embedding.linear_1.weight": zero(4, 4)}))
        self.says("union.safetensors", "a union ControlNet", "for SDXL with 2048", "8 types of picture")
        files.write(self.path("lora.safetensors"), dict(hint, **{
            "lora_controlnet": zero(0), attention + ".up": zero(640, 8), attention + ".down": zero(8, 2048),
            "label_emb.0.0.up": zero(4, 4)}))
        self.says("lora.safetensors", "a control-LoRA", "for SDXL with 2048 values a token")
        files.write(self.path("difference.safetensors"), dict(
            {"control_model." + name: tensor for name, tensor in sd1.items()}, difference=zero(0)))
        self.says("difference.safetensors", "kept as a difference", "for SD1")
        files.write(self.path("full.safetensors"), {"conv_in.weight": zero(4, 768, 3, 3),
                                                    "body.0.block1.weight": zero(4, 4, 3, 3)})
        self.says("full.safetensors", "a T2I-Adapter", "full, for SDXL")
        files.write(self.path("light.safetensors"), {"body.0.in_conv.weight": zero(4, 192, 1, 1),
                                                     "body.0.body.0.block1.weight": zero(4, 4, 3, 3)})
        self.says("light.safetensors", "a T2I-Adapter", "light, for SD1")
        os.mkdir(self.path("folder"))
        files.write(self.path("folder/diffusion_pytorch_model.safetensors"),
                    {"controlnet_cond_embedding.conv_in.weight": zero(16, 3, 3, 3),
                     "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": zero(4, 768)})
        self.says("folder", "a ControlNet", "for SD1 with 768")


class Docs(ControlCase):
    def test_the_commands_of_the_page(self):
        """All of docs/control.md's, in one folder with files of those names."""
        folder = lambda name, tensors: (os.makedirs(self.path("controlnet/" + name)), files.write(
            self.path(f"controlnet/{name}/diffusion_pytorch_model.safetensors"), control.controlnet_diffusers(tensors)))
        files.write(self.path("sd1.safetensors"), *files.golden("sd1"))
        files.write(self.path("sdxl.safetensors"), *files.golden("sdxl"))
        tensors = control.controlnet("sd1")
        folder("sd-controlnet-canny", tensors)
        for name in ("edges", "depth", "control_v11p_sd15_inpaint"):
            files.write(self.path(f"controlnet/{name}.safetensors"), tensors)
        files.write(self.path("controlnet/union-promax.safetensors"), control.union("sdxl", 8))
        files.write(self.path("controlnet/t2i-adapter-sketch-sdxl.safetensors"),
                    control.adapter_diffusers(control.adapter((64, 128, 128, 128), 768)))
        self.write("room-depth.png", png(64, 64, lambda x, y: (4 * y,) * 3))
        self.write("mask.png", png(64, 64, lambda x, y: (255 * (x > 32),) * 3))
        found = doc_commands.commands("docs/control.md")
        self.assertGreaterEqual(len(found), 7)
        for words in found:
            done = self.good(*doc_commands.small(words))
            self.assertNotIn("warn", done.stderr, words)
        self.assertIn("8 types of picture", self.good("inspect", "controlnet/union-promax.safetensors").stdout)


if __name__ == "__main__":
    unittest.main()
