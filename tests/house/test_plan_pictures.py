#!/usr/bin/env python3
"""docs/pictures/plan_*.svg are what tools/draw_plans.py draws of the built library's plans, are well formed, and each is shown.

usage: test_plan_pictures.py TESSERA_PLANS
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1)


class PlanPictures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.plans = json.loads(subprocess.run([PROGRAM], check=True, capture_output=True, text=True).stdout)

    def test_the_docs_show_todays_plans(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, ROOT / "tools/draw_plans.py", PROGRAM, folder], check=True)
            drawn = {path.name: path.read_text() for path in pathlib.Path(folder).iterdir()}
        kept = {path.name: path.read_text() for path in (ROOT / "docs/pictures").glob("plan_*.svg")}
        self.assertEqual(sorted(drawn), sorted(kept))
        pages = "".join(page.read_text() for page in ROOT.glob("docs/system_*.md"))
        for name, text in drawn.items():
            self.assertEqual(text, kept[name], f"run tools/draw_plans.py: {name}")
            xml.etree.ElementTree.fromstring(text)
            self.assertIn(f"pictures/{name}", pages)

    def test_every_call_is_a_bar(self):
        for name, plan in self.plans.items():
            if "ops" not in plan:
                continue
            text = (ROOT / f"docs/pictures/plan_{name}.svg").read_text()
            bars = sum(len(op["runs"]) if op["kind"] == "call" else op["kind"] == "lockstep" for op in plan["ops"])
            pasted = sum(op["kind"] == "composite" for op in plan["ops"])
            self.assertEqual(text.count('class="inbar"'), bars + 1)  # one in the legend
            self.assertEqual(text.count('class="paste-head"'), pasted + (pasted > 0))

    def test_a_regions_cost_is_the_systems(self):
        self.assertEqual(self.plans["two_samplers"]["evaluations"], 2 * 6 * 2)
        self.assertEqual(self.plans["regional_sampler_advanced"]["evaluations"], 2 * 3 * 2)
        self.assertEqual([size["full"] for size in self.plans["upscaler"]["sizes"]], [False, True, False, True])


if __name__ == "__main__":
    unittest.main()
