"""Models in every layout against their single files: the golden checkpoints are taken apart and written as diffusers
folders and as parts, converted back, and compared byte by byte."""
import hashlib
import json
import os
import struct
import sys
import unittest

import checkpoint_files as files
from cli_case import Case

FAMILIES = ("sd1", "sd2", "sdxl")


class Convert(Case):
    def same_as(self, expected, path):
        found, _ = files.read(path)
        extra = [name for name in found if name not in expected and not name.endswith("position_ids")]
        self.assertEqual(extra, [])
        for name, tensor in expected.items():
            self.assertIn(name, found)
            self.assertTrue(tensor.same(found[name]), name)
        return found

    def test_folders_are_the_single_file(self):
        for family in FAMILIES:
            expected = files.write_folder(self.path(family), family, old=family == "sd2")
            self.good("convert", family, family + ".safetensors")
            self.same_as(expected, self.path(family + ".safetensors"))

    def test_sharded_and_fp16_folders_are_too(self):
        expected = files.write_folder(self.path("shards"), "sdxl", shards=3)
        self.good("convert", "shards", "a.safetensors")
        self.same_as(expected, self.path("a.safetensors"))
        expected = files.write_folder(self.path("fp16"), "sd2", fp16=True)
        self.good("convert", "fp16", "b.safetensors")
        self.same_as(expected, self.path("b.safetensors"))


if __name__ == "__main__":
    unittest.main()
