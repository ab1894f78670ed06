#!/usr/bin/env python3
"""The house checks find what they are there to find: each rule is broken once, in a tree made for the purpose."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check_symbols  # noqa: E402  (found through the line above)

GOOD_TREE = {
    "src/LAYERS": "# lowest first\ncore\nnn\nmodel\n",
    "src/core/check.h": '#include "tessera/status.h"\n',
    "src/nn/nn.c": '#include <dnnl.h>\n#include "core/check.h"\n#include "nn.h"\n',
    "src/nn/nn.h": "#include <stddef.h>\n",
    "src/model/unet.c": '#include "nn/nn.h"\n',
    "include/tessera/status.h": "#include <stdint.h>\n",
    "apps/main.c": '#include "options.h"\n#include "tessera/status.h"\n',
    "apps/options.h": "#include <stdio.h>\n",
    "apps/serve.c": '#include "server.h"\n',
    "server/server.h": '#include "tessera/status.h"\n',
    "server/store.h": "#include <stdio.h>\n",
}

# What is added or replaced, and what the check must say of it.
VIOLATIONS = [
    ({"src/nn/nn.c": '#include "model/unet.h"\n'}, "model lies below it"),
    ({"src/core/check.h": '#include "other/thing.h"\n'}, "no folder of src/LAYERS"),
    ({"src/extra/extra.c": "\n"}, "is not in src/LAYERS"),
    ({"src/model/unet.c": '#include "../nn/nn.h"\n'}, "no folder of src/LAYERS"),
    ({"src/model/unet.c": "#include <dnnl.h>\n"}, "src/nn only"),
    ({"src/model/unet.c": "#include <oneapi/dnnl/dnnl.h>\n"}, "src/nn only"),
    ({"include/tessera/status.h": "#include <png.h>\n"}, "a public header may not include png.h"),
    ({"include/tessera/status.h": '#include "core/check.h"\n'}, "a public header may not include core/check.h"),
    ({"apps/main.c": '#include "core/check.h"\n'}, "tessera/... only"),
    ({"apps/main.c": '  #  include "../src/core/check.h"\n'}, "tessera/... only"),
    ({"apps/main.c": '#include "store.h"\n'}, "tessera/... only"),
    ({"examples/serve.c": '#include "server.h"\n'}, "tessera/... only"),
    ({"tests/unit/core/nn.c": "\n"}, "the name is taken by src/nn/nn.c"),
    ({"src/nn/long.c": "\n" * 801}, "801 lines, at most 800"),
]


def run_check(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        result = subprocess.run(
            [sys.executable, ROOT / "tools" / "check_layers.py", folder], capture_output=True, text=True
        )
        return result.returncode, result.stdout


class CheckLayers(unittest.TestCase):
    def test_a_good_tree_passes(self):
        status, output = run_check(GOOD_TREE)
        self.assertEqual(status, 0, output)

    def test_generated_tables_may_be_long(self):
        status, output = run_check({**GOOD_TREE, "src/nn/table.inc": "\n" * 5000})
        self.assertEqual(status, 0, output)

    def test_each_violation_is_found(self):
        for change, expected in VIOLATIONS:
            with self.subTest(change=next(iter(change)), expected=expected):
                status, output = run_check({**GOOD_TREE, **change})
                self.assertEqual(status, 1, output)
                self.assertIn(expected, output)


class CheckSymbols(unittest.TestCase):
    def test_prefix_and_private_names(self):
        names = ["tsr_version", "tsr__fail", "generate_image", "_init"]
        self.assertEqual(check_symbols.wrong(names), ["tsr__fail", "generate_image"])


if __name__ == "__main__":
    unittest.main()
