#!/usr/bin/env python3
"""Draws the objects of objects.py with Noto Color Emoji (SIL OFL 1.1) into sprites.npz, which is committed.

Run again only when the list of objects changes; needs Debian's fonts-noto-color-emoji.
"""
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from objects import FONT, OBJECTS

FONT_SIZE = 109  # the only size the font's bitmaps have
COLOUR_STYLE = "\ufe0f"  # older characters are drawn in black without it


def draw(font, code_point):
    """The emoji's pixels cropped to what is not transparent, or None where the font lacks it."""
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    text = chr(code_point) + (COLOUR_STYLE if code_point < 0x10000 else "")
    ImageDraw.Draw(canvas).text((10, 10), text, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    return np.asarray(canvas.crop(box)) if box else None


def main():
    font = ImageFont.truetype(FONT, FONT_SIZE)
    drawn = {name: draw(font, code_point) for name, code_point in OBJECTS.items()}
    for name in [name for name, pixels in drawn.items() if pixels is None]:
        print("not in the font:", name)
        del drawn[name]
    np.savez_compressed(pathlib.Path(__file__).parent / "sprites.npz", **drawn)
    print(len(drawn), "objects")


if __name__ == "__main__":
    main()
