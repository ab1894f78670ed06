#!/usr/bin/env python3
"""A smoke run of tools/train leaves a checkpoint of the shipped model's shape, its parts and a sheet of samples.

Looks for an interpreter with PyTorch, numpy and Pillow; exits with 77 (skipped) where there is none.
"""
import json
import lzma
import pathlib
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77


def find_interpreter():
    for candidate in (sys.executable, "/usr/bin/python3", "python3"):
        probe = subprocess.run([candidate, "-c", "import torch, numpy, PIL"], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate
    return None


def shapes(data):
    """Name, type and shape of every tensor of a safetensors file."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    return {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def main():
    interpreter = find_interpreter()
    if not interpreter:
        print("skipped: no python3 here can import torch, numpy and PIL")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder)
        subprocess.run([interpreter, "-B", ROOT / "tools/train/train.py", "--smoke", "--out", out], check=True)
        trained = (out / "tessera-demo.safetensors").read_bytes()
        shipped = (ROOT / "models/tessera-demo.safetensors").read_bytes()
        assert shapes(trained) == shapes(shipped), "the smoke run's tensors differ in name, type or shape"
        parts = [path.read_bytes() for path in sorted(out.glob("tessera-demo.xz.part*"))]
        assert lzma.decompress(b"".join(parts)) == trained, "the parts do not join into the checkpoint"
        assert max(map(len, parts)) <= 15 * 1000 * 1000, "a part is too large"
        assert (out / "samples.png").read_bytes().startswith(b"\x89PNG"), "samples.png is no PNG"
    return 0


if __name__ == "__main__":
    sys.exit(main())
