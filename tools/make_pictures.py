#!/usr/bin/env python3
"""Paints every picture of README.md and docs/ with the shipped model, into docs/pictures/.

    tools/make_pictures.py [TESSERA [NAME...]]      TESSERA: the command, by default build/release/apps/tessera
                                                    NAME: only these pictures, such as samplers-keep

Run again after the model or a sampler changes; the same seeds give the same pictures. Each picture is one command line,
which is printed, so a reader can repeat it. The two sheets of docs/solvers.md are one command line for every sampler.
"""
import pathlib
import shlex
import struct
import subprocess
import sys
import tempfile
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

# Pictures above, repainted.
REPAINTED = ["--init-image", str(PICTURES / "two-regions.png"), "--mask", str(SOFT_MASK), "--prompt", "autumn leaves"]

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
    "repaint-grey": [*REPAINTED, "--seed", "3"],
    "repaint-map": [*REPAINTED, "--seed", "3", "--differential"],
    "outpaint": [
        "--init-image", str(PICTURES / "plain.png"), "--outpaint-left", "96", "--outpaint-right", "96",
        "--outpaint-feather", "24", "--prompt", "sunflower in blue sky", "--seed", "2",
        "--region", "box=0:0:96:100%,prompt=a moon in blue sky",
        "--region", "box=224:0:96:100%,prompt=a balloon in blue sky",
    ],
}

# The sheets of samplers: name, history. Few threads and steps: a sheet is 44 pictures.
SHEETS = {"samplers-keep": "keep", "samplers-restart": "restart"}
SHEET_SCENE = [*LEFT_RIGHT, "--seed", "2", "--steps", "14", "--threads", "1"]
REFUSED = ("dpm_adaptive",)  # under keep
COLUMNS, CELL_WIDTH, CELL_HEIGHT, GAP = 8, 96, 64, 2


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, width, height, channels, rows):
    """An 8-bit grey (1 channel) or RGB (3) picture from its rows of bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    lines, above = [], bytes(width * channels)
    for row in rows:  # every row as its difference from the one above, which packs better
        lines.append(b"\2" + bytes(value - before & 255 for value, before in zip(row, above)))
        above = row
    data = zlib.compress(b"".join(lines), 9)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_soft_mask(path, width=192, height=128):
    """A grey PNG: black on the left, white on the right, a slow ramp between."""
    inside = [min(1.0, max(0.0, (x / width - 0.25) / 0.5)) for x in range(width)]
    write_png(path, width, height, 1, [[round(255 * value) for value in inside]] * height)


def unfilter(kind, row, above):
    """A PNG row without its filter, RGB; above: the row before, unfiltered."""
    for i, value in enumerate(row):
        left = row[i - 3] if i >= 3 else 0
        corner = above[i - 3] if i >= 3 else 0
        if kind == 4:
            guess = left + above[i] - corner
            near = min((abs(guess - left), 0, left), (abs(guess - above[i]), 1, above[i]),
                       (abs(guess - corner), 2, corner))[2]
        else:
            near = (0, left, above[i], (left + above[i]) // 2)[kind]
        row[i] = value + near & 255
    return row


def read_png(path):
    """Rows of an 8-bit RGB picture as Tessera writes it."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, *form = struct.unpack(">IIBBBBB", body)
            if form != [8, 2, 0, 0, 0]:
                raise ValueError(f"{path}: not a plain 8-bit RGB picture")
        elif kind == b"IDAT":
            packed += body
        at += 12 + size
    values, rows, stride = zlib.decompress(packed), [], 3 * width + 1
    for y in range(height):
        row = bytearray(values[y * stride + 1 : (y + 1) * stride])
        rows.append(unfilter(values[y * stride], row, rows[-1] if rows else bytearray(3 * width)))
    return rows


def half(rows):
    """The picture at half its size, each pixel the mean of four."""
    def mean(a, b, i):
        return (a[i] + a[i + 3] + b[i] + b[i + 3] + 2) // 4
    return [bytearray(mean(a, b, 6 * (i // 3) + i % 3) for i in range(len(a) // 2))
            for a, b in zip(rows[::2], rows[1::2])]


def paint(tessera, options, output):
    """Seconds that one picture took."""
    command = [tessera, "generate", *options, "--output", str(output)]
    print(shlex.join(command), flush=True)
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def sampler_names(tessera):
    lines = subprocess.run([tessera, "samplers"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line.split()[0] for line in lines.splitlines()]


def make_sheet(tessera, history, path):
    """One small picture for every sampler, line by line, eight in a line; grey where there is none."""
    sheet = []
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(sampler_names(tessera)):
            if index % COLUMNS == 0:
                sheet += [bytearray(b"\xff" * 3 * COLUMNS * (CELL_WIDTH + GAP)) for _ in range(CELL_HEIGHT + GAP)]
            cell = [b"\x80" * 3 * CELL_WIDTH] * CELL_HEIGHT
            if history == "restart" or name not in REFUSED:
                output = pathlib.Path(folder) / "cell.png"
                paint(tessera, [*SHEET_SCENE, "--history", history, "--sampler", name], output)
                cell = half(read_png(output))
            left = 3 * (index % COLUMNS) * (CELL_WIDTH + GAP)
            top = len(sheet) - CELL_HEIGHT - GAP
            for y, row in enumerate(cell):
                sheet[top + y][left : left + 3 * CELL_WIDTH] = row
    write_png(path, COLUMNS * (CELL_WIDTH + GAP), len(sheet), 3, sheet)


def main(arguments):
    tessera = arguments[1] if len(arguments) > 1 else "build/release/apps/tessera"
    wanted = arguments[2:] or [*TABLE, *SHEETS]
    (ROOT / PICTURES).mkdir(parents=True, exist_ok=True)
    write_soft_mask(ROOT / SOFT_MASK)
    for name in wanted:
        output = PICTURES / f"{name}.png"
        if name in SHEETS:
            make_sheet(tessera, SHEETS[name], ROOT / output)
        else:
            print(f"  {output}: {paint(tessera, TABLE[name], output):.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
