#!/usr/bin/env python3
"""`tessera generate` on parts of a picture: masks in all forms, change maps, outpainting, and pixels that must stay."""
import hashlib
import json
import os
import struct
import unittest
import zlib

from cli_case import Case, png

SIDE = 64
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def pixels(data):
    """Width, height and rows of (r, g, b) of an 8-bit RGB PNG."""
    at, body = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", data[at + 8:at + 18])
            assert (depth, color) == (8, 2)
        elif kind == b"IDAT":
            body += data[at + 8:at + 8 + size]
        at += 12 + size
    raw, stride, rows, before = zlib.decompress(body), 3 * width, [], bytearray(3 * width)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left, up, corner = (line[i - 3] if i > 2 else 0), before[i], (before[i - 3] if i > 2 else 0)
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda v: abs(guess - v))
            line[i] = (line[i] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
        rows.append([tuple(line[i:i + 3]) for i in range(0, stride, 3)])
        before = line
    return width, height, rows


def start(x, y):
    return (3 * x + 20, 2 * y + 60, (x * y) % 200)


def hole(x, y):
    return WHITE if 16 <= x < 48 and 24 <= y < 56 else BLACK


class Repaint(Case):
    def setUp(self):
        super().setUp()
        self.write("start.png", png(SIDE, SIDE, start))
        self.write("hole.png", png(SIDE, SIDE, hole))

    def repaint(self, name, *options, start_image="start.png"):
        return self.paint("--prompt", "a ship, sea", "--init-image", start_image, "--seed", "3", *options, "--output", name)

    def latent(self, *options):
        self.repaint("x.png", *options, "--save-latent", "x.latent")
        return hashlib.sha256(self.read("x.latent")).hexdigest()

    def rows(self, name):
        return pixels(self.read(name))[2]


class Masks(Repaint):
    def test_what_is_black_keeps_its_pixels(self):
        self.repaint("a.png", "--mask", "hole.png")
        self.repaint("b.png", "--mask", "hole.png", "--no-paste-back")
        pasted, plain = self.rows("a.png"), self.rows("b.png")
        moved = 0
        for y in range(SIDE):
            for x in range(SIDE):
                if hole(x, y) == WHITE:
                    self.assertEqual(pasted[y][x], plain[y][x])
                else:
                    self.assertEqual(pasted[y][x], start(x, y))
                    moved += plain[y][x] != start(x, y)
        self.assertGreater(moved, 1000)  # the VAE keeps no pixel as it is
        self.assertNotEqual(pasted[40][32], start(32, 40))

    def test_grey_is_blended_in(self):
        self.write("grey.png", png(SIDE, SIDE, lambda x, y: (128,) * 3))
        self.repaint("a.png", "--mask", "grey.png")
        self.repaint("b.png", "--mask", "grey.png", "--no-paste-back")
        for y, (row, plain) in enumerate(zip(self.rows("a.png"), self.rows("b.png"))):
            for x in range(SIDE):
                for c in range(3):
                    self.assertAlmostEqual(row[x][c], (plain[x][c] * 128 + start(x, y)[c] * 127) / 255, delta=1)

    def test_forms_of_one_mask_are_one_mask(self):
        plain = self.latent("--mask", "hole.png")
        self.write("outside.png", png(SIDE, SIDE, lambda x, y: BLACK if hole(x, y) == WHITE else WHITE))
        self.write("red.png", png(SIDE, SIDE, lambda x, y: (hole(x, y)[0], 99, 3)))
        self.write("small.png", png(SIDE, SIDE, lambda x, y: WHITE if 20 <= x < 44 and 28 <= y < 52 else BLACK))
        for options in (("--mask", "outside.png", "--mask-invert"), ("--mask", "red.png", "--mask-channel", "red"),
                        ("--mask", "hole.png", "--mask-grow", "0", "--mask-feather", "0", "--mask-fill", "original"),
                        ("--mask", "hole.png", "--differential", "--differential-strength", "0")):
            self.assertEqual(self.latent(*options), plain, options)
        for options in (("--mask", "small.png"), ("--mask", "hole.png", "--mask-grow", "-8"),
                        ("--mask", "hole.png", "--mask-grow", "8"), ("--mask", "hole.png", "--mask-feather", "12"),
                        ("--mask", "hole.png", "--mask-fill", "grey"), ("--mask", "hole.png", "--mask-fill", "edge"),
                        ("--mask", "hole.png", "--mask-fill", "noise"), ("--mask", "hole.png", "--differential")):
            self.assertNotEqual(self.latent(*options), plain, options)
        grey = self.latent("--mask", "hole.png", "--mask-fill", "grey")
        self.assertNotEqual(grey, self.latent("--mask", "hole.png", "--mask-fill", "edge"))

    def test_a_mask_goes_with_an_init_image_of_another_size(self):
        self.write("big.png", png(2 * SIDE, SIDE + 32, lambda x, y: start(x // 2, y // 2)))
        self.write("bighole.png", png(2 * SIDE, SIDE + 32, lambda x, y: WHITE if x < SIDE else BLACK))
        self.repaint("a.png", "--mask", "bighole.png", "--width", "64", "--height", "48", start_image="big.png")
        self.assertEqual(self.size_of("a.png"), (64, 48))
        self.refused(1, ["hole.png", "64x64", "128x96"], "generate", "--init-image", "big.png", "--mask", "hole.png")

    def test_a_mask_that_marks_nothing_says_so(self):
        done = self.repaint("a.png", "--mask", "hole.png", "--mask-channel", "alpha")  # an opaque picture
        self.assertIn("nothing of it is marked", done.stderr)
        self.assertEqual(self.rows("a.png")[5][7], start(7, 5))

    def test_recalled_with_its_mask(self):
        self.repaint("a.png", "--mask", "hole.png", "--mask-grow", "4", "--mask-feather", "3", "--differential")
        os.remove(self.path("hole.png"))
        self.good("generate", "--from", "a.png", "--output", "b.png")
        self.assertEqual(self.read("a.png"), self.read("b.png"))

    def test_a_picture_from_before_pasting_comes_out_as_it_was(self):
        self.repaint("a.png", "--mask", "hole.png", "--no-paste-back")
        data = self.read("a.png")
        at = data.index(b"tessera\0")
        size = struct.unpack(">I", data[at - 8:at - 4])[0]
        self.assertIn(b'"paste_back":false', data[at:at + size])
        old = data[at:at + size].replace(b'"paste_back":false,', b"").replace(b',"paste_back":false', b"")
        self.assertNotIn(b"paste_back", old)
        kind = data[at - 4:at]
        self.write("old.png", data[:at - 8] + struct.pack(">I", len(old)) + kind + old +
                   struct.pack(">I", zlib.crc32(kind + old)) + data[at + size + 4:])
        self.good("generate", "--from", "old.png", "--output", "b.png")
        self.assertEqual(pixels(self.read("b.png")), pixels(data))

    def test_what_does_not_fit_is_refused(self):
        for options, words in ((("--differential",), ["differential", "mask"]), (("--mask-grow", "3"), ["mask_grow", "mask"]),
                               (("--mask-fill", "grey"), ["mask_fill"]), (("--mask-invert",), ["mask_invert"])):
            self.refused(2, words, "generate", "--init-image", "start.png", *options)
        self.refused(2, ["outpaint", "init_image"], "generate", "--outpaint-left", "64")
        self.refused(2, ["mask_fill", "auto|original|grey|edge|noise"], "generate", "--mask-fill", "blue")


class ChangeMaps(Repaint):
    def setUp(self):
        super().setUp()
        self.write("map.png", png(SIDE, SIDE, lambda x, y: (BLACK, (102,) * 3, WHITE, WHITE)[x // 16]))

    def change(self, name, first, last):
        rows = self.rows(name)
        return sum(abs(rows[y][x][c] - start(x, y)[c]) for y in range(SIDE) for x in range(first, last) for c in range(3))

    def test_darker_changes_less(self):
        options = ("--mask", "map.png", "--steps", "10")
        self.repaint("map.out.png", *options, "--differential")
        self.repaint("grey.out.png", *options)
        self.assertEqual(self.change("map.out.png", 0, 14), 0)
        self.assertLess(0, self.change("map.out.png", 18, 30))
        self.assertLess(self.change("map.out.png", 18, 30), self.change("map.out.png", 50, 62))
        # A mask of 0.4 lets little through when it is applied at every step; as a change map it is painted for 0.4 of them.
        self.assertLess(self.change("grey.out.png", 18, 30), self.change("map.out.png", 18, 30))

    def test_strength_lies_between(self):
        latents = [self.latent("--mask", "map.png", *more) for more in
                   ((), ("--differential", "--differential-strength", "0.5"), ("--differential",))]
        self.assertEqual(len(set(latents)), 3)

    def test_every_sampler_history_and_mode_takes_it(self):
        left = "box=0:0:50%:100%,prompt=a cat face on grass field"
        for options in (("--sampler", "dpmpp_2m_sde"), ("--sampler", "heun"), ("--sampler", "uni_pc"), ("--region", left),
                        ("--region", left, "--mode", "crop"), ("--region", left, "--mode", "couple")):
            self.repaint("a.png", "--mask", "map.png", "--differential", *options)
            self.assertEqual(self.change("a.png", 0, 14), 0, options)
            self.assertLess(0, self.change("a.png", 50, 62), options)
        done = self.repaint("a.png", "--mask", "map.png", "--differential", "--region", left, "--history", "restart")
        self.assertIn("take history keep", done.stderr)


class Outpaint(Repaint):
    def test_the_picture_lies_untouched_in_the_larger_one(self):
        self.repaint("a.png", "--outpaint-left", "32", "--outpaint-top", "8", "--outpaint-right", "64", "--outpaint-feather", "8")
        width, height, rows = pixels(self.read("a.png"))
        self.assertEqual((width, height), (SIDE + 96, SIDE + 8))
        for y in range(8, SIDE):  # beyond the feather of left, top and right; nothing is added below
            for x in range(8, SIDE - 8):
                self.assertEqual(rows[y + 8][x + 32], start(x, y), (x, y))
        self.assertGreater(len({rows[y][x] for y in range(72) for x in range(28)}), 50)  # something is painted
        self.assertNotEqual(rows[40][33], start(1, 32))  # the feathered edge is repainted partly

    def test_margins_are_rounded_and_that_is_said(self):
        done = self.repaint("a.png", "--outpaint-left", "10", "--outpaint-feather", "0")
        self.assertIn("74x64 is no multiple of 8; the picture is 80x64, with margins of 16 left", done.stderr)
        self.assertEqual(self.size_of("a.png"), (80, 64))
        self.assertEqual(self.rows("a.png")[9][16 + 5], start(5, 9))
        self.write("odd.png", png(61, 50, start))
        done = self.repaint("b.png", "--outpaint-right", "8", start_image="odd.png")
        self.assertIn("11 right, 6 below", done.stderr)
        self.assertEqual(self.size_of("b.png"), (72, 56))
        self.assertEqual(len([line for line in done.stderr.splitlines() if "note" in line]), 1)

    def test_sizes_that_do_not_fit(self):
        margin = ("--outpaint-left", "64")
        self.refused(1, ["128x64", "leave them out"], "generate", "--init-image", "start.png", *margin, "--width", "64")
        self.repaint("a.png", *margin, "--width", "128")
        self.write("long.png", png(5000, 8, lambda x, y: WHITE))
        self.refused(1, ["9096x8", "8192"], "generate", "--init-image", "long.png", "--outpaint-right", "4096")

    def test_plan_and_json(self):
        plan = self.good("generate", "--prompt", "sea", "--init-image", "start.png", "--outpaint-bottom", "64", "--dry-run").stdout
        self.assertIn("64x128", plan)
        self.repaint("a.png", "--outpaint-bottom", "64", "--outpaint-feather", "12", "--mask-fill", "edge")
        self.write("scene.json", json.dumps({"prompt": "a ship, sea", "init_image": "start.png", "seed": 3, "steps": 3,
                                             "precision": "f32", "outpaint_bottom": 64, "outpaint_feather": 12,
                                             "mask_fill": "edge"}))
        self.good("generate", "--scene", "scene.json", "--output", "b.png")
        self.assertEqual(self.read("a.png"), self.read("b.png"))
        self.good("generate", "--from", "a.png", "--output", "c.png")
        self.assertEqual(self.read("a.png"), self.read("c.png"))

    def test_a_mask_of_the_picture_goes_with_it(self):
        margin = ("--outpaint-left", "64", "--outpaint-feather", "0", "--mask-fill", "original")
        self.write("placed.png", png(128, SIDE, lambda x, y: hole(x - 64, y) if x >= 64 else BLACK))
        first = self.latent("--mask", "hole.png", *margin)
        self.assertEqual(first, self.latent("--mask", "placed.png", *margin))
        self.assertNotEqual(first, self.latent(*margin))
        rows = self.rows("x.png")
        self.assertEqual(rows[40][64 + 32], start(32, 40))
        self.refused(1, ["wrong.png", "128x64"], "generate", "--init-image", "start.png", "--mask",
                     os.path.basename(self.write("wrong.png", png(32, 32, hole))), *margin)

    def test_fill_counts_below_full_denoise(self):
        margin = ("--outpaint-right", "64", "--denoise", "0.6")
        auto = self.latent(*margin)
        self.assertEqual(auto, self.latent(*margin, "--mask-fill", "edge"))
        self.assertNotEqual(auto, self.latent(*margin, "--mask-fill", "grey"))
        whole = ("--outpaint-right", "64")
        self.assertEqual(self.latent(*whole), self.latent(*whole, "--mask-fill", "grey"))

    def test_regions_refer_to_the_larger_picture(self):
        margin = ("--outpaint-left", "64", "--outpaint-feather", "0")
        base = self.latent(*margin)
        same = self.latent(*margin, "--region", "box=0:0:50%:100%,prompt=a tree on grass field")
        self.assertNotEqual(base, same)
        self.assertEqual(self.rows("x.png")[10][64 + 20], start(20, 10))
        # A mask of the picture's own size would be refused: regions are on the canvas.
        self.refused(1, ["64x64", "128x64"], "generate", "--init-image", "start.png", *margin, "--region",
                     "mask=hole.png,prompt=a tree")


if __name__ == "__main__":
    unittest.main()
