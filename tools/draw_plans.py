#!/usr/bin/env python3
"""Draws the plans of docs/system_*.md: docs/pictures/plan_*.svg.

usage: tools/draw_plans.py TESSERA_PLANS [FOLDER]

TESSERA_PLANS is the built program (build/.../bench/tessera-plans); it prints every plan as JSON and runs no network. Time
goes from left to right, one column a step with its noise levels. The top line is the latent; a call reads it (dashed) and
gives it back (arrow).
"""

import json
import pathlib
import subprocess
import sys
from xml.sax.saxutils import escape

GUTTER, TOP, ROW, BAR, RIGHT = 196, 96, 52, 30, 84
SLOT = 46  # one call of one step
STYLE = """
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2430; }
.small { font-size: 12px; fill: #4a5565; }
.title { font-size: 16px; font-weight: 600; }
.inbar { fill: #ffffff; font-weight: 600; }
.page { fill: #ffffff; }
.grid { stroke: #cdd5df; stroke-width: 1; }
.band { fill: #f3f5f8; }
.latent { stroke: #1c2430; stroke-width: 3; fill: none; }
.read { stroke: #6b7686; stroke-width: 1.2; stroke-dasharray: 3 3; fill: none; }
.give { stroke: #1c2430; stroke-width: 1.6; fill: none; }
.paste { stroke: #b3261e; stroke-width: 2; fill: none; }
.give-head { fill: #1c2430; } .paste-head { fill: #b3261e; }
.noise { fill: #f2b01e; stroke: #1c2430; stroke-width: 1; }
.c0 { fill: #2f5d9b; } .c1 { fill: #96510b; } .c2 { fill: #2c7145; } .c3 { fill: #7b3f8c; } .c4 { fill: #56606e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6eaf0; } .small { fill: #b3bcc9; } .page { fill: #14181e; } .band { fill: #1c222b; }
  .inbar { fill: #ffffff; } .grid { stroke: #3a4452; } .latent { stroke: #e6eaf0; } .read { stroke: #97a2b2; }
  .give { stroke: #e6eaf0; } .give-head { fill: #e6eaf0; } .paste { stroke: #ff8a80; } .paste-head { fill: #ff8a80; }
  .noise { stroke: #14181e; }
}
"""


def number(sigma):
    return "0" if sigma == 0 else f"{sigma:.3g}"


class Picture:
    """SVG text that grows; the caller knows all places."""

    def __init__(self):
        self.parts = []

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, words, kind="", anchor="start"):
        self.add(f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, x0, y0, x1, y1, kind):
        self.add(f'<line x1="{x0:.0f}" y1="{y0:.0f}" x2="{x1:.0f}" y2="{y1:.0f}" class="{kind}"/>')

    def box(self, x, y, width, height, kind, radius=5):
        self.add(f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="{radius}" class="{kind}"/>')

    def up(self, x, y0, y1, kind):
        """An arrow from y0 up to y1."""
        self.line(x, y0, x, y1 + 8, kind)
        self.add(f'<path d="M{x:.0f} {y1:.0f} l-5 9 h10 z" class="{kind}-head"/>')

    def diamond(self, x, y):
        self.add(f'<path d="M{x:.0f} {y - 7:.0f} l7 7 l-7 7 l-7 -7 z" class="noise"/>')

    def save(self, path, width, height, title):
        body = "\n".join(self.parts)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n'
            f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>\n{body}\n</svg>\n', encoding="utf-8")


class Call:
    """A bar. row: its row, or (first, end) when several act together, or -2 for the latent's line. slot: its place in
    the column's time. slots: how many columns it spans."""

    def __init__(self, row, column, slot, slots, words, noise=False, end="give"):
        self.row, self.column, self.slot, self.slots = row, column, slot, slots
        self.words, self.noise, self.end = words, noise, end


def rows_of(plan):
    """Row labels (two lines each), and where each (region, pass) is drawn."""
    rows, place = [], {}
    for region, label in enumerate(plan["labels"]):
        calls = [op for op in plan["ops"] if op["kind"] == "call" and op["region"] == region]
        samplers = calls[0]["runs"] if calls else [plan["samplers"][region]]
        place[region, 0] = len(rows)
        rows.append((label, samplers[0]))
        if len(samplers) > 1:
            place[region, 1] = len(rows)
            rows.append((label + ", recovery", samplers[1]))
    return rows, place


def calls_of(plan, place):
    """The bars of a plan, and how many slots each column needs."""
    calls, used = [], [0] * len(plan["columns"])
    for index, op in enumerate(plan["ops"]):
        column = op["step"]
        if op["kind"] == "call":
            following = plan["ops"][index + 1]
            pasted = following["kind"] == "composite" and following["region"] == op["region"]
            for run in range(len(op["runs"])):
                last = run + 1 == len(op["runs"])
                words = str(op["evaluations"]) if len(op["runs"]) == 1 else ("1st", "2nd")[run]
                many = op["count"]
                calls.append(Call(place[op["region"], run], column, used[column], many, words, op["noise"] and run == 0,
                                  ("paste" if pasted else "give") if last else ""))
                used[column] += 1
        if op["kind"] == "lockstep":
            asked = [k for k, active in enumerate(op["active"]) if active]
            rows = (asked[0], asked[-1] + 1)
            calls.append(Call(rows, column, 0, 1, str(op["evaluations"]), False, "give"))
            used[column] = 1
        if op["kind"] == "noise" and column >= 0:
            calls.append(Call(-2, column, 0, 0, "", True, ""))
    return calls, used


class Grid:
    """Where columns are. A run of steps that starts anew begins after a gap."""

    def __init__(self, columns, used, least):
        self.left, self.width, x = [], [], GUTTER
        for i, column in enumerate(columns):
            if i and columns[i - 1][1] != column[0]:
                x += 40
            width = max(least, max(1, used[i]) * SLOT + 16)
            self.left.append(x)
            self.width.append(width)
            x += width
        self.right = x


def frame(picture, grid, rows, columns, title, heads):
    """The title, columns with their noise levels, row labels, the latent's line."""
    bottom = TOP + ROW * len(rows) + 30
    picture.text(16, 28, title, "title")
    for i, column in enumerate(columns):
        x, width = grid.left[i], grid.width[i]
        if i % 2 == 0:
            picture.box(x, TOP - 26, width, bottom - TOP + 26, "band", 0)
        picture.line(x, TOP - 26, x, bottom, "grid")
        picture.text(x + width / 2, TOP - 48, heads[i], "", "middle")
        starts = i == 0 or columns[i - 1][1] != column[0]
        if column[0] is None:
            continue
        picture.text(x, TOP - 31, number(column[0]), "small", "start" if starts and i else "middle")
        if i + 1 == len(columns) or columns[i + 1][0] != column[1]:
            picture.line(x + width, TOP - 26, x + width, bottom, "grid")
            picture.text(x + width, TOP - 31, number(column[1]), "small", "middle" if i + 1 == len(columns) else "end")
    if columns[0][0] is not None:
        picture.text(16, TOP - 31, "sigma", "small")
    picture.text(16, TOP + 5, "the latent")
    picture.line(GUTTER - 16, TOP, grid.right + 22, TOP, "latent")
    picture.text(grid.right + 28, TOP + 5, "result")
    for r, (label, words) in enumerate(rows):
        y = TOP + ROW * (r + 1)
        picture.text(16, y - 2 if words else y + 5, label)
        if words:
            picture.text(16, y + 15, words, "small")
    return bottom


def bar(picture, grid, call):
    """One call with its reading and giving lines."""
    x = grid.left[call.column] + 8 + call.slot * SLOT
    last = call.column + call.slots - 1
    right = grid.left[last] + grid.width[last] - 8 if call.slots > 1 else x + SLOT - 8
    if isinstance(call.row, tuple):  # several rows together
        right = grid.left[call.column] + grid.width[call.column] - 8
        first, end = call.row
        y, height = TOP + ROW * (first + 1) - BAR / 2, ROW * (end - first - 1) + BAR
        picture.box(x, y, right - x, height, f"c{min(first, 4)}")
        picture.text((x + right) / 2, y + height / 2 + 5, call.words, "inbar", "middle")
        picture.line(x + 8, TOP, x + 8, y, "read")
        picture.up(right - 8, y, TOP + 2, "give")
        return
    y = TOP + ROW * (call.row + 1)
    if call.row == -2:
        picture.diamond(grid.left[call.column] + 2, TOP)
        return
    picture.box(x, y - BAR / 2, right - x, BAR, f"c{min(call.row, 4)}")
    picture.text((x + right) / 2, y + 5, call.words, "inbar", "middle")
    picture.line(x + 5, TOP, x + 5, y - BAR / 2, "read")
    if call.noise:
        picture.diamond(x + 5, y - BAR / 2)
    if call.end:
        picture.up(right - 4, y - BAR / 2, TOP + 2, call.end)


def legend(picture, y, kinds):
    """One line under the drawing: only what is in it."""
    x = 16
    for kind, words in kinds:
        if kind == "number":
            picture.box(x, y - 15, 22, 20, "c0", 4)
            picture.text(x + 11, y, "2", "inbar", "middle")
        elif kind == "noise":
            picture.diamond(x + 11, y - 5)
        elif kind == "read":
            picture.line(x + 11, y - 15, x + 11, y + 4, "read")
        else:
            picture.up(x + 11, y + 4, y - 16, kind)
        picture.text(x + 28, y, words, "small")
        x += 28 + 6.3 * len(words) + 16
    return x


def kinds_of(calls, plan_is_keep):
    kinds = [("number", "network evaluations"), ("read", "reads the latent"),
             ("give", "gives it back, blended by weights" if plan_is_keep else "its result is the latent")]
    if any(call.end == "paste" for call in calls):
        kinds.append(("paste", "its result is put in through the mask"))
    if any(call.noise for call in calls):
        kinds.append(("noise", "noise is added"))
    return kinds


def finish(picture, path, grid, bottom, kinds, title, note):
    end = legend(picture, bottom + 34, kinds)
    if note:
        picture.text(16, bottom + 60, note, "small")
    picture.save(path, max(grid.right + RIGHT, end, 16 + 6.8 * len(note)), bottom + (78 if note else 52), title)


def heads_of(plan):
    """Steps are counted from the schedule's first; a run that starts anew counts anew."""
    heads, number_of = [], plan["first"]
    for i, column in enumerate(plan["columns"]):
        if i and plan["columns"][i - 1][1] != column[0]:
            number_of = 0
        number_of += 1
        heads.append(f"step {number_of}" if i == 0 else str(number_of))
    return heads


NOTES = {
    "plan_two_samplers": "The base is held where the mask is 1; the inside is held where the mask is 0.",
    "plan_two_advanced_samplers": "Each call is held by its own noise mask; nothing is put together afterwards.",
    "plan_regional_sampler": "Steps 1 and 2 are the base's alone.",
    "plan_regional_sampler_keep": "The base owns no pixel, so it is not asked after step 2.",
    "plan_regional_sampler_advanced": "The node throws its last step away; it is not made, and its noise stays.",
}


def draw_plan(plan, path):
    rows, place = rows_of(plan)
    calls, used = calls_of(plan, place)
    columns = plan["columns"]
    grid = Grid(columns, used, 62)
    picture = Picture()
    keep = any(isinstance(call.row, tuple) for call in calls)
    bottom = frame(picture, grid, rows, columns, plan["title"], heads_of(plan))
    for call in calls:
        bar(picture, grid, call)
    note = f"{plan['evaluations']} network evaluations in all. " + NOTES[path.stem]
    recovered = [op["evaluations"] for op in plan["ops"] if op["kind"] == "call" and len(op["runs"]) > 1]
    if recovered:
        note += f" Recovery: 1st and 2nd run, {recovered[0]} evaluations together, {recovered[-1]} in the last step."
    finish(picture, path, grid, bottom, kinds_of(calls, keep), plan["title"], note)


def draw_upscaler(plan, path):
    rows = [("decode, resize, encode", ""), ("base", "4 steps, denoise 0.4"), ("inside the mask", "4 steps, denoise 0.6"),
            ("full", "3 steps, denoise 0.3")]
    columns = [(None, None)] * len(plan["sizes"])
    calls = []
    for i, size in enumerate(plan["sizes"]):
        other = 3 if size["full"] else 2
        own = 3 if size["full"] else 4
        calls += [Call(0, i, 0, 1, "\u2197", False, "give"),
                  Call(1, i, 1, 1, str(size["evaluations"] - 2 * own), True, "give"),
                  Call(other, i, 2, 1, str(2 * own), True, "give")]
    grid = Grid(columns, [3] * len(columns), 160)
    picture = Picture()
    heads = [f"{i + 1}: {s['width']} x {s['height']}" for i, s in enumerate(plan["sizes"])]
    bottom = frame(picture, grid, rows, columns, plan["title"], heads)
    for call in calls:
        bar(picture, grid, call)
    note = "Full sampling at every 2nd size (interleave1): base and full sampler over everything. Else base outside the mask, then inside."
    finish(picture, path, grid, bottom, kinds_of(calls, False), plan["title"], note)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else pathlib.Path(__file__).parent.parent / "docs/pictures")
    plans = json.loads(subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout)
    for name, plan in plans.items():
        draw = draw_upscaler if "sizes" in plan else draw_plan
        draw(plan, folder / f"plan_{name}.svg")


if __name__ == "__main__":
    main()
