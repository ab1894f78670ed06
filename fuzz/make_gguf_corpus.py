#!/usr/bin/env python3
"""Writes the seeds of fuzz_gguf: make_gguf_corpus.py FOLDER. Small GGUF files of every block type, with every kind of pair."""
import pathlib
import struct
import sys

BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2)}


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(name, sides, kind, offset):
    return text(name) + struct.pack("<I", len(sides)) + struct.pack(f"<{len(sides)}Q", *sides) + struct.pack("<IQ", kind, offset)


def padded(data, to=32):
    return data + b"\0" * (-len(data) % to)


def make(tensors, pairs=(), version=3):
    """tensors: (name, sides, type); the data of each is a run of bytes."""
    listed, data = b"", b""
    for name, sides, kind in tensors:
        elements, size = BLOCKS[kind]
        count = 1
        for side in sides:
            count *= side
        data = padded(data)
        listed += tensor(name, sides, kind, len(data))
        data += bytes((i * 37 + kind) % 256 for i in range(count // elements * size))
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + listed
    return padded(head) + data


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    arch = text("general.architecture") + struct.pack("<I", 8) + text("sd1")
    shape = text("comfy.gguf.orig_shape.w") + struct.pack("<IIQ3I", 9, 5, 3, 2, 4, 4)
    texts = text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    nested = text("deep") + struct.pack("<IIQIQ", 9, 9, 1, 4, 1) + struct.pack("<I", 7)
    files = {f"type_{kind}": make([("w", (elements, 2), kind)]) for kind, (elements, _) in BLOCKS.items()}
    files["pairs"] = make([("w", (32,), 0)], (arch, shape, texts, nested), 2)
    files["unet"] = make([("model.diffusion_model.input_blocks.0.0.weight", (3, 3, 4, 8), 1),
                          ("first_stage_model.decoder.conv_in.weight", (3, 3, 4, 8), 30)], (arch,))
    files["empty"] = make([])
    files["cut"] = files["pairs"][:90]
    for name, data in files.items():
        (folder / name).write_bytes(data)


main(pathlib.Path(sys.argv[1]))
