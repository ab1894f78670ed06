#!/usr/bin/env python3
"""Paints every picture of README.md and docs/ with the shipped model, into docs/pictures/.

    tools/make_pictures.py [TESSERA]      TESSERA: the command, by default build/release/apps/tessera

Run again after the model or a sampler changes; the same seeds give the same pictures. Each picture is one command line,
which is printed, so a reader can repeat it.
"""
import pathlib
import shlex
import struct
import subprocess
import sys
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURES = pathlib.Path("docs/pictures")
SOFT_MASK = PICTURES / "ramp.png"

LEFT_RIGHT = [
    "--width", "192", "--height", "128", "--prompt", "grass field", "--overlap", "10",
    "--region", "box=0:0:50%:100%,prompt=a house on grass field",
    "--region", "box=50%:0:50%:100%,prompt=a tree on grass field",
]

# Name of the picture, options of `tessera generate`.
TABLE = {
    "plain": ["--prompt", "a sunflower in blue sky", "--seed", "2"],
    "two-regions": [*LEFT_RIGHT, "--seed", "2"],
    "three-regions": [
        "--width", "288", "--height", "128", "--prompt", "grass field", "--overlap", "12", "--seed", "14",
        "--region", "box=0:0:33%:100%,prompt=a sunflower on grass field",
        "--region", "box=33%:0:34%:100%,prompt=a house on grass field",
        "--region", "box=67%:0:33%:100%,prompt=a tree on grass field",
    ],
    "soft-mask": [
        "--width", "192", "--height", "128", "--prompt", "night sky",
        "--region", f"mask={SOFT_MASK},prompt=sunset sky", "--seed", "4",
    ],
    "history-restart": [*LEFT_RIGHT, "--seed", "2", "--sampler", "euler_ancestral", "--history", "restart"],
    "history-keep": [*LEFT_RIGHT, "--seed", "2", "--sampler", "euler_ancestral", "--history", "keep"],
}


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_soft_mask(path, width=192, height=128):
    """A grey PNG: black on the left, white on the right, a slow ramp between."""
    inside = [min(1.0, max(0.0, (x / width - 0.25) / 0.5)) for x in range(width)]
    rows = (b"\0" + bytes(round(255 * value) for value in inside)) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def main(arguments):
    tessera = arguments[1] if len(arguments) > 1 else "build/release/apps/tessera"
    (ROOT / PICTURES).mkdir(parents=True, exist_ok=True)
    write_soft_mask(ROOT / SOFT_MASK)
    for name, options in TABLE.items():
        output = PICTURES / f"{name}.png"
        command = [tessera, "generate", *options, "--output", str(output)]
        print(shlex.join(command), flush=True)
        started = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        print(f"  {output}: {time.monotonic() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
