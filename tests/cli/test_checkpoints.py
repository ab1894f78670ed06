"""Models in every layout against their single files: the golden checkpoints are taken apart and written as diffusers
folders and as parts, converted back, and compared byte by byte."""
import json
import os
import shutil
import struct
import unittest

import broken_files
import checkpoint_files as files
from cli_case import MODEL, Case, png

FAMILIES = ("sd1", "sd2", "sdxl")


class Convert(Case):
    def same_as(self, expected, path):
        found, _ = files.read(path)
        extra = [name for name in found if name not in expected and not name.endswith("position_ids")]
        self.assertEqual(extra, [])
        for name, tensor in expected.items():
            self.assertIn(name, found)
            self.assertTrue(tensor.same(found[name]), name)
        return found

    def test_folders_are_the_single_file(self):
        for family in FAMILIES:
            expected = files.write_folder(self.path(family), family, old=family == "sd2")
            self.good("convert", family, family + ".safetensors")
            self.same_as(expected, self.path(family + ".safetensors"))

    def test_sharded_and_fp16_folders_are_too(self):
        expected = files.write_folder(self.path("shards"), "sdxl", shards=3)
        self.good("convert", "shards", "a.safetensors")
        self.same_as(expected, self.path("a.safetensors"))
        expected = files.write_folder(self.path("fp16"), "sd2", fp16=True)
        self.good("convert", "fp16", "b.safetensors")
        self.same_as(expected, self.path("b.safetensors"))

    def test_parts_are_the_single_file(self):
        for family in FAMILIES:
            tensors, metadata = files.golden(family)
            text = files.text_parts(tensors, family)
            files.write(self.path("unet.safetensors"), files.unet(tensors), metadata)
            files.write(self.path("vae.safetensors"), files.vae(tensors))
            given = []
            for option, part in zip(("--text-encoder", "--text-encoder-2"), reversed(sorted(text))):
                files.write(self.path(part + ".safetensors"), text[part])
                given += [option, part + ".safetensors"]
            self.good("convert", "--unet", "unet.safetensors", "--vae", "vae.safetensors", *given, "one.safetensors")
            self.same_as(tensors, self.path("one.safetensors"))
            self.assertEqual(json.loads(files.read(self.path("one.safetensors"))[1].get("tessera.config", "{}")),
                             json.loads(metadata.get("tessera.config", "{}")))

    def test_single_file_parts_in_their_other_names(self):
        """Bare and half-bare names, a part out of a full checkpoint, OpenCLIP's own names."""
        tensors, metadata = files.golden("sdxl")
        bare = files.below(tensors, "model.diffusion_model.")
        clip = files.below(tensors, "conditioner.embedders.0.")
        files.write(self.path("vae.safetensors"), files.below(tensors, "first_stage_model."))
        files.write(self.path("clip_l.safetensors"), clip)
        files.write(self.path("clip_g.safetensors"), files.below(tensors, "conditioner.embedders.1.model."))
        for prefix in ("", "diffusion_model.", "model.diffusion_model."):
            files.write(self.path("unet.safetensors"), {prefix + name: tensor for name, tensor in bare.items()})
            self.good("convert", "--unet", "unet.safetensors", "--vae", "vae.safetensors", "--text-encoder",
                      "clip_g.safetensors", "--text-encoder-2", "clip_l.safetensors", "one.safetensors")
            self.same_as(tensors, self.path("one.safetensors"))

    def test_a_part_replaces_the_checkpoints(self):
        tensors, _ = files.golden("sd1")
        changed = {name: files.Tensor(tensor.dtype, tensor.shape, bytes(len(tensor.data)))
                   for name, tensor in files.vae(tensors).items()}
        files.write(self.path("vae.safetensors"), changed)
        self.good("convert", MODEL, "one.safetensors", "--vae", "vae.safetensors")
        found, _ = files.read(self.path("one.safetensors"))
        for name, tensor in tensors.items():
            zero = name.startswith("first_stage_model.")
            self.assertEqual(found[name].data, bytes(len(tensor.data)) if zero else tensor.data, name)

    def test_numbers_change_as_asked(self):
        tensors, _ = files.golden("sd2")
        folder = os.path.join(files.GOLDEN, "tiny-sd2.safetensors")
        name = "model.diffusion_model.input_blocks.0.0.weight"
        values = struct.unpack(f"<{len(tensors[name].data) // 2}e", tensors[name].data)
        for kind, dtype in (("f32", "F32"), ("f16", "F16"), ("bf16", "BF16"), ("f8", "F8_E4M3")):
            self.good("convert", folder, "out.safetensors", "--type", kind)
            found, metadata = files.read(self.path("out.safetensors"))
            self.assertEqual(found[name].dtype, dtype)
            self.assertIn("text_heads", metadata["tessera.config"])
            self.assertEqual(set(found), set(tensors))
            if kind == "f32":
                self.assertEqual(struct.unpack(f"<{len(values)}f", found[name].data), values)
            if kind == "f8":
                self.assertEqual(found[name.replace("weight", "bias")].dtype, "F16")
            if kind == "bf16":
                wide = struct.unpack(f"<{len(values)}f", b"".join(b"\0\0" + found[name].data[i:i + 2]
                                                                  for i in range(0, len(found[name].data), 2)))
                self.assertLess(max(abs(a - b) for a, b in zip(values, wide)), max(map(abs, values)) / 256)

    def test_nothing_is_left_of_a_failure(self):
        self.refused(2, ["convert", "IN OUT"], "convert", "x")
        self.refused(2, ["--type", "q4"], "convert", "x", "y", "--type", "q4")
        self.refused(2, ["--tpye"], "convert", "x", "y", "--tpye", "f16")
        self.refused(1, ["none.safetensors"], "convert", "none.safetensors", "y")
        self.refused(1, ["no/where"], "convert", MODEL, "no/where.safetensors")
        self.assertEqual(self.files(), [])


class Inspect(Case):
    def says(self, path, *words):
        text = self.good("inspect", path).stdout
        for word in words:
            self.assertIn(word, text)

    def test_families_layouts_types_and_metadata(self):
        files.write_folder(self.path("f"), "sdxl", shards=2)
        self.says("f", "an SDXL checkpoint", "diffusers folder", "predicts eps", "F16 in", "MiB", '"text_heads":2')
        self.says("f/unet/diffusion_pytorch_model-00001-of-00002.safetensors", "a UNet in diffusers layout")
        self.says(os.path.join(files.GOLDEN, "tiny-sd2.safetensors"), "an SD2 checkpoint (safetensors)", "predicts v",
                  "context width 64")
        files.write(self.path("bare.safetensors"), {"x": files.Tensor("I32", [1], b"1234")},
                    {"note": "two\nlines" + "n" * 400})
        self.says("bare.safetensors", "a file of unknown kind", "I32 in 1 tensors", "note: two linesnnn", "nnn...")

    def test_marks_of_training(self):
        tensors, metadata = files.golden("sdxl")
        for mark in ("v_pred", "ztsnr"):
            tensors[mark] = files.Tensor("F32", [], b"\0\0\0\0")
        files.write(self.path("m.safetensors"), tensors, metadata)
        self.says("m.safetensors", "family SDXL, predicts v, zero terminal SNR")

    def test_adapters(self):
        layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
        content = broken_files.lora(layer, [8, 2048], [640, 8])
        content.update(broken_files.lora("lora_te1_text_model_encoder_layers_0_mlp_fc1", [4, 768], [3072, 4]))
        files.write(self.path("l.safetensors"), content, {"ss_network_dim": "8"})
        self.says("l.safetensors", "a LoRA", "layout: kohya", "2 low-rank layers of rank 4 to 8, made for SDXL",
                  "ss_network_dim: 8")
        files.write(self.path("full.safetensors"),
                    {"lora_unet_mid_block_resnets_0_conv1.diff_b": files.Tensor("F32", [2], bytes(8))})
        self.says("full.safetensors", "a LoRA", "no low-rank layers")

    KINDS = {  # names and shapes of one file of each kind, what is said of it, kind and family for programs
        "unet": ({"input_blocks.0.0.weight": [64, 4, 3, 3], "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight":
                  [8, 768]}, ["a UNet alone", "layout: single file, bare", "family SD1, predicts eps"], "unet", "SD1"),
        "diffusers": ({"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": [8, 2048]},
                      ["a UNet in diffusers layout", "layout: diffusers", "it cannot be used as a UNet"], "unet", "SDXL"),
        "control": ({"control_model.input_hint_block.0.weight": [2, 2], "control_model.input_blocks.1.1."
                     "transformer_blocks.0.attn2.to_k.weight": [8, 1024]}, ["a ControlNet", "for SD2 with 1024 values"], "controlnet", "SD2"),
        "control2": ({"controlnet_cond_embedding.conv_in.weight": [2, 2], "down_blocks.1.attentions.0.transformer_blocks.0."
                      "attn2.to_k.weight": [8, 768]}, ["a ControlNet", "layout: diffusers", "for SD1 with 768"], "controlnet", "SD1"),
        "t2i": ({"adapter.body.0.resnets.0.block1.weight": [2, 2]}, ["a T2I-Adapter"], "t2i_adapter", None),
        "vae": ({"decoder.mid_block.resnets.0.norm1.weight": [8]}, ["a VAE alone", "layout: diffusers"], "vae", None),
        "text": ({"text_model.encoder.layers.0.layer_norm1.weight": [8]}, ["a text encoder alone", "layout: Hugging Face"],
                 "text_encoder", None),
        "embedding": ({"emb_params": [3, 768]}, ["embedding", "3 vectors, made for SD1"], "embedding", "SD1"),
        "embedding2": ({"clip_l": [2, 768], "clip_g": [2, 1280]}, ["2 vectors, made for SDXL"], "embedding", "SDXL"),
        "upscaler": ({"body.0.rdb1.conv1.weight": [2, 2]}, ["a picture upscaler"], "upscaler", None),
        "latent": ({"latent_tensor": [1, 4, 8, 16]}, ["a latent picture", "a picture of 128x64"], "latent", None),
        "flux": ({"double_blocks.0.img_attn.proj.weight": [2, 2]}, ["a Flux model"], "flux", None),
        "nothing": ({"a": [1], "b": [1], "c": [1], "d": [1], "e": [1]}, ["unknown kind", "it holds: a, b, c, d, ..."],
                    "unknown", None),
    }

    def test_every_kind_of_file(self):
        for name, (shapes, words, kind, family) in self.KINDS.items():
            with self.subTest(name):
                tensors = {}
                for key, shape in shapes.items():
                    count = 4
                    for side in shape:
                        count *= side
                    tensors[key] = files.Tensor("F32", shape, bytes(count))
                files.write(self.path(name), tensors, {"note": "n"})
                self.says(name, "(safetensors)", "F32 in", "note: n", *words)
                told = json.loads(self.good("inspect", "--json", name).stdout)
                self.assertEqual((told["kind"], told.get("family"), told["container"]), (kind, family, "safetensors"))
                self.assertEqual(told["types"]["F32"]["tensors"], len(shapes))
                self.assertEqual(told["metadata"], {"note": "n"})

    def test_objects_for_programs(self):
        model = os.path.join(files.GOLDEN, "tiny-sd2.safetensors")
        self.write("x.png", png(8, 4, lambda x, y: (x, y, 0)))
        lines = self.good("inspect", model, "--json", "x.png").stdout.splitlines()
        told, picture = (json.loads(line) for line in lines)
        self.assertEqual((told["kind"], told["family"], told["layout"], told["file"]), ("sd2", "SD2", "single file", model))
        self.assertEqual(told["unet"], {"channels": 64, "in_channels": 4, "context_width": 64, "predicts": "v",
                                        "zero_snr": False})
        self.assertEqual(told["bytes"], sum(len(tensor.data) for tensor in files.golden("sd2")[0].values()))
        self.assertEqual(sum(part["tensors"] for part in told["parts"].values()), told["tensors"])
        self.assertEqual((picture["kind"], picture["width"], picture["height"]), ("picture", 8, 4))
        layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
        files.write(self.path("l"), broken_files.lora(layer, [8, 2048], [640, 8]))
        told = json.loads(self.good("inspect", "--json", "l").stdout)
        self.assertEqual(told["adapter"], {"layers": 1, "lowest_rank": 8, "highest_rank": 8, "dora": 0})
        self.good("generate", "--model", MODEL, "--prompt", "a tree", "--steps", "1", "--width", "64", "--height", "64",
                  "--output", "p.png")
        told = json.loads(self.good("inspect", "--json", "p.png").stdout)
        self.assertEqual(told["scene"]["prompt"], "a tree")
        self.refused(2, ["--jsn"], "inspect", "--jsn", "x.png")
        self.refused(2, ["inspect needs a file"], "inspect", "--json")


class Broken(Case):
    def test_each_is_refused_with_its_reason(self):
        self.assertGreaterEqual(len({write.__name__ for write in broken_files.CASES}), 40)
        for write in broken_files.CASES:
            with self.subTest(write.__name__):
                folder = self.path(write.__name__)
                os.mkdir(folder)
                arguments, words = write(broken_files.Folder(folder))
                self.refused(1, words, "generate", "--prompt", "a", "--steps", "1", "--width", "64", "--height", "64",
                             "--precision", "f32", "--output", "x.png", *arguments)
                shutil.rmtree(folder)
        self.assertEqual(self.files(), [])  # no picture, and nothing that a pickle made


def chunks(data):
    place = 8
    while place < len(data):
        size = struct.unpack(">I", data[place:place + 4])[0]
        yield data[place + 4:place + 8], data[place + 8:place + 8 + size]
        place += size + 12


class Paint(Case):
    """The same picture from every layout."""
    def pixels(self, *arguments):
        self.paint("--prompt", "a cat", "--width", "64", "--height", "64", "--output", "x.png",
                   "--save-latent", "x.latent", *arguments)
        return files.read(self.path("x.latent"))[0]["latent_tensor"].data

    def test_folder_and_parts(self):
        for family in FAMILIES:
            single = os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")
            tensors = files.write_folder(self.path(family), family)
            expected = self.pixels("--model", single)
            self.assertEqual(self.pixels("--model", family), expected, family)
            parts = ["--unet", family + "/unet/diffusion_pytorch_model.safetensors",
                     "--vae", family + "/vae/diffusion_pytorch_model.safetensors",
                     "--text-encoder", family + "/text_encoder/model.safetensors"]
            if family == "sdxl":
                parts += ["--text-encoder-2", family + "/text_encoder_2/model.safetensors"]
            if family == "sd1":  # the others need tessera.config, which stands in the folder's JSON
                self.assertEqual(self.pixels(*parts), expected, family)
                self.assertNotEqual(self.pixels("--model", single, "--vae", self.other_vae(tensors)), b"")

    def other_vae(self, tensors):
        files.write(self.path("vae.safetensors"), files.below(tensors, "first_stage_model."))
        return "vae.safetensors"

    def workflow(self, loaders, model, clip, vae):
        nodes = dict(loaders)
        nodes.update({
            "10": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": clip}},
            "11": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": clip}},
            "12": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
            "13": {"class_type": "KSampler", "inputs": {
                "model": model, "positive": ["10", 0], "negative": ["11", 0], "latent_image": ["12", 0], "seed": 7,
                "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
            "14": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": vae}},
            "15": {"class_type": "SaveImage", "inputs": {"images": ["14", 0], "filename_prefix": "x"}},
            "16": {"class_type": "SaveLatent", "inputs": {"samples": ["13", 0], "filename_prefix": "x"}}})
        self.write("w.json", json.dumps(nodes))
        done = self.good("run", "w.json", "--models", "models", "--output", "out", "--precision", "f32")
        latent = next(line for line in done.stdout.splitlines() if line.endswith(".latent"))
        picture = next(line for line in done.stdout.splitlines() if line.endswith(".png"))
        with open(os.path.join(self.dir, picture), "rb") as file:
            rows = [data for kind, data in chunks(file.read()) if kind == b"IDAT"]
        return files.read(os.path.join(self.dir, latent))[0]["latent_tensor"].data, rows

    def test_loaders_of_parts_in_a_workflow(self):
        for family in ("sd1", "sdxl"):
            tensors, metadata = files.golden(family)
            text = files.text_parts(tensors, family)
            for folder in ("checkpoints", "unet", "text_encoders", "vae"):
                os.makedirs(self.path("models/" + folder), exist_ok=True)
            files.write(self.path("models/checkpoints/all.safetensors"), tensors, metadata)
            files.write(self.path("models/unet/unet.safetensors"), files.unet(tensors), metadata)
            files.write(self.path("models/vae/vae.safetensors"), files.vae(tensors))
            for part, content in text.items():
                files.write(self.path(f"models/text_encoders/{part}.safetensors"), content, metadata)
            whole = self.workflow({"1": {"class_type": "CheckpointLoaderSimple",
                                         "inputs": {"ckpt_name": "all.safetensors"}}}, ["1", 0], ["1", 1], ["1", 2])
            clip = ({"class_type": "CLIPLoader", "inputs": {"clip_name": "text_encoder.safetensors",
                                                            "type": "stable_diffusion"}} if family == "sd1" else
                    {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "text_encoder_2.safetensors",
                                                                "clip_name2": "text_encoder.safetensors",
                                                                "type": "sdxl"}})
            parts = {"1": {"class_type": "UNETLoader", "inputs": {"unet_name": "unet.safetensors",
                                                                  "weight_dtype": "default"}},
                     "2": clip, "3": {"class_type": "VAELoader", "inputs": {"vae_name": "vae.safetensors"}}}
            self.assertEqual(self.workflow(parts, ["1", 0], ["2", 0], ["3", 0]), whole, family)
        parts["1"] = {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": "unet.safetensors"}}
        self.assertEqual(self.workflow(parts, ["1", 0], ["2", 0], ["3", 0]), whole)

    def test_sd2_text_encoder_without_its_last_layer(self):
        """As diffusers saves it: 23 layers of 24; the second-last one is read all the same."""
        tensors, metadata = files.golden("sd2")
        prefix = "cond_stage_model.model.transformer.resblocks."
        for number in range(24):
            for name, tensor in files.below(tensors, f"{prefix}{number % 3}.").items():
                tensors[f"{prefix}{number}.{name}"] = tensor
        files.write(self.path("all.safetensors"), tensors, metadata)
        short = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix + "23.")}
        self.assertLess(len(short), len(tensors))
        files.write(self.path("short.safetensors"), short, metadata)
        self.assertEqual(self.pixels("--model", "short.safetensors"), self.pixels("--model", "all.safetensors"))
        self.refused(1, ["last layer"], "generate", "--model", "short.safetensors", "--clip-skip", "1")

    def test_what_the_network_predicts(self):
        single = os.path.join(files.GOLDEN, "tiny-sd2.safetensors")
        expected = self.pixels("--model", single)
        self.assertEqual(self.pixels("--model", single, "--prediction", "v", "--zsnr", "off"), expected)
        self.assertNotEqual(self.pixels("--model", single, "--prediction", "eps"), expected)
        self.assertNotEqual(self.pixels("--model", single, "--zsnr", "on"), expected)

    def test_marks_of_v_prediction_and_zero_snr(self):
        tensors, metadata = files.golden("sdxl")
        path = os.path.join(files.GOLDEN, "tiny-sdxl.safetensors")
        for mark, options in (("v_pred", ["--prediction", "v"]),
                              ("ztsnr", ["--prediction", "v", "--zsnr", "on"])):
            tensors[mark] = files.Tensor("F32", [], struct.pack("<f", 1.0))
            files.write(self.path("marked.safetensors"), tensors, metadata)
            self.assertEqual(self.pixels("--model", "marked.safetensors"), self.pixels("--model", path, *options))

    def test_few_steps_without_guidance(self):
        """As SDXL-Turbo, Lightning and LCM are used."""
        path = os.path.join(files.GOLDEN, "tiny-sdxl.safetensors")
        for sampler, scheduler, steps in (("euler_ancestral", "normal", "1"), ("lcm", "sgm_uniform", "4"),
                                          ("euler", "sgm_uniform", "2")):
            self.pixels("--model", path, "--steps", steps, "--cfg", "1", "--sampler", sampler,
                        "--scheduler", scheduler)


if __name__ == "__main__":
    unittest.main()
