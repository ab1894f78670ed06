"""What the tests of the command share: running it, small PNG and safetensors files. Standard library only."""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
MODEL = os.path.join(SOURCE, "models", "tessera-demo.safetensors")
TESSERA = os.environ.get("TESSERA", os.path.join(SOURCE, "build", "release", "apps", "tessera"))


def png(width, height, pixel):
    """An RGB PNG; pixel(x, y) gives (r, g, b)."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in pixel(x, y)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def safetensors(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors(names, shape=(2, 2)):
    """A file with zero tensors of these names."""
    size = 4
    for side in shape:
        size *= side
    header = {name: {"dtype": "F32", "shape": list(shape), "data_offsets": [i * size, (i + 1) * size]}
              for i, name in enumerate(names)}
    return safetensors(header, b"\0" * (size * len(names)))


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="tessera-cli-")
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def files(self):
        return sorted(os.listdir(self.dir))

    def run_command(self, *arguments, **options):
        environment = dict(os.environ)
        environment.pop("TESSERA_MODEL", None)
        return subprocess.run([TESSERA, *arguments], cwd=self.dir, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=300, check=False, **options)

    def good(self, *arguments, **options):
        done = self.run_command(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def paint(self, *arguments, **options):
        """A quick picture: few steps, f32."""
        return self.good("generate", "--steps", "3", "--precision", "f32", *arguments, **options)

    def refused(self, status, words, *arguments, **options):
        """Ends with that status and one line on stderr that holds all the words."""
        done = self.run_command(*arguments, **options)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("step ")]
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("tessera: "), lines[0])
        for word in words:
            self.assertIn(word, lines[0])
        return done

    def size_of(self, name):
        data = self.read(name)
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        return struct.unpack(">II", data[16:24])
