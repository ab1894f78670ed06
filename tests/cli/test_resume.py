"""`tessera generate` stopped by signals and gone on with by --resume: the same bytes as without the stop."""
import os
import signal
import subprocess
import sys
import time
import unittest

from cli_case import MODEL, TESSERA, Case, png

STEPS = "32"
LEFT = "box=0:0:50%:100%,prompt=a cat face on grass field"
PLAIN = ("--prompt", "grass field", "--sampler", "dpmpp_2m_sde", "--seed", "random")
KEEP = ("--prompt", "grass field", "--region", LEFT + ",sampler=uni_pc", "--sampler", "euler_ancestral", "--seed", "3")
RESTART = ("--prompt", "grass field", "--region", LEFT, "--history", "restart", "--sampler", "dpmpp_sde", "--seed", "3")
OUTPUT = ("--output", "x.png", "--save-latent", "x.latent")


class ResumeCase(Case):
    def stop(self, number, *arguments, seen="step "):
        """Starts a run and sends it a signal after its first quarter; returns its stderr."""
        command = [TESSERA, "generate", "--steps", STEPS, "--precision", "f32", *arguments]
        process = subprocess.Popen(command, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        errors = process.stderr.readline()
        self.assertIn(seen, errors)
        process.send_signal(number)
        errors += process.communicate(timeout=120)[1]
        self.assertEqual(process.returncode, -number if number == signal.SIGKILL else 128 + number, errors)
        return errors

    def results(self):
        """The picture and the latent, which are then removed."""
        found = [self.read("x.png"), self.read("x.latent")]
        os.unlink(self.path("x.png"))
        os.unlink(self.path("x.latent"))
        return found

    def seed_of(self, picture):
        """As the metadata of a picture has it, a number or a text."""
        return picture.split(b'"seed":', 1)[1].split(b",", 1)[0].split(b"}", 1)[0].decode().strip('"')


class Stops(ResumeCase):
    def same_bytes(self, number, arguments):
        errors = self.stop(number, *arguments, *OUTPUT, "--save-state", "it's.state")
        self.assertEqual(self.files(), ["it's.state"])
        line = [line for line in errors.splitlines() if line.startswith("tessera: ")][-1]
        self.assertTrue(line.startswith("tessera: interrupted; go on with: tessera generate --resume "), line)
        words = line.split("go on with: tessera ", 1)[1]
        subprocess.run(f"'{TESSERA}' {words} --output x.png --save-latent x.latent", shell=True, cwd=self.dir, check=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(self.files(), ["x.latent", "x.png"])  # the state is gone with its use
        picture, latent = self.results()
        arguments = [self.seed_of(picture) if word == "random" else word for word in arguments]
        self.good("generate", "--steps", STEPS, "--precision", "f32", *arguments, *OUTPUT)
        self.assertEqual([picture, latent], self.results())

    def test_a_plain_run(self):
        self.same_bytes(signal.SIGINT, PLAIN)

    def test_keep(self):
        self.same_bytes(signal.SIGINT, KEEP)

    def test_restart(self):
        self.same_bytes(signal.SIGTERM, RESTART)


class Crashes(ResumeCase):
    def test_what_was_saved_now_and_then_survives_a_kill(self):
        self.stop(signal.SIGKILL, *KEEP, *OUTPUT, "--save-state", "a.state", "--save-every", "0.02")
        self.assertIn("a.state", self.files())
        for name in self.files():  # a write that was under way leaves its temporary file at most
            self.assertTrue(name.startswith("a.state"), name)
        self.good("generate", "--resume", "a.state")  # to the file that the first command named
        resumed = self.results()
        self.good("generate", "--steps", STEPS, "--precision", "f32", *KEEP, *OUTPUT)
        self.assertEqual(resumed, self.results())

    def test_files_of_the_scene_are_not_needed_again(self):
        def make_files():
            self.write("start.png", png(64, 64, lambda x, y: (4 * x, 4 * y, 99)))
            self.write("mask.png", png(64, 64, lambda x, y: (255 * (x > 9),) * 3))
            self.write("place.png", png(64, 64, lambda x, y: (4 * x,) * 3))
        files = ("--prompt", "sea", "--init-image", "start.png", "--mask", "mask.png", "--denoise", "0.8", "--region",
                 "mask=place.png,prompt=a cat face,scheduler=karras")
        make_files()
        self.stop(signal.SIGINT, *files, *OUTPUT, "--save-state", "a.state")
        for name in ("start.png", "mask.png", "place.png"):
            os.unlink(self.path(name))
        self.good("generate", "--resume", "a.state")
        resumed = self.results()
        make_files()
        self.good("generate", "--steps", STEPS, "--precision", "f32", *files, *OUTPUT)
        self.assertEqual(resumed, self.results())

    def test_stopped_twice(self):
        self.stop(signal.SIGINT, *KEEP, *OUTPUT, "--save-state", "a.state")
        process = subprocess.Popen([TESSERA, "generate", "--resume", "a.state", "--preview", "p.png"], cwd=self.dir,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while "p.png" not in self.files() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("--resume 'a.state'", errors)
        self.good("generate", "--resume", "a.state")
        resumed = self.results()
        self.good("generate", "--steps", STEPS, "--precision", "f32", *KEEP, *OUTPUT)
        self.assertEqual(resumed, self.results())


class Refusals(ResumeCase):
    def setUp(self):
        super().setUp()
        self.stop(signal.SIGINT, *KEEP, *OUTPUT, "--save-state", "a.state")
        self.state = self.read("a.state")

    def test_what_cannot_go_on(self):
        with open(MODEL, "rb") as file:
            model = bytearray(file.read())
        model[-1] ^= 1
        self.write("other.safetensors", bytes(model))
        self.refused(1, ["another model", "other.safetensors"], "generate", "--resume", "a.state", "--model",
                     "other.safetensors")
        self.refused(1, ["none.safetensors"], "generate", "--resume", "a.state", "--model", "none.safetensors")
        self.refused(2, ["--prompt", "--resume"], "generate", "--resume", "a.state", "--prompt", "x")
        self.refused(2, ["--region", "--resume"], "generate", "--region", LEFT, "--resume", "a.state")
        self.refused(2, ["one --resume"], "generate", "--resume", "a.state", "--from", "x.png")
        self.refused(1, ["none.state"], "generate", "--resume", "none.state")
        self.assertEqual(self.read("a.state"), self.state)  # nothing is lost
        os.unlink(self.path("other.safetensors"))
        self.good("generate", "--resume", "a.state", "--threads", "1")

    def test_damage(self):
        newer = self.state[:8] + b"\x09" + self.state[9:]
        for data, words in ((self.state[:-1], ["truncated"]), (self.state[:40], ["truncated"]), (b"", ["not a state"]),
                            (b"TSRSTATE", ["truncated"]), (png(8, 8, lambda x, y: (0, 0, 0)), ["not a state"]),
                            (self.state[:5000] + b"x" + self.state[5001:], ["truncated, or bytes changed"]),
                            (newer, ["version 9"])):
            self.write("b.state", data)
            self.refused(1, ["b.state", *words], "generate", "--resume", "b.state")
            self.assertEqual(self.read("b.state"), data)

    def test_a_state_that_cannot_be_written_is_told_at_once(self):
        self.refused(1, ["save_state", "none/"], "generate", "--prompt", "sea", "--save-state", "none/a.state")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
