"""Backgrounds of the training pictures: each computed from a random generator, as float32 [height, width, 3] in 0..255."""
import numpy as np
from PIL import Image

PLAIN_PROBABILITY = 0.35


def fractal(rng, height, width, octaves=5, base=2, stretch=1.0):
    """Smooth noise in 0..1, [height, width]: octaves of upscaled random grids, finer ones weaker."""
    total = np.zeros((height, width), np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        cells = base * 2**octave
        rows, columns = max(2, int(cells * stretch) + 1), cells + 1
        grid = Image.fromarray(rng.random((rows, columns), np.float32)).resize((width, height), Image.BICUBIC)
        total += amplitude * (np.asarray(grid) - 0.5)
        amplitude *= 0.55
    total -= total.min()
    total /= total.max() + 1e-6
    return total


def mix(a, b, weight):
    """a where weight is 0, b where it is 1; a and b are colours or pictures, weight is [height, width]."""
    return np.asarray(a, np.float32) * (1 - weight[..., None]) + np.asarray(b, np.float32) * weight[..., None]


def jitter(rng, colour, spread=14):
    return np.clip(np.asarray(colour, np.float32) + rng.normal(0, spread, 3), 0, 255)


def vertical_gradient(height, width, top, bottom):
    return mix(top, bottom, np.linspace(0, 1, height, dtype=np.float32)[:, None].repeat(width, 1))


def grass(rng, h, w):
    return mix(jitter(rng, (58, 130, 40)), jitter(rng, (140, 190, 80)), fractal(rng, h, w, 6, 4))


def sand(rng, h, w):
    return mix(jitter(rng, (214, 180, 120)), jitter(rng, (245, 225, 175)), fractal(rng, h, w, 5, 2, 2.5))


def sky(rng, h, w):
    air = vertical_gradient(h, w, jitter(rng, (70, 140, 225)), jitter(rng, (185, 220, 250)))
    clouds = np.clip(fractal(rng, h, w, 5, 2, 1.6) * 2.2 - 1.15, 0, 1)
    return mix(air, (255, 255, 255), clouds * 0.9)


def night(rng, h, w):
    picture = vertical_gradient(h, w, jitter(rng, (8, 10, 40), 5), jitter(rng, (35, 35, 90), 8))
    for _ in range(rng.integers(25, 60)):
        y, x = rng.integers(0, h), rng.integers(0, w)
        picture[y, x] = 255
        if rng.random() < 0.3:
            picture[y, (x + 1) % w] = 200
    return picture


def snow(rng, h, w):
    return mix(jitter(rng, (205, 220, 240), 6), (255, 255, 255), fractal(rng, h, w, 4, 2))


def sea(rng, h, w):
    return mix(jitter(rng, (15, 80, 150)), jitter(rng, (80, 180, 215)), fractal(rng, h, w, 5, 3, 3.0))


def sunset(rng, h, w):
    air = vertical_gradient(h, w, jitter(rng, (90, 60, 130)), jitter(rng, (255, 150, 60)))
    clouds = np.clip(fractal(rng, h, w, 4, 2, 2.5) * 2 - 1, 0, 1)
    return mix(air, jitter(rng, (255, 190, 150)), clouds * 0.7)


def bricks(rng, h, w):
    brick, mortar = jitter(rng, (165, 70, 50)), jitter(rng, (215, 205, 195), 6)
    picture = np.empty((h, w, 3), np.float32)
    brick_height = int(rng.integers(8, 12))
    brick_width = brick_height * 2
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    row = y // brick_height
    shifted = x + (row % 2) * (brick_width // 2)
    column = shifted // brick_width
    shade = rng.random((64, 64)).astype(np.float32)[row % 64, column % 64] * 40 - 20
    picture[:] = brick
    picture += shade[..., None]
    joint = ((y % brick_height) < 1) | ((shifted % brick_width) < 1)
    picture[np.broadcast_to(joint, (h, w))] = mortar
    return picture + rng.normal(0, 4, (h, w, 1))


def wood(rng, h, w):
    bend = fractal(rng, h, w, 4, 2, 0.6)
    grain = np.sin((np.arange(w)[None] / w * 8 + bend * 5) * 3.1) * 0.5 + 0.5
    picture = mix(jitter(rng, (120, 75, 35)), jitter(rng, (190, 130, 75)), grain.astype(np.float32))
    picture[:, :: int(rng.integers(24, 40))] *= 0.6
    return picture


def forest(rng, h, w):
    picture = mix(jitter(rng, (15, 55, 25), 8), jitter(rng, (60, 120, 55), 8), fractal(rng, h, w, 6, 5))
    for _ in range(int(rng.integers(5, 9))):
        x, thickness = int(rng.integers(0, w)), int(rng.integers(3, 8))
        trunk = np.array((70, 45, 25)) * 0.7
        picture[:, x : x + thickness] = picture[:, x : x + thickness] * 0.3 + trunk
    return picture


def mountains(rng, h, w):
    picture = vertical_gradient(h, w, jitter(rng, (120, 175, 235)), jitter(rng, (220, 235, 250)))
    rows = np.arange(h)[:, None]
    for k in range(3):
        ridge = h * (0.30 + 0.2 * k) + (fractal(rng, 1, w, 5, 2)[0] - 0.5) * h * (0.5 - 0.1 * k)
        colour = jitter(rng, (150 - 40 * k, 160 - 38 * k, 185 - 50 * k), 8)
        below = rows > ridge[None]
        picture[below] = colour
        if k == 0:
            cap = below & (rows < ridge[None] + h * 0.07) & (ridge[None] < h * 0.32)
            picture[cap] = (250, 250, 255)
    return picture


def autumn(rng, h, w):
    leaves = fractal(rng, h, w, 6, 6)
    return mix(jitter(rng, (150, 60, 15)), jitter(rng, (240, 170, 50)), leaves)


def space(rng, h, w):
    nebula = np.clip(fractal(rng, h, w, 5, 2) * 1.8 - 0.7, 0, 1)
    picture = mix((5, 5, 15), jitter(rng, (130, 40, 150), 30), nebula)
    for _ in range(40):
        picture[rng.integers(0, h), rng.integers(0, w)] = 255
    return picture


SCENES = {
    "grass field": grass,
    "sandy beach": sand,
    "blue sky": sky,
    "night sky": night,
    "snow": snow,
    "sea": sea,
    "sunset sky": sunset,
    "brick wall": bricks,
    "wooden floor": wood,
    "forest": forest,
    "mountains": mountains,
    "autumn leaves": autumn,
    "outer space": space,
}
PLAIN_COLOURS = {
    "white": (250, 250, 250),
    "pink": (250, 190, 210),
    "yellow": (250, 225, 110),
    "blue": (70, 120, 220),
    "green": (90, 180, 100),
    "red": (215, 60, 60),
    "purple": (150, 100, 200),
    "gray": (150, 150, 150),
    "black": (20, 20, 20),
    "orange": (245, 150, 50),
}


def background(rng, height, width):
    """A scene's name and picture; about a third of them are one plain colour."""
    if rng.random() < PLAIN_PROBABILITY:
        name = rng.choice(list(PLAIN_COLOURS))
        picture = np.empty((height, width, 3), np.float32)
        picture[:] = jitter(rng, PLAIN_COLOURS[name], 5)
        return f"{name} background", picture
    name = rng.choice(list(SCENES))
    return name, np.clip(SCENES[name](rng, height, width), 0, 255)
