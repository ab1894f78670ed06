"""Packed caches: the original's bits in every way of painting, refusals that say what to do, and tampered files."""
import json
import os
import shutil
import signal
import struct
import subprocess
import time

import checkpoint_files as files
from cli_case import MODEL, TESSERA, Case

FAMILIES = ("sd1", "sd2", "sdxl")
REGION = ("--region", "box=50%:0:50%:100%,prompt=a tree")


def single(family):
    return os.path.join(files.GOLDEN, files.FILES[family] + ".safetensors")


def values(shape, seed):
    """Small numbers, the same every time."""
    count, state, out = shape[0] * shape[1], seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % (1 << 31)
        out.append((state / (1 << 31) - 0.5) * 0.4)
    return files.Tensor("F32", shape, struct.pack(f"<{count}f", *out))


def backwards(tensor):
    """A vector of halves, the last first."""
    data = b"".join(tensor.data[i:i + 2] for i in range(len(tensor.data) - 2, -1, -2))
    return files.Tensor(tensor.dtype, tensor.shape, data)


def lora(dora=False):
    """Rank 2 on a layer of the UNet, and one of the text encoder, of the shipped model."""
    layers = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": 64,
              "lora_te_text_model_encoder_layers_0_self_attn_q_proj": 128}
    out = {}
    for i, (layer, width) in enumerate(layers.items()):
        out[layer + ".lora_down.weight"] = values([2, width], 3 + i)
        out[layer + ".lora_up.weight"] = values([width, 2], 7 + i)
        if dora:
            out[layer + ".dora_scale"] = values([width, 1], 11 + i)
    return out


class Packed(Case):
    def pack(self, source, name="m.tsrpack", *more):
        return self.good("convert", source, name, "--threads", "2", *more).stdout

    def result(self, *arguments, precision="f32"):
        """Latent and rows of the picture."""
        done = self.good("generate", "--prompt", "a house", "--width", "64", "--height", "64", "--steps", "2", "--threads",
                         "2", "--precision", precision, "--output", "x.png", "--save-latent", "x.latent", *arguments)
        data, place, rows = self.read("x.png"), 8, b""
        while place < len(data):
            size, kind = struct.unpack(">I4s", data[place:place + 8])
            rows += data[place + 8:place + 8 + size] if kind == b"IDAT" else b""
            place += size + 12
        return files.read(self.path("x.latent"))[0]["latent_tensor"].data, rows, done.stderr

    def equal(self, original, cache, *arguments, **options):
        expected, found = self.result("--model", original, *arguments, **options), \
            self.result("--model", cache, *arguments, **options)
        self.assertEqual(found[0], expected[0], "latents")
        self.assertEqual(found[1], expected[1], "pictures")
        return found


def has_bf16():
    done = subprocess.run([TESSERA, "convert", MODEL, os.devnull + "/x.tsrpack", "--precision", "bf16"], text=True,
                          stderr=subprocess.PIPE, check=False)
    return "has no bf16" not in done.stderr


class Same(Packed):
    def test_every_family_is_the_original(self):
        for family in FAMILIES:
            for precision in ("f32", "bf16") if has_bf16() else ("f32",):
                with self.subTest(family, precision=precision):
                    self.pack(single(family), "m.tsrpack", "--precision", precision)
                    self.equal(single(family), "m.tsrpack", *REGION, precision=precision)

    def test_the_cache_needs_no_original(self):
        shutil.copy(MODEL, self.path("m.safetensors"))
        expected = self.result("--model", "m.safetensors")
        self.pack("m.safetensors", "m.tsrpack", "--precision", "f32")
        os.remove(self.path("m.safetensors"))
        self.assertEqual(self.result("--model", "m.tsrpack")[:2], expected[:2])

    def test_other_ways_to_a_model(self):
        """A diffusers folder, parts in files of their own, F8 with factors: packed, they are what they are."""
        files.write_folder(self.path("folder"), "sdxl")
        self.pack("folder", "folder.tsrpack", "--precision", "f32")
        self.equal("folder", "folder.tsrpack")
        tensors, _ = files.golden("sd1")
        files.write(self.path("vae.safetensors"), {
            name: backwards(t) if len(t.shape) == 1 else t
            for name, t in files.below(tensors, "first_stage_model.").items()})
        self.pack(MODEL, "vae.tsrpack", "--vae", "vae.safetensors", "--precision", "f32")
        expected = self.result("--model", MODEL, "--vae", "vae.safetensors")
        self.assertEqual(self.result("--model", "vae.tsrpack")[:2], expected[:2])
        self.good("convert", single("sd2"), "small.safetensors", "--type", "f8")
        self.pack("small.safetensors", "small.tsrpack", "--precision", "f32")
        self.equal("small.safetensors", "small.tsrpack")

    def test_adapters_beside_it(self):
        self.pack(MODEL, "m.tsrpack", "--precision", "f32")
        files.write(self.path("l.safetensors"), lora())
        plain = self.result("--model", "m.tsrpack")
        everywhere = self.equal(MODEL, "m.tsrpack", "--lora", self.path("l.safetensors") + ":0.8")
        region = self.equal(MODEL, "m.tsrpack", "--region",
                            "box=50%:0:50%:100%,prompt=a tree,lora=" + self.path("l.safetensors"))
        self.assertNotEqual(everywhere[0], plain[0])
        self.assertNotEqual(region[0], everywhere[0])

    def test_swapping_under_a_bound(self):
        """Two caches that take turns are two originals that do."""
        tensors, metadata = files.golden("sd1")
        for name, tensor in tensors.items():
            if name.endswith("transformer_blocks.0.norm1.bias") or name.endswith("norm3.bias"):
                tensors[name] = backwards(tensor)
        files.write(self.path("other.safetensors"), tensors, metadata)
        shutil.copy(MODEL, self.path("first.safetensors"))
        for name in ("first", "other"):
            self.pack(name + ".safetensors", name + ".tsrpack", "--precision", "f32")
        runs = []
        for ending in ("safetensors", "tsrpack"):
            runs.append(self.result("--model", "first." + ending, "--memory", "160MB", "--region",
                                    "box=50%:0:50%:100%,prompt=a tree,model=other." + ending))
            self.assertIn("swapped models", runs[-1][2])
        self.assertEqual(runs[0][:2], runs[1][:2])

    def test_gone_on_with_after_a_stop(self):
        self.pack(MODEL, "m.tsrpack", "--precision", "f32")
        same = ("--prompt", "a house", "--width", "64", "--height", "64", "--steps", "60", "--sampler", "euler_ancestral",
                "--threads", "2", "--precision", "f32", "--save-latent")
        self.good("generate", "--model", MODEL, *same, "whole.latent", "--output", "whole.png")
        process = subprocess.Popen([TESSERA, "generate", "--model", "m.tsrpack", *same, "x.latent", "--output", "x.png",
                                    "--save-state", "x.state"], cwd=self.dir, text=True, stderr=subprocess.PIPE)
        self.assertIn("step 15/60", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, said)
        self.good("generate", "--resume", "x.state", "--save-latent", "x.latent", "--output", "x.png")
        self.assertEqual(files.read(self.path("x.latent"))[0]["latent_tensor"].data,
                         files.read(self.path("whole.latent"))[0]["latent_tensor"].data)

    def test_in_a_workflow(self):
        os.makedirs(self.path("models/checkpoints"))
        self.pack(MODEL, "models/checkpoints/m.tsrpack", "--precision", "f32")
        shutil.copy(MODEL, self.path("models/checkpoints/m.safetensors"))
        latents = []
        for name in ("m.safetensors", "m.tsrpack"):
            self.write("w.json", json.dumps({
                "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
                "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
                "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
                "4": {"class_type": "KSampler", "inputs": {
                    "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0], "seed": 7,
                    "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
                "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": "x"}}}))
            done = self.good("run", "w.json", "--models", "models", "--output", "out", "--precision", "f32", "--threads", "2")
            path = next(line for line in done.stdout.splitlines() if line.endswith(".latent"))
            latents.append(files.read(self.path(path))[0]["latent_tensor"].data)
        self.assertEqual(latents[0], latents[1])


class Key(Packed):
    def test_what_it_says(self):
        self.assertIn("packed cache (SD1)", self.pack(MODEL, "m.tsrpack", "--precision", "f32"))
        text = self.good("inspect", "m.tsrpack").stdout
        for words in ("an SD1 checkpoint (packed cache)", "packed in f32 for oneDNN", "2 threads), as here: ",
                      "tessera-demo.safetensors, which is unchanged", "family SD1, predicts eps"):
            self.assertIn(words, text)
        self.assertNotIn('"sources"', text)

    def test_its_own_precision_unless_another_is_asked_for(self):
        self.pack(MODEL, "m.tsrpack", "--precision", "f32")
        paint = ("generate", "--model", "m.tsrpack", "--prompt", "a", "--steps", "1", "--width", "64", "--height", "64",
                 "--output", "x.png")
        self.good(*paint)
        if has_bf16():
            self.refused(1, ("m.tsrpack: packed in f32", "bf16 was asked for", "tessera convert"), *paint, "--precision",
                         "bf16")

    def test_made_for_another_processor(self):
        environment = dict(os.environ, ONEDNN_MAX_CPU_ISA="SSE41")
        done = subprocess.run([TESSERA, "convert", MODEL, "m.tsrpack", "--precision", "f32"], cwd=self.dir,
                              env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        if ", as here" in self.good("inspect", "m.tsrpack").stdout:
            self.skipTest("this processor has nothing beyond SSE4.1")
        self.refused(1, ("m.tsrpack: packed for oneDNN", "sse41", "make it again: tessera convert", MODEL, "m.tsrpack"),
                     "generate", "--model", "m.tsrpack", "--prompt", "a", "--output", "x.png")

    def test_what_needs_the_numbers(self):
        self.pack(MODEL, "m.tsrpack", "--precision", "f32")
        files.write(self.path("dora.safetensors"), lora(dora=True))
        files.write(self.path("vae.safetensors"), files.below(files.golden("sd1")[0], "first_stage_model."))
        paint = ("generate", "--model", "m.tsrpack", "--prompt", "a", "--steps", "1", "--width", "64", "--height", "64",
                 "--precision", "f32", "--output", "x.png")
        original = ("a packed cache cannot", "give the original checkpoint instead", MODEL)
        self.refused(1, original + ("adapters that hang on its numbers",), *paint, "--lora", self.path("dora.safetensors"))
        self.refused(1, original + ("joined with parts",), *paint, "--vae", "vae.safetensors")
        self.refused(1, original + ("be converted",), "convert", "m.tsrpack", "x.safetensors")
        self.refused(1, original + ("be packed again",), "convert", "m.tsrpack", "x.tsrpack")
        self.assertNotIn("x.png", self.files())

    def test_the_command(self):
        shutil.copy(MODEL, self.path("m.tsrpack"))
        self.refused(1, ("would take the place of its model",), "convert", "m.tsrpack", "m.tsrpack")
        self.assertEqual(os.path.getsize(self.path("m.tsrpack")), os.path.getsize(MODEL))
        self.refused(2, ("--precision, not --type",), "convert", MODEL, "x.tsrpack", "--type", "f16")
        self.refused(2, ("are for packed caches",), "convert", MODEL, "x.safetensors", "--precision", "f32")
        self.refused(2, ("auto, f32 or bf16, not 'f16'",), "convert", MODEL, "x.tsrpack", "--precision", "f16")
        self.refused(2, ("0 to 1024, not '-1'",), "convert", MODEL, "x.tsrpack", "--threads", "-1")
        files.write(self.path("vae.safetensors"), files.below(files.golden("sd1")[0], "first_stage_model."))
        self.refused(1, ("vae.safetensors",), "convert", "vae.safetensors", "x.tsrpack")
        self.refused(1, ("cannot be written",), "convert", MODEL, "nowhere/x.tsrpack")
        self.assertEqual(self.files(), ["m.tsrpack", "vae.safetensors"])

    def test_interrupted_it_leaves_nothing(self):
        for _ in range(20):
            process = subprocess.Popen([TESSERA, "convert", MODEL, "x.tsrpack"], cwd=self.dir, text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while not self.files() and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=120)
            if process.returncode == 0:  # too late: it was done
                os.remove(self.path("x.tsrpack"))
                continue
            self.assertEqual(process.returncode, 130, said)
            self.assertIn("nothing was written", said)
            self.assertEqual(self.files(), [])
            return
        self.fail("no conversion could be interrupted")


class Tampered(Packed):
    """Every lie in a cache ends in one line."""
    def setUp(self):
        super().setUp()
        self.pack(single("sd2"), "good.tsrpack", "--precision", "f32")
        self.tensors, self.metadata = files.read(self.path("good.tsrpack"))
        self.index = json.loads(self.tensors["packed.index"].data)
        self.key = json.loads(self.metadata["tessera.packed"])
        self.names = [name for name in self.tensors if name.startswith("packed:")]

    def write_cache(self, tensors, metadata, shift=0):
        """Aligned as caches are, or shifted."""
        header, place = {"__metadata__": metadata}, 0
        for name, tensor in tensors.items():
            header[name] = {"dtype": tensor.dtype, "shape": tensor.shape,
                            "data_offsets": [place, place + len(tensor.data)]}
            place += len(tensor.data)
        text = json.dumps(header).encode()
        text += b" " * (-(len(text) + 8) % 64 + shift)
        self.write("bad.tsrpack", struct.pack("<Q", len(text)) + text + b"".join(t.data for t in tensors.values()))

    def expect(self, words, key=None, index=None, tensors=None, shift=0):
        metadata = dict(self.metadata)
        metadata["tessera.packed"] = key if isinstance(key, str) else json.dumps(key or self.key)
        tensors = dict(tensors or self.tensors)
        if "packed.index" in tensors and index is not None:
            text = index if isinstance(index, bytes) else json.dumps(index).encode()
            tensors["packed.index"] = files.Tensor("U8", [len(text)], text)
        self.write_cache(tensors, metadata, shift)
        with self.subTest(words):
            self.refused(1, (words,), "generate", "--model", "bad.tsrpack", "--prompt", "a", "--steps", "1", "--width",
                         "64", "--height", "64", "--output", "x.png")

    def test_rewritten_it_still_works(self):
        self.write_cache(self.tensors, self.metadata)
        self.equal(single("sd2"), "bad.tsrpack")

    def test_keys(self):
        self.expect("not a JSON object", key="[")
        self.expect("not a JSON object", key="7")
        for name, value, words in (("version", 0, '"version" is not a number'), ("version", 2, "(packing 2)"),
                                   ("threads", 0, '"threads" is not a number'), ("threads", 99999, '"threads"'),
                                   ("threads", "2", '"threads"'), ("library", "oneDNN 1.0.0", "packed for oneDNN 1.0.0"),
                                   ("library", "x" * 64, "not a short text"), ("isa", 7, '"isa" is not a short text'),
                                   ("isa", "z80", "on z80"), ("precision", "f64", '"precision" must be'),
                                   ("sources", {}, "not a list"), ("sources", [{}], "without a path"),
                                   ("sources", [{"path": "a"}] * 9, "at most 8")):
            self.expect(words, key=dict(self.key, **{name: value}))

    def test_indices(self):
        self.expect("not a JSON object with", index=b"{")
        self.expect("not a JSON object with", index={"tensors": {}})
        self.expect("not a JSON object with", index={"tensors": [], "weights": {}})
        self.expect("its index names 0", index=dict(self.index, weights={}))
        inside, weights = self.index["tensors"], self.index["weights"]
        first = next(iter(weights))
        plain = next(name for name in self.tensors if name.endswith("norm1.weight"))
        for name, shape, words in ((first, [1, -1], "not a count"), (first, 7, "must be a list"),
                                   (first, [1 << 40, 1 << 40], "overflows"), (first, [1] * 9, "at most 8"),
                                   (first, [5, 7], "has shape [5, 7]"), (plain, [4], "two tensors are named")):
            self.expect(words, index=dict(self.index, tensors=dict(inside, **{name: shape})))
        self.expect("missing tensor", index=dict(self.index, tensors={n: s for n, s in inside.items() if n != first}))
        self.expect("is not a text", index=dict(self.index, weights=dict(weights, **{first: 7})))
        for layout in ("", "f32", weights[first].replace("f32", "bf16"), weights[first] + " of 8a", "x" * 5000):
            self.expect("packed as", index=dict(self.index, weights=dict(weights, **{first: layout})))
        self.expect("is not there", index=dict(self.index, weights=dict(weights, more="f32")))

    def test_bytes(self):
        name = self.names[0]
        blob = self.tensors[name]
        cut = files.Tensor("U8", [64], blob.data[:64])
        self.expect("packed as", tensors=dict(self.tensors, **{name: cut}))
        long = files.Tensor("U8", [len(blob.data) + 64], blob.data + bytes(64))
        self.expect("packed as", tensors=dict(self.tensors, **{name: long}))
        odd = files.Tensor("U8", [len(blob.data) - 1], blob.data[1:])
        self.expect("multiples of 64", tensors=dict(self.tensors, **{name: odd}))
        self.expect("multiples of 64", tensors=dict(self.tensors, **{
            name: files.Tensor("F32", [len(blob.data) // 4], blob.data)}))
        self.expect("multiples of 64", shift=8)
        self.expect("is not there", tensors={n: t for n, t in self.tensors.items() if n != name})
        self.expect("its index names", tensors=dict(self.tensors, **{"packed:more": cut}))
        self.expect("without packed.index", tensors={n: t for n, t in self.tensors.items() if n != "packed.index"})
        data = self.read("good.tsrpack")
        self.write("bad.tsrpack", data[:len(data) // 2])
        self.refused(1, ("truncated",), "generate", "--model", "bad.tsrpack", "--prompt", "a", "--output", "x.png")

    def test_a_weight_whose_numbers_are_nowhere(self):
        name = self.names[0][len("packed:"):]
        weights = {n: layout for n, layout in self.index["weights"].items() if n != name}
        self.expect("lies in a packed cache", index=dict(self.index, weights=weights),
                    tensors={n: t for n, t in self.tensors.items() if n != self.names[0]})

    def test_noise_as_weights_is_no_crash(self):
        noise = {n: files.Tensor(t.dtype, t.shape, os.urandom(len(t.data))) if n in self.names else t
                 for n, t in self.tensors.items()}
        self.write_cache(noise, self.metadata)
        done = self.run_command("generate", "--model", "bad.tsrpack", "--prompt", "a", "--steps", "1", "--width", "64",
                                "--height", "64", "--output", "x.png")
        self.assertIn(done.returncode, (0, 1), done.stderr)


if __name__ == "__main__":
    import unittest
    unittest.main()
