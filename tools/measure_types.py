#!/usr/bin/env python3
"""Writes the table of docs/convert.md: tools/measure_types.py TESSERA. The shipped model in every type of GGUF, whole and with its UNet
alone in blocks: size, and how far pictures are from those of the model in float32 (dB, higher is nearer). Standard library
only; takes some minutes."""
import math
import os
import struct
import subprocess
import sys
import tempfile
import zlib

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "tessera-demo.safetensors")
PROMPTS = ("a castle on grass field", "a penguin on snow", "a rocket, night sky", "a mushroom in forest")
TYPES = ("f16", "bf16", "q8_0", "q6_k", "q5_1", "q5_0", "q5_k", "q4_1", "q4_0", "q4_k", "q3_k", "q2_k")


def pixels(path):
    """The bytes of an 8-bit PNG without its filters."""
    with open(path, "rb") as file:
        data = file.read()
    place, packed = 8, b""
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place:place + 8])
        body = data[place + 8:place + 8 + size]
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", body[:10])
        packed += body if kind == b"IDAT" else b""
        place += size + 12
    step = {2: 3, 6: 4}[colour]
    raw, length, rows, above = zlib.decompress(packed), width * step, b"", bytes(width * step)
    for y in range(height):
        kind, row = raw[y * (length + 1)], bytearray(raw[y * (length + 1) + 1:(y + 1) * (length + 1)])
        for i in range(length):
            a, b, c = (row[i - step] if i >= step else 0), above[i], (above[i - step] if i >= step else 0)
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row[i] = (row[i] + (0, a, b, (a + b) // 2, near)[kind]) & 255
        above = bytes(row)
        rows += above
    return rows


def psnr(first, second):
    square = sum((a - b) ** 2 for a, b in zip(first, second)) / len(first)
    return 10 * math.log10(255 ** 2 / square) if square else math.inf


def main(tessera):
    with tempfile.TemporaryDirectory() as folder:
        def paint(*arguments):
            pictures = []
            for seed, prompt in enumerate(PROMPTS):
                out = os.path.join(folder, "x.png")
                subprocess.run([tessera, "generate", "--prompt", prompt, "--seed", str(seed), "--steps", "20", "--cfg", "4",
                                "--width", "128", "--height", "128", "--precision", "f32", "--output", out, *arguments],
                               check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                pictures.append(pixels(out))
            return pictures

        def convert(name, *arguments):
            path = os.path.join(folder, name)
            subprocess.run([tessera, "convert", MODEL, path, *arguments], check=True, stdout=subprocess.DEVNULL)
            return path, os.path.getsize(path) / (1 << 20)

        full, _ = convert("f32.safetensors", "--type", "f32")
        truth = paint("--model", full)
        print("| type | whole model, MiB | PSNR | UNet alone, MiB | PSNR |\n|---|---|---|---|---|")
        for kind in TYPES:
            cells = []
            for part, option in (("all", "--model"), ("unet", "--unet")):
                path, size = convert("x.gguf", "--type", kind, "--part", part)
                found = paint(option, path, *(["--model", full] if part == "unet" else []))
                values = [psnr(a, b) for a, b in zip(truth, found)]
                shown = "the same" if min(values) == math.inf else f"{min(values):.1f} to {max(values):.1f} dB"
                cells += [f"{size:.1f}", shown]
            print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


main(sys.argv[1])
