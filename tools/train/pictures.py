"""Training pictures and their captions: objects on scenes, composed from random numbers alone.

A picture is uint8 [height, width, 3]. The same seeds give the same pictures on every machine with the same versions of
numpy and Pillow.
"""
import multiprocessing
import os

import numpy as np
from PIL import Image

import scenes

NATIVE_AREA = 128 * 128
PICTURES_PER_JOB = 500
NO_OBJECT, ONE_OBJECT = 0.10, 0.70  # cumulative: a tenth are bare scenes, six tenths hold one object
LARGEST_OBJECT = 118

_objects = {}  # set once before the worker processes fork, read-only afterwards


def load_objects(path):
    """Sprites drawn beforehand by sprites.py: one RGBA picture an object."""
    archive = np.load(path)
    return {name: Image.fromarray(archive[name]) for name in archive.files}


def paste(picture, sprite, center_x, center_y, size, flip, angle):
    width, height = sprite.size
    scale = size / max(width, height)
    sprite = sprite.resize((max(1, int(width * scale)), max(1, int(height * scale))), Image.LANCZOS)
    if flip:
        sprite = sprite.transpose(Image.FLIP_LEFT_RIGHT)
    if angle:
        sprite = sprite.rotate(angle, Image.BICUBIC, expand=True)
    corner = int(center_x - sprite.size[0] / 2), int(center_y - sprite.size[1] / 2)
    picture.paste(sprite, corner, sprite)


def paste_random(rng, picture, sprite, center_x, center_y, size):
    paste(picture, sprite, center_x, center_y, size, rng.random() < 0.5, rng.uniform(-9, 9))


def with_article(name):
    return ("an " if name[0] in "aeiou" else "a ") + name


def caption_of_one(rng, name, scene):
    choice = rng.random()
    preposition = "in" if any(word in scene for word in ("sky", "space", "forest")) else "on"
    if choice < 0.08:
        return name
    if choice < 0.2:
        return with_article(name)
    if choice < 0.55:
        return f"{with_article(name)}, {scene}"
    if choice < 0.95:
        return f"{with_article(name)} {preposition} {scene}"
    return f"{scene}, {with_article(name)}"


def one_object(rng, picture, objects, scene):
    width, height = picture.size
    names = list(objects)
    name = names[rng.integers(len(names))]
    large_canvas = width * height / NATIVE_AREA >= 2
    size = rng.uniform(60, LARGEST_OBJECT) * (rng.uniform(1, 1.35) if large_canvas else 1)
    reach_x, reach_y = max(0, (width - size) / 2 * 0.92), max(0, (height - size) / 2 * 0.92)
    center_x = width / 2 + rng.uniform(-reach_x, reach_x)
    center_y = height / 2 + rng.uniform(-reach_y, reach_y)
    paste_random(rng, picture, objects[name], center_x, center_y, size)
    return caption_of_one(rng, name, scene)


def caption_of_several(rng, chosen, scene, wide):
    phrases = [with_article(name) for name in chosen]
    if len(chosen) == 2 and rng.random() < 0.35:
        first, second = ("left", "right") if wide else ("top", "bottom")
        return f"{phrases[0]} on the {first} and {phrases[1]} on the {second}, {scene}"
    return ", ".join(phrases[:-1]) + f" and {phrases[-1]}, {scene}"


def several_objects(rng, picture, objects, scene):
    """Two or three objects in a row along the longer side, none over the edge."""
    width, height = picture.size
    names = list(objects)
    count = 2 if width * height / NATIVE_AREA < 1.4 or rng.random() < 0.6 else 3
    chosen = [names[i] for i in rng.choice(len(names), count, replace=False)]
    wide = width >= height
    along, across = (width, height) if wide else (height, width)
    largest = min(along / count * 0.98, across * 0.9, LARGEST_OBJECT)
    for i, name in enumerate(chosen):
        size = rng.uniform(0.72, 1) * largest
        reach = max(0, (across - size) / 2 * 0.85)
        offset = across / 2 + rng.uniform(-reach, reach)
        wanted = along * (i + 0.5) / count + rng.uniform(-0.06, 0.06) * along
        position = min(max(wanted, size / 2), along - size / 2)
        center = (position, offset) if wide else (offset, position)
        paste_random(rng, picture, objects[name], *center, size)
    return caption_of_several(rng, chosen, scene, wide)


def compose(rng, objects, height, width):
    """One picture and its caption: no object, one, or several side by side on a background."""
    scene, pixels = scenes.background(rng, height, width)
    picture = Image.fromarray(pixels.astype(np.uint8))
    kind = rng.random()
    if kind < NO_OBJECT:
        return picture, scene
    if kind < ONE_OBJECT:
        return picture, one_object(rng, picture, objects, scene)
    return picture, several_objects(rng, picture, objects, scene)


def _render_job(job):
    path, height, width, start, stop, seed = job
    array = np.lib.format.open_memmap(path, "r+")
    rng = np.random.default_rng(seed)
    captions = []
    for i in range(start, stop):
        picture, caption = compose(rng, _objects, height, width)
        array[i] = np.asarray(picture)
        captions.append(caption)
    return path, start, captions


def render_all(sizes, objects, folder):
    """Renders (height, width, count) sets into files under folder, on every core: a list of (pictures, captions)."""
    _objects.update(objects)
    jobs, captions, seed = [], {}, 1
    for height, width, count in sizes:
        path = f"{folder}/{height}x{width}.npy"
        np.lib.format.open_memmap(path, "w+", np.uint8, (count, height, width, 3)).flush()
        captions[path] = [None] * count
        for start in range(0, count, PICTURES_PER_JOB):
            jobs.append((path, height, width, start, min(count, start + PICTURES_PER_JOB), seed))
            seed += 1
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for path, start, part in pool.imap_unordered(_render_job, jobs):
            captions[path][start : start + len(part)] = part
    return [(np.load(path, mmap_mode="r"), captions[path]) for path in captions]
