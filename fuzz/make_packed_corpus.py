#!/usr/bin/env python3
"""Writes the seeds of fuzz_packed: make_packed_corpus.py FOLDER. Small packed caches, right ones and near misses."""
import json
import pathlib
import struct
import sys

KEY = {"version": 1, "library": "oneDNN 2.6.3", "isa": "avx2", "precision": "f32", "threads": 2,
       "sources": [{"path": "/a", "bytes": 1, "modified": 2}]}
LINEAR, CONV, BIAS = "cond_stage_model.q.weight", "model.diffusion_model.c.weight", "model.diffusion_model.c.bias"
INDEX = {"tensors": {LINEAR: [8, 16], "cond_stage_model.k.weight": [8, 16], CONV: [8, 4, 3, 3]},
         "weights": {LINEAR: "f32 16x8 in 16x8 by 8,1", CONV: "f32 8x4x3x3 in 8x4x3x3 by 288,72,24,8 of 8a"}}


def cache(key=None, index=None, blobs=None, index_dtype="U8"):
    key, index = KEY if key is None else key, INDEX if index is None else index
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    blobs = blobs or {"packed:" + LINEAR: 512, "packed:" + CONV: 1152}
    parts = [(name, "U8", [size], bytes(i % 251 for i in range(size))) for name, size in blobs.items()]
    parts += [("packed.index", index_dtype, [len(text)], text), (BIAS, "F32", [8], bytes(32))]
    header, place = {"__metadata__": {"tessera.packed": key if isinstance(key, str) else json.dumps(key)}}, 0
    for name, dtype, shape, data in parts:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + len(data)]}
        place += len(data)
    head = json.dumps(header).encode()
    head += b" " * (-(len(head) + 8) % 64)
    return struct.pack("<Q", len(head)) + head + b"".join(data for _, _, _, data in parts)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {
        "good": cache(), "no_key": cache(key="{"), "bad_precision": cache(key=dict(KEY, precision="f64")),
        "no_index": cache(index=b"["), "index_i8": cache(index_dtype="I8"),
        "no_weights": cache(index=dict(INDEX, weights={})),
        "negative": cache(index=dict(INDEX, tensors={LINEAR: [-1, 16], CONV: [8, 4, 3, 3]})),
        "overflow": cache(index=dict(INDEX, tensors={LINEAR: [1 << 62, 16], CONV: [8, 4, 3, 3]})),
        "same_name": cache(index=dict(INDEX, tensors=dict(INDEX["tensors"], **{BIAS: [8]}))),
        "short_blob": cache(blobs={"packed:" + LINEAR: 64, "packed:" + CONV: 1152}),
        "odd_blob": cache(blobs={"packed:" + LINEAR: 500, "packed:" + CONV: 1152}),
        "empty_blob": cache(blobs={"packed:" + LINEAR: 0, "packed:" + CONV: 1152}),
        "shifted": cache(blobs={"packed:" + LINEAR: 512, "x": 4, "packed:" + CONV: 1152}),
        "many_sources": cache(key=dict(KEY, sources=KEY["sources"] * 9)),
    }
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


main(pathlib.Path(sys.argv[1]))
