"""`tessera run` and `tessera nodes` from outside, with the golden workflows and the shipped model."""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import unittest
import zlib

from cli_case import Case, MODEL, SOURCE, TESSERA, png

GOLDEN = os.path.join(SOURCE, "tests", "golden", "data")


def golden(name):
    with open(os.path.join(GOLDEN, "workflows", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def latent(path):
    """The values of a saved latent: a safetensors file with one float32 tensor that matters."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])["latent_tensor"]
    start, end = entry["data_offsets"]
    return struct.unpack("<%df" % ((end - start) // 4), data[8 + size + start:8 + size + end])


def with_text(picture, keyword, text):
    """The PNG with one tEXt chunk behind its header."""
    body = b"tEXt" + keyword.encode() + b"\0" + text.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return picture[:33] + chunk + picture[33:]


def ui_format():
    """What the page saves for one KSampler run, with a note, a bypassed node and a value behind the seed."""
    def node(number, kind, values=(), inputs=(), outputs=(), mode=0):
        return {"id": number, "type": kind, "mode": mode, "widgets_values": list(values),
                "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
                "outputs": [{"name": type_, "type": type_, "links": list(links)} for type_, links in outputs]}
    return {"version": 0.4, "groups": [], "nodes": [
        node(1, "CheckpointLoaderSimple", ["golden-sd1.safetensors"],
             outputs=[("MODEL", [1]), ("CLIP", [2, 3]), ("VAE", [])]),
        node(2, "CLIPTextEncode", [""], [("clip", "CLIP", 2)], [("CONDITIONING", [4])]),
        node(3, "EmptyLatentImage", [128, 128, 1], outputs=[("LATENT", [5])]),
        node(4, "CLIPTextEncode", ["a cat on grass field"], [("clip", "CLIP", 3)], [("CONDITIONING", [6])]),
        node(5, "KSampler", [7, "randomize", 6, 1.0, "euler", "normal", 1.0],
             [("model", "MODEL", 1), ("positive", "CONDITIONING", 6), ("negative", "CONDITIONING", 4),
              ("latent_image", "LATENT", 5)], [("LATENT", [7])]),
        node(8, "RepeatLatentBatch", [3], [("samples", "LATENT", 7)], [("LATENT", [8])], mode=4),
        node(6, "SaveLatent", ["latents/out"], [("samples", "LATENT", 8)]),
        node(9, "Note", ["not run"]),
    ], "links": [[1, 1, 0, 5, 0, "MODEL"], [2, 1, 1, 2, 0, "CLIP"], [3, 1, 1, 4, 0, "CLIP"],
                 [4, 2, 0, 5, 2, "CONDITIONING"], [5, 3, 0, 5, 3, "LATENT"], [6, 4, 0, 5, 1, "CONDITIONING"],
                 [7, 5, 0, 8, 0, "LATENT"], [8, 8, 0, 6, 0, "LATENT"]]}


class Workflow(Case):
    def workflow(self, file, *options):
        return self.good("run", file, "--models", GOLDEN, "--output", "out", "--precision", "f32", *options)

    def faults(self, file, *options):
        """The lines of a run that found faults; no line may be anything else."""
        done = self.run_command("run", file, "--models", GOLDEN, "--output", "out", *options)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertNotIn("out", self.files())
        return done.stderr.splitlines()

    def same_latent(self, name, path):
        want, got = latent(os.path.join(GOLDEN, "workflows", name + ".latent")), latent(path)
        self.assertEqual(len(got), len(want))
        with open(os.path.join(GOLDEN, "workflows", "index.json"), encoding="utf-8") as file:
            allowed = json.load(file)[name]  # in units of the latent's standard deviation
        differences = [abs(a - b) / allowed["std"] for a, b in zip(got, want)]
        self.assertLessEqual(max(differences), allowed["max_tol"])
        self.assertLessEqual((sum(d * d for d in differences) / len(differences)) ** 0.5, allowed["rms_tol"])


class Golden(Workflow):
    def test_a_plain_and_a_regional_workflow_end_to_end(self):
        for name in ("ksampler_cfg1", "regional_two"):
            file = os.path.join(GOLDEN, "workflows", name + ".json")
            printed = self.workflow(file).stdout.splitlines()
            self.assertEqual(len(printed), 1)
            self.same_latent(name, os.path.join(self.dir, printed[0]))

    def test_keep_paints_another_picture(self):
        file = os.path.join(GOLDEN, "workflows", "regional_two.json")
        paths = [self.workflow(file, "--history", history).stdout.strip() for history in ("restart", "keep")]
        self.assertEqual(len(set(paths)), 2)
        self.assertNotEqual(*[self.read(path) for path in paths])

    def test_keep_says_what_has_no_meaning(self):
        workflow = golden("regional_two")
        node = next(i for i, n in workflow.items() if n["class_type"].startswith("RegionalSampler"))
        workflow[node]["inputs"]["restore_latent"] = False
        file = self.write("odd.json", json.dumps(workflow))
        self.assertIn(f"note: node {node}: restore_latent off", self.workflow(file, "--history", "keep").stderr)
        self.assertNotIn("restore_latent", self.workflow(file).stderr)

    def test_the_ui_format(self):
        printed = self.workflow(self.write("ui.json", json.dumps(ui_format()))).stdout.strip()
        self.same_latent("ksampler_cfg1", os.path.join(self.dir, printed))

    def test_a_picture_that_carries_a_workflow(self):
        picture = png(8, 8, lambda x, y: (0, 0, 0))
        for keyword, workflow in (("prompt", golden("ksampler_cfg1")), ("workflow", ui_format())):
            self.write("x.png", with_text(picture, keyword, json.dumps(workflow)))
            self.same_latent("ksampler_cfg1", os.path.join(self.dir, self.workflow("x.png").stdout.strip()))
        self.refused(1, ["plain.png"], "run", self.write("plain.png", picture))

    def test_a_saved_picture_runs_again(self):
        workflow = golden("ksampler_cfg1")
        workflow["7"] = {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}}
        workflow["8"] = {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "x"}}
        del workflow["6"]
        first = self.workflow(self.write("w.json", json.dumps(workflow))).stdout.strip()
        self.assertEqual(self.size_of(first), (128, 128))
        again = self.workflow(first).stdout.strip()
        self.assertNotEqual(first, again)
        self.assertEqual(self.read(first), self.read(again))


class Values(Workflow):
    def test_set_by_id_and_by_title(self):
        workflow = golden("ksampler_cfg1")
        workflow["5"]["_meta"] = {"title": "Paint it"}
        file = self.write("w.json", json.dumps(workflow))
        outputs = [self.read(self.workflow(file, *options).stdout.strip()) for options in (
            (), ("--set", "5.steps=2"), ("--set", "Paint it.steps=2"), ("--set", "4.text=a = b"))]
        self.assertEqual(outputs[1], outputs[2])
        self.assertEqual(len(set(outputs)), 3)

    def test_set_of_what_is_not_there(self):
        file = os.path.join(GOLDEN, "workflows", "ksampler_cfg1.json")
        self.refused(1, ["55"], "run", file, "--set", "55.steps=2")
        self.refused(2, ["NODE.INPUT=VALUE"], "run", file, "--set", "5.steps")

    def test_wrong_usage(self):
        self.refused(2, ["WORKFLOW"], "run")
        self.refused(2, ["one too many"], "run", "a.json", "b.json")
        self.refused(2, ["--hist"], "run", "a.json", "--hist", "keep")
        self.refused(2, ["restart or keep"], "run", "a.json", "--history", "both")
        self.refused(2, ["f32 or bf16"], "run", "a.json", "--precision=f16")
        self.refused(2, ["--threads"], "run", "a.json", "--threads", "-1")
        self.refused(2, ["needs a value"], "run", "a.json", "--models")


class Memory(Case):
    """Two models in turns, one, two, one: under a bound that holds one of them the last turn packs the first again."""

    def setUp(self):
        super().setUp()
        os.makedirs(self.path("models/checkpoints"))
        for name in ("one", "two"):
            shutil.copy(MODEL, self.path(f"models/checkpoints/{name}.safetensors"))

        def node(kind, **inputs):
            return {"class_type": kind, "inputs": inputs}
        nodes = {"5": node("EmptyLatentImage", width=64, height=64, batch_size=1)}
        for i, name in ((1, "one"), (2, "two")):
            nodes[f"{i}"] = node("CheckpointLoaderSimple", ckpt_name=name + ".safetensors")
            nodes[f"{i + 2}"] = node("CLIPTextEncode", clip=[f"{i}", 1], text="a " + name)
        for i, model in ((6, 1), (7, 2), (8, 1)):
            text = [f"{model + 2}", 0]
            nodes[f"{i}"] = node("KSampler", model=[f"{model}", 0], positive=text, negative=text,
                                 latent_image=[f"{i - 1}", 0], seed=i, steps=1, cfg=1, sampler_name="euler",
                                 scheduler="normal", denoise=0.5)
        nodes["9"] = node("SaveLatent", samples=["8", 0], filename_prefix="out")
        self.write("turns.json", json.dumps(nodes))

    def run_turns(self, folder, *options):
        done = self.good("run", "turns.json", "--models", "models", "--precision", "f32", "--output", folder, *options)
        return done.stderr, self.read(os.path.join(folder, "out_00001_.latent"))

    def test_a_bound_swaps_and_changes_nothing(self):
        free, want = self.run_turns("free")
        self.assertNotIn("swapped", free)
        bound, got = self.run_turns("bound", "--memory", "150MB")
        self.assertIn("swapped models 1 time", bound)
        self.assertEqual(got, want)

    def test_a_bound_too_small_says_what_is_needed(self):
        self.refused(1, ["memory: 20.0 MB cannot hold the UNet", "109", "at least"], "run", "turns.json", "--models", "models",
                     "--precision", "f32", "--output", "out", "--memory", "20MB")
        self.assertNotIn("out", self.files())


class Faults(Workflow):
    def test_every_fault_at_once(self):
        workflow = golden("ksampler_cfg1")
        workflow["5"]["inputs"].update(sampler_name="eulr", steps=0, model=["3", 0])
        del workflow["6"]["inputs"]["filename_prefix"]
        del workflow["2"]["inputs"]["text"]
        lines = self.faults(self.write("w.json", json.dumps(workflow)))
        self.assertEqual(len(lines), len(set(lines)))
        for words in (("node 5 (KSampler)", "sampler_name", "'eulr'"), ("node 5 (KSampler)", "steps", "smaller than min of 1"),
                      ("node 5 (KSampler)", "model", "LATENT"), ("node 2 (CLIPTextEncode)", "text")):
            self.assertTrue(any(all(word in line for word in words) for line in lines), (words, lines))

    def test_a_link_out_of_the_input_folder(self):
        os.mkdir(self.path("input"))
        os.symlink(os.path.abspath(os.path.join(os.path.dirname(__file__), "../../docs/pictures/ramp.png")),
                   self.path("input/away.png"))
        workflow = {"1": {"class_type": "LoadImage", "inputs": {"image": "away.png"}},
                    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
        lines = self.faults(self.write("w.json", json.dumps(workflow)), "--input", self.path("input"))
        self.assertTrue(any("away.png" in line for line in lines), lines)

    def test_an_unknown_node_is_named_with_the_nearest(self):
        workflow = golden("ksampler_cfg1")
        workflow["5"]["class_type"] = "KSamplerr"
        self.assertIn("KSampler", "\n".join(self.faults(self.write("w.json", json.dumps(workflow)))))

    def test_a_good_output_runs_beside_a_faulty_one(self):
        workflow = golden("ksampler_cfg1")
        workflow["9"] = {"class_type": "SaveLatent", "inputs": {"filename_prefix": "bad"}}
        done = self.run_command("run", self.write("w.json", json.dumps(workflow)), "--models", GOLDEN, "--output", "out",
                                "--precision", "f32")
        self.assertEqual(done.returncode, 1)
        self.assertIn("node 9 (SaveLatent)", done.stderr)
        self.same_latent("ksampler_cfg1", os.path.join(self.dir, done.stdout.strip()))

    def test_check_runs_nothing(self):
        file = os.path.join(GOLDEN, "workflows", "regional_two.json")
        self.assertEqual(self.workflow(file, "--check").stdout, "")
        self.assertEqual(self.files(), [])

    def test_what_is_no_workflow(self):
        self.refused(1, ["none.json"], "run", "none.json")
        self.refused(1, ["w.json"], "run", self.write("w.json", "{\"1\": "))
        self.refused(1, ["w.json"], "run", self.write("w.json", "[1, 2]"))

    def test_a_model_that_is_not_there(self):
        workflow = golden("ksampler_cfg1")
        workflow["1"]["inputs"]["ckpt_name"] = "../golden-sd1.safetensors"
        lines = self.faults(self.write("w.json", json.dumps(workflow)))
        self.assertIn("node 1 (CheckpointLoaderSimple)", lines[0])

    def has_mapped(self, pid, name):
        with open("/proc/%d/maps" % pid, encoding="utf-8") as maps:
            return name in maps.read()

    def test_ctrl_c_stops_cleanly(self):
        file = os.path.join(GOLDEN, "workflows", "ksampler_cfg1.json")
        process = subprocess.Popen([TESSERA, "run", file, "--models", GOLDEN, "--output", "out", "--set", "5.steps=10000"],
                                   cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not self.has_mapped(process.pid, "tessera-demo") and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # 10000 steps take minutes
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        errors = process.communicate(timeout=60)[1]
        self.assertLess(time.monotonic() - sent, 10)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("tessera: interrupted", errors)
        self.assertEqual(self.files(), [])


class Nodes(Case):
    def test_the_list_and_each_of_its_pages(self):
        names = [line.split()[0] for line in self.good("nodes").stdout.splitlines() if line.strip()]
        for name in ("KSampler", "RegionalSampler", "RegionalSamplerAdvanced", "TwoSamplersForMask",
                     "TwoAdvancedSamplersForMask", "TwoSamplersForMaskUpscalerProvider"):
            self.assertIn(name, names)
        text = self.good("nodes", "RegionalSampler").stdout
        for word in ("seed_2nd_mode", "base_only_steps", "additional_sigma_ratio", "default 0.3", "Outputs", "LATENT"):
            self.assertIn(word, text)

    def test_an_unknown_name_gets_the_nearest(self):
        self.refused(1, ["'Ksamplr'", "KSampler"], "nodes", "Ksamplr")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
