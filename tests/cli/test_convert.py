"""tessera convert: GGUF checked by a reader of its own, diffusers folders and back, single parts, what is refused, Ctrl-C."""
import json
import math
import os
import random
import signal
import struct
import subprocess
import unittest

import checkpoint_files as files
import gguf_file
import pth_file
from cli_case import MODEL, TESSERA, Case

FAMILIES = ("sd1", "sd2", "sdxl")


def golden_path(family):
    return os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


class Gguf(Case):
    # relative rms error of normal values, as in tests/unit/weights/test_gguf_quantise.c
    BLOCKS = {"q8_0": 0.006, "q5_1": 0.04, "q5_0": 0.045, "q4_1": 0.08, "q4_0": 0.09, "q6_k": 0.02, "q5_k": 0.038,
              "q4_k": 0.072, "q3_k": 0.15, "q2_k": 0.27}

    def sample(self):
        """A small file with a matrix, a convolution, an embedding and a bias."""
        draw = random.Random(5)
        shapes = {"a.weight": [8, 512], "conv.weight": [16, 16, 3, 3], "embedding.weight": [2, 256], "a.bias": [256]}
        tensors, values = {}, {}
        for name, shape in shapes.items():
            data = floats([draw.gauss(0.002, 0.05) for _ in range(math.prod(shape))])
            tensors[name], values[name] = files.Tensor("F32", shape, data), struct.unpack(f"<{len(data) // 4}f", data)
        files.write(self.path("in.safetensors"), tensors, {"note": "kept"})
        return shapes, values

    def error(self, values, found):
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(values, found)) / sum(a * a for a in values))

    def test_every_type_is_what_its_definition_says(self):
        shapes, values = self.sample()
        for kind, bound in self.BLOCKS.items():
            self.good("convert", "in.safetensors", "x.gguf", "--type", kind)
            tensors, keys = gguf_file.read(self.path("x.gguf"))
            self.assertEqual(keys, {"note": "kept"})
            self.assertEqual({name: tensor.shape for name, tensor in tensors.items()}, shapes)
            self.assertEqual({name: tensor.kind for name, tensor in tensors.items()},
                             {"a.weight": kind.upper(), "conv.weight": "F32", "embedding.weight": "F32", "a.bias": "F32"})
            decoded = tensors["a.weight"].values()
            self.assertLess(self.error(values["a.weight"], decoded), bound, kind)
            self.assertGreater(self.error(values["a.weight"], decoded), bound / 2, kind)
            self.good("convert", "x.gguf", "back.safetensors", "--type", "f32")
            back, metadata = files.read(self.path("back.safetensors"))
            self.assertEqual(metadata, {"note": "kept"})
            for name, tensor in tensors.items():
                read = struct.unpack(f"<{len(back[name].data) // 4}f", back[name].data)
                self.assertEqual(back[name].shape, shapes[name])
                self.assertLess(max(abs(a - b) for a, b in zip(read, tensor.values())), 1e-7, (kind, name))

    def test_blocks_become_other_blocks_and_stay_when_kept(self):
        _, values = self.sample()
        self.good("convert", "in.safetensors", "q8.gguf", "--type", "q8_0")
        self.good("convert", "q8.gguf", "same.gguf")
        self.assertEqual(self.read("q8.gguf"), self.read("same.gguf"))
        self.good("convert", "q8.gguf", "q4.gguf", "--type", "q4_k")
        tensors, _ = gguf_file.read(self.path("q4.gguf"))
        self.assertEqual(tensors["a.weight"].kind, "Q4_K")
        self.assertLess(self.error(values["a.weight"], tensors["a.weight"].values()), 0.075)
        self.good("convert", "q8.gguf", "plain.safetensors")
        self.assertEqual(files.read(self.path("plain.safetensors"))[0]["a.weight"].dtype, "F16")

    def test_plain_types_equal_those_of_safetensors(self):
        for family, kinds in (("sd1", ["keep"]), ("sd2", ["f16", "bf16", "f32"]), ("sdxl", ["f16", "keep"])):
            for kind in kinds:
                self.good("convert", golden_path(family), "x.gguf", "--type", kind)
                self.good("convert", "x.gguf", "back.safetensors")
                self.good("convert", golden_path(family), "direct.safetensors", "--type", kind)
                back, told = files.read(self.path("back.safetensors"))
                direct, expected = files.read(self.path("direct.safetensors"))
                self.assertEqual(set(back), set(direct))
                for name, tensor in direct.items():
                    self.assertTrue(tensor.same(back[name]), (family, kind, name))
                self.assertEqual(told, expected)

    def test_a_whole_model_is_as_stable_diffusion_cpp_has_it(self):
        self.good("convert", golden_path("sd2"), "x.gguf", "--type", "q4_0")
        tensors, keys = gguf_file.read(self.path("x.gguf"))
        self.assertNotIn("general.architecture", keys)
        self.assertFalse([key for key in keys if key.startswith("comfy.")])
        kinds = {name: tensor.kind for name, tensor in tensors.items()}
        prefix = "model.diffusion_model."
        self.assertEqual(kinds[prefix + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"], "Q4_0")
        self.assertEqual(kinds["cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.weight"], "Q4_0")
        for name in (prefix + "input_blocks.1.0.in_layers.2.weight", prefix + "time_embed.0.weight",
                     prefix + "out.0.weight", "cond_stage_model.model.token_embedding.weight",
                     prefix + "input_blocks.1.1.transformer_blocks.0.norm1.weight"):
            self.assertEqual(kinds[name], "F16", name)

    def test_a_unet_is_as_comfyui_gguf_has_it(self):
        for family, architecture in (("sd1", "sd1"), ("sdxl", "sdxl")):
            self.good("convert", golden_path(family), "u.gguf", "--part", "unet", "--type", "q4_k")
            tensors, keys = gguf_file.read(self.path("u.gguf"))
            source = files.below(files.golden(family)[0], "model.diffusion_model.")
            self.assertEqual(keys["general.architecture"], architecture)
            self.assertEqual((keys["general.quantization_version"], keys["general.file_type"]), (2, 14))
            self.assertEqual(set(tensors), set(source))
            reshaped = 0
            for name, tensor in tensors.items():
                shape, count = source[name].shape, math.prod(source[name].shape)
                note = keys.get("comfy.gguf.orig_shape." + name)
                wanted = len(shape) > 1 and count >= 512 and count % 256 == 0 and shape[-1] % 256
                self.assertEqual(note, shape if wanted else None, name)
                self.assertEqual(tensor.shape, [count // 256, 256] if wanted else shape)
                reshaped += bool(wanted)
            self.assertGreater(reshaped, 50)
            kinds = {name: tensor.kind for name, tensor in tensors.items()}
            self.assertEqual((kinds["input_blocks.0.0.weight"], kinds["out.2.weight"]), ("F32", "F32"))
            self.assertEqual(kinds["time_embed.0.weight"], "F16")
            self.assertEqual(kinds["input_blocks.4.1.proj_in.weight"], "F16")
            self.assertEqual(kinds["input_blocks.1.0.in_layers.2.weight"], "Q4_K")
            self.assertEqual(kinds["out.0.weight"], "F16")

    def test_ggufs_paint(self):
        tensors = files.golden("sd1")[0]
        files.write(self.path("rest.safetensors"), {name: tensor for name, tensor in tensors.items()
                                                    if not name.startswith("model.diffusion_model.")})
        expected = self.latent("--model", golden_path("sd1"))
        self.good("convert", golden_path("sd1"), "f16.gguf", "--type", "f16")
        self.assertEqual(self.latent("--model", "f16.gguf"), expected)
        self.good("convert", golden_path("sd1"), "f16u.gguf", "--type", "f16", "--part", "unet")
        self.assertEqual(self.latent("--unet", "f16u.gguf", "--model", golden_path("sd1")), expected)
        for arguments in (["--type", "q8_0"], ["--type", "q8_0", "--part", "unet"], ["--type", "q5_k", "--part", "unet"]):
            self.good("convert", golden_path("sd1"), "q.gguf", *arguments)
            given = ["--unet" if "--part" in arguments else "--model", "q.gguf"]
            given += ["--model", golden_path("sd1")] if "--part" in arguments else []
            found = self.latent(*given)
            self.assertNotEqual(found, expected)
            self.assertLess(self.error(expected, found), 0.02 if "q8_0" in arguments else 0.25)

    def latent(self, *arguments):
        self.paint("--prompt", "a cat", "--width", "64", "--height", "64", "--output", "x.png", "--save-latent", "x.latent",
                   *arguments)
        data = files.read(self.path("x.latent"))[0]["latent_tensor"].data
        return struct.unpack(f"<{len(data) // 4}f", data)


class Folders(Case):
    def test_folders_and_back_bit_for_bit(self):
        for family in FAMILIES:
            self.good("convert", golden_path(family), family + "/")
            self.good("convert", family, family + ".safetensors")
            source, metadata = files.golden(family)
            found, told = files.read(self.path(family + ".safetensors"))
            self.assertEqual(set(found), set(source))
            for name, tensor in source.items():
                self.assertTrue(tensor.same(found[name]), name)
            config, back = (json.loads(m.get("tessera.config", "{}")) for m in (metadata, told))
            self.assertEqual({key: back.get(key) for key in config}, config)

    def test_names_are_those_of_diffusers(self):
        """Against the names that the tests' own table gives."""
        for family in FAMILIES:
            tensors = files.golden(family)[0]
            parts = dict(files.text_parts(tensors, family), unet=files.unet(tensors), vae=files.vae(tensors))
            self.good("convert", golden_path(family), "f" + family)
            for part, content in parts.items():
                stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
                found, metadata = files.read(self.path(f"f{family}/{part}/{stem}.safetensors"))
                self.assertEqual(metadata, {"format": "pt"})
                content = {name: tensor for name, tensor in content.items() if not name.endswith("position_ids")}
                self.assertEqual(set(found), set(content))
                for name, tensor in content.items():
                    self.assertTrue(tensor.same(found[name]), (family, part, name))

    def load(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return json.load(file)

    def test_configs_describe_the_networks(self):
        self.good("convert", golden_path("sdxl"), "x")
        index, unet = self.load("x/model_index.json"), self.load("x/unet/config.json")
        self.assertEqual(index["_class_name"], "StableDiffusionXLPipeline")
        self.assertEqual(index["text_encoder_2"], ["transformers", "CLIPTextModelWithProjection"])
        self.assertEqual(unet["block_out_channels"], [64, 128, 128])
        self.assertEqual(unet["down_block_types"], ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"])
        self.assertEqual(unet["up_block_types"], ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"])
        self.assertEqual(unet["layers_per_block"], 2)
        self.assertEqual((unet["cross_attention_dim"], unet["use_linear_projection"]), (96, True))
        self.assertEqual((unet["addition_embed_type"], unet["projection_class_embeddings_input_dim"]), ("text_time", 1600))
        first, second = self.load("x/text_encoder/config.json"), self.load("x/text_encoder_2/config.json")
        self.assertEqual((first["hidden_size"], first["num_hidden_layers"], first["num_attention_heads"],
                          first["hidden_act"]), (32, 3, 2, "quick_gelu"))
        self.assertEqual((second["hidden_size"], second["num_hidden_layers"], second["num_attention_heads"],
                          second["hidden_act"], second["projection_dim"]), (64, 3, 4, "gelu", 64))
        vae = self.load("x/vae/config.json")
        self.assertEqual((vae["scaling_factor"], vae["latent_channels"], vae["block_out_channels"]),
                         (0.13025, 4, [32, 32, 64, 128]))
        self.assertEqual(self.load("x/scheduler/scheduler_config.json")["prediction_type"], "epsilon")
        self.good("convert", golden_path("sd2"), "y")
        self.assertEqual(self.load("y/scheduler/scheduler_config.json")["prediction_type"], "v_prediction")
        self.assertEqual(self.load("y/text_encoder/config.json")["num_hidden_layers"], 2)  # the second-last of 3 is read
        self.assertEqual(self.load("y/unet/config.json")["attention_head_dim"], [1, 2, 2])
        self.good("convert", golden_path("sd1"), "z")
        self.assertEqual(self.load("z/unet/config.json")["attention_head_dim"], 8)
        self.assertEqual(self.load("z/model_index.json")["safety_checker"], [None, None])

    def test_the_tokenizer_is_clips(self):
        self.good("convert", golden_path("sdxl"), "x")
        for part, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
            vocabulary = self.load(f"x/{part}/vocab.json")
            self.assertEqual(sorted(vocabulary.values()), list(range(49408)))
            self.assertEqual([vocabulary[word] for word in ("!", "a</w>", "cat</w>", "photo</w>", "<|startoftext|>",
                                                           "<|endoftext|>")], [0, 320, 2368, 1125, 49406, 49407])
            merges = self.read(f"x/{part}/merges.txt").decode().splitlines()
            self.assertEqual((merges[0], merges[1], len(merges)), ("#version: 0.2", "i n", 48895))
            for number, line in enumerate(merges[1:]):
                left, right = line.split(" ")
                self.assertEqual(vocabulary[left + right], 512 + number)
            self.assertEqual(self.load(f"x/{part}/tokenizer_config.json")["pad_token"], pad)
            self.assertEqual(self.load(f"x/{part}/special_tokens_map.json")["pad_token"], pad)

    def test_marks_of_training_become_the_scheduler(self):
        tensors, metadata = files.golden("sdxl")
        for mark in ("v_pred", "ztsnr"):
            tensors[mark] = files.Tensor("F32", [], b"\0\0\0\0")
        tensors["alphas_cumprod"] = files.Tensor("F32", [2], bytes(8))
        tensors["model_ema.decay"] = files.Tensor("F32", [], bytes(4))
        files.write(self.path("in.safetensors"), tensors, metadata)
        text = self.good("convert", "in.safetensors", "x").stdout
        self.assertIn("left out: 1 tensors of training averages", text)
        self.assertIn("left out: 1 tensors that such a file has no place for", text)
        scheduler = self.load("x/scheduler/scheduler_config.json")
        self.assertEqual((scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"]), ("v_prediction", True))
        self.assertIn("predicts v, zero terminal SNR", self.good("inspect", "x").stdout)

    def test_what_is_there_stays(self):
        os.makedirs(self.path("full"))
        self.write("full/note", "mine")
        self.refused(1, ["full", "something in it is not replaced"], "convert", golden_path("sd2"), "full")
        self.write("file", "mine")
        self.refused(1, ["file", "no folder"], "convert", golden_path("sd2"), "file")
        self.refused(1, ["no/where"], "convert", golden_path("sd2"), "no/where/")
        files.write(self.path("unet.safetensors"), files.below(files.golden("sd1")[0], "model.diffusion_model."))
        self.refused(1, ["full SD1"], "convert", "unet.safetensors", "new")
        self.refused(1, ["q8_0", ".gguf"], "convert", golden_path("sd2"), "new", "--type", "q8_0")
        self.refused(1, ["part goes into a file"], "convert", golden_path("sd2"), "new", "--part", "unet")
        os.mkdir(self.path("empty"))
        self.good("convert", golden_path("sd2"), "empty")
        self.assertEqual(self.files(), ["empty", "file", "full", "unet.safetensors"])
        self.assertEqual(self.read("full/note"), b"mine")

    def test_ctrl_c_leaves_nothing(self):
        """Stopped while it writes: a name is seen first, so it has begun."""
        for name, kind in (("x", "f32"), ("x.gguf", "q2_k"), ("x.safetensors", "bf16")):
            process = subprocess.Popen([TESSERA, "convert", MODEL, name, "--type", kind], cwd=self.dir,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while not self.files() and process.poll() is None:
                pass
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, errors)
            self.assertEqual(self.files(), [])


class Parts(Case):
    def test_parts_are_read_again(self):
        for family in FAMILIES:
            given = []
            for part in ("unet", "vae", "text-encoder") + (("text-encoder-2",) if family == "sdxl" else ()):
                self.good("convert", golden_path(family), part + ".safetensors", "--part", part)
                given += ["--" + part, part + ".safetensors"]
            self.good("convert", *given, "one.safetensors")
            source, metadata = files.golden(family)
            found, told = files.read(self.path("one.safetensors"))
            self.assertEqual(set(found), set(source))
            for name, tensor in source.items():
                self.assertTrue(tensor.same(found[name]), (family, name))
            self.assertEqual(json.loads(told.get("tessera.config", "{}")), json.loads(metadata.get("tessera.config", "{}")))

    def test_names_are_those_that_loaders_know(self):
        for part, name in (("unet", "input_blocks.0.0.weight"), ("vae", "decoder.conv_in.weight"),
                           ("text-encoder", "text_model.embeddings.token_embedding.weight"),
                           ("text-encoder-2", "text_model.encoder.layers.0.self_attn.q_proj.weight")):
            self.good("convert", golden_path("sdxl"), "p.safetensors", "--part", part)
            self.assertIn(name, files.read(self.path("p.safetensors"))[0])

    def test_a_file_of_diffusers_names_is_a_part(self):
        tensors = files.golden("sdxl")[0]
        files.write(self.path("u.safetensors"), files.unet(tensors))
        self.good("convert", "u.safetensors", "u.gguf", "--part", "unet", "--type", "q8_0")
        found, keys = gguf_file.read(self.path("u.gguf"))
        self.assertEqual(keys["general.architecture"], "sdxl")
        self.assertEqual(set(found), set(files.below(tensors, "model.diffusion_model.")))

    def test_what_is_not_there(self):
        self.refused(1, ["no second text encoder"], "convert", golden_path("sd1"), "x.safetensors", "--part",
                     "text-encoder-2")
        self.refused(1, ["safetensors cannot hold q4_0"], "convert", golden_path("sd1"), "x.safetensors", "--type", "q4_0")
        self.refused(1, ["GGUF has no F8"], "convert", golden_path("sd1"), "x.gguf", "--type", "f8")
        self.refused(2, ["--part takes"], "convert", golden_path("sd1"), "x.gguf", "--part", "clip")
        files.write(self.path("nan.safetensors"), {"w": files.Tensor("F32", [2, 32], floats([math.nan] * 64))})
        self.refused(1, ["\"w\"", "no finite numbers"], "convert", "nan.safetensors", "x.gguf", "--type", "q8_0")
        self.assertEqual(self.files(), ["nan.safetensors"])


class Inputs(Case):
    def same(self, name, expected):
        found, metadata = files.read(self.path(name))
        self.assertEqual(set(found), set(expected))
        for key, tensor in expected.items():
            self.assertTrue(tensor.same(found[key]), key)
        return metadata

    def test_training_checkpoints(self):
        """A .ckpt as trainers save it: nested, with averages and what is no tensor beside the weights."""
        tensors, _ = files.golden("sd1")
        more = dict(tensors)
        more["model_ema.diffusion_modelinput_blocks00weight"] = files.Tensor("F32", [2], bytes(8))
        more["model_ema.num_updates"] = files.Tensor("I64", [1], bytes(8))
        for name, wrap in (("a.ckpt", lambda state: {"epoch": 3, "global_step": 70000, "state_dict": state,
                                                     "lr": 1e-4, "note": "x", "callbacks": {"best": None}}),
                           ("b.pth", lambda state: state)):
            pth_file.write(self.path(name), more, wrap)
            text = self.good("convert", name, "x.safetensors").stdout
            self.assertIn("left out: 2 tensors of training averages (model_ema.*)", text)
            self.same("x.safetensors", tensors)
        self.good("convert", "a.ckpt", "a.gguf", "--type", "q8_0")
        self.good("convert", golden_path("sd1"), "b.gguf", "--type", "q8_0")
        (a, _), (b, _) = gguf_file.read(self.path("a.gguf")), gguf_file.read(self.path("b.gguf"))
        self.assertEqual({name: tensor.data for name, tensor in a.items()}, {name: tensor.data for name, tensor in b.items()})
        self.good("convert", "a.ckpt", "folder")
        self.good("convert", "folder", "back.safetensors")
        self.same("back.safetensors", tensors)

    def test_folders_of_bins(self):
        for shards in (1, 2):
            folder = f"f{shards}"
            expected = files.write_folder(self.path(folder), "sd2")
            for part in ("unet", "vae", "text_encoder"):
                stem = "pytorch_model" if part == "text_encoder" else "diffusion_pytorch_model"
                source = self.path(f"{folder}/{part}/{'model' if part == 'text_encoder' else stem}.safetensors")
                tensors, _ = files.read(source)
                os.remove(source)
                if shards == 1 or part == "vae":
                    pth_file.write(self.path(f"{folder}/{part}/{stem}.bin"), tensors)
                    continue
                index = {}
                for number in range(shards):
                    name = f"{stem}-{number + 1:05d}-of-{shards:05d}.bin"
                    content = {key: tensors[key] for key in sorted(tensors)[number::shards]}
                    pth_file.write(self.path(f"{folder}/{part}/{name}"), content)
                    index.update({key: name for key in content})
                files.write_json(self.path(f"{folder}/{part}/{stem}.bin.index.json"), {"weight_map": index})
            self.good("convert", folder, "x.safetensors")
            found, _ = files.read(self.path("x.safetensors"))
            for name, tensor in expected.items():
                self.assertTrue(tensor.same(found[name]), name)

    def test_scaled_f8(self):
        eights = files.Tensor("F8_E4M3", [2, 2], b"\x38\x40\xb8\x00")  # 1, 2, -1, 0
        for spelling in ("scale_weight", "weight_scale"):
            files.write(self.path("in.safetensors"), {"a.weight": eights, "a." + spelling: files.Tensor("F32", [], floats([0.5])),
                                                      "b.weight": eights})
            self.good("convert", "in.safetensors", "x.safetensors")
            found, _ = files.read(self.path("x.safetensors"))
            self.assertEqual(set(found), {"a.weight", "b.weight"})
            self.assertEqual((found["a.weight"].dtype, struct.unpack("<4e", found["a.weight"].data)), ("F16", (0.5, 1, -0.5, 0)))
            self.assertTrue(found["b.weight"].same(eights))
            self.good("convert", "in.safetensors", "x.gguf")
            tensors, _ = gguf_file.read(self.path("x.gguf"))
            self.assertEqual(tensors["a.weight"].values(), [0.5, 1, -0.5, 0])
            self.assertEqual((tensors["b.weight"].kind, tensors["b.weight"].values()), ("F16", [1, 2, -1, 0]))

    def test_a_half_vae_in_a_full_model(self):
        tensors, metadata = files.golden("sd1")
        self.good("convert", golden_path("sd1"), "full.safetensors", "--type", "f32")
        files.write(self.path("vae.safetensors"), files.below(tensors, "first_stage_model."))
        self.good("convert", "full.safetensors", "x.safetensors", "--vae", "vae.safetensors")
        found, _ = files.read(self.path("x.safetensors"))
        for name, tensor in tensors.items():
            if name.startswith("first_stage_model."):
                self.assertTrue(tensor.same(found[name]), name)
            else:
                self.assertEqual(found[name].dtype, "F32")

    def renamed(self, tensors, places):
        """As stable-diffusion.cpp names a model while it converts: text encoders by Hugging Face's names, OpenCLIP's joined
        projections cut, but its text projection not turned; projections of transformers as 1x1 convolutions."""
        result = {}
        for prefix, (target, is_open) in places.items():
            text = files.open_clip_hf(tensors, prefix) if is_open else files.below(tensors, prefix)
            for name, tensor in text.items():
                if name == "text_projection.weight":
                    result[target + "text_model.text_projection"] = tensors[prefix + "text_projection"]
                elif name != "logit_scale" and not name.endswith("position_ids"):
                    result[target + name] = tensor
        for name, tensor in tensors.items():
            if name.startswith(("model.diffusion_model.", "first_stage_model.")):
                if name.endswith(("proj_in.weight", "proj_out.weight")) and len(tensor.shape) == 2:
                    tensor = files.Tensor(tensor.dtype, tensor.shape + [1, 1], tensor.data)
                result[name] = tensor
        return result

    def test_names_of_stable_diffusion_cpp(self):
        tensors, metadata = files.golden("sdxl")
        names = self.renamed(tensors, {"conditioner.embedders.0.transformer.": ("cond_stage_model.transformer.", False),
                                       "conditioner.embedders.1.model.": ("cond_stage_model.1.transformer.", True)})
        expected = {name: tensor for name, tensor in tensors.items() if not name.endswith("logit_scale")}
        files.write(self.path("cpp.safetensors"), names)
        self.good("convert", "cpp.safetensors", "x.safetensors")
        self.same("x.safetensors", expected)
        files.write(self.path("plain.safetensors"), names)
        self.good("convert", "plain.safetensors", "cpp.gguf")
        self.assertIn("an SDXL checkpoint", self.good("inspect", "cpp.gguf").stdout)

    def test_names_of_stable_diffusion_cpp_in_sd2(self):
        """Its text encoder is told by its 1024 values; the rest of this file is thin."""
        tensors, _ = files.golden("sd2")
        wide = lambda rows: files.Tensor("F16", [rows, 1024], bytes(2048 * rows))
        old, text = "cond_stage_model.transformer.text_model.", {}
        text[old + "embeddings.token_embedding.weight"] = wide(4)
        for letter in "qkv":
            text[f"{old}encoder.layers.0.self_attn.{letter}_proj.weight"] = wide(2)
        unet = {name: tensor for name, tensor in tensors.items() if not name.startswith("cond_stage_model.")}
        for name, tensor in unet.items():
            if name.endswith("attn2.to_k.weight"):
                unet[name] = files.Tensor("F16", [1, 1024], bytes(2048))
            elif name.endswith("proj_in.weight"):
                unet[name] = files.Tensor(tensor.dtype, tensor.shape + [1, 1], tensor.data)
        files.write(self.path("cpp.safetensors"), dict(unet, **text))
        self.good("convert", "cpp.safetensors", "x.safetensors")
        found, _ = files.read(self.path("x.safetensors"))
        self.assertEqual(found["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"].shape, [6, 1024])
        name = "model.diffusion_model.input_blocks.1.1.proj_in.weight"
        self.assertTrue(tensors[name].same(found[name]))


if __name__ == "__main__":
    unittest.main()
