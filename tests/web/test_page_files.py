#!/usr/bin/env python3
"""The page's files as the server gives them, and the script that puts them into the program. Needs no browser."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
sys.path.insert(0, str(ROOT / "tests" / "server"))
sys.path.insert(0, str(ROOT / "cmake"))
import embed_page  # noqa: E402  (found through the line above)
from serve_case import Server  # noqa: E402


class Embedding(unittest.TestCase):
    def make(self, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (pathlib.Path(folder) / name).write_bytes(data)
            return embed_page.table(pathlib.Path(folder))

    def test_bytes_and_types(self):
        text = self.make({"index.html": b"<p>\n\xc3\xa9", "a.js": b"1"})
        self.assertIn("60,112,62,10,195,169", text)
        self.assertIn('"a.js", "text/javascript; charset=utf-8"', text)

    def test_what_cannot_be_served_is_refused(self):
        for files, word in (({"index.html": b"x", "a.exe": b"x"}, "content type"), ({"index.html": b""}, "empty"), ({"a.js": b"x"}, "index.html")):
            with self.assertRaises(SystemExit) as caught:
                self.make(files)
            self.assertIn(word, str(caught.exception))


class Serving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.server.process.terminate()
        cls.server.process.wait()
        cls.server.close()
        cls.folder.cleanup()

    def test_every_file_is_there_byte_for_byte(self):
        for path in sorted(WEB.iterdir()):
            status, data = self.server.request("GET", f"/page/{path.name}")
            self.assertEqual(status, 200, path.name)
            self.assertEqual(data, path.read_bytes(), path.name)
        self.assertEqual(self.server.request("GET", "/")[1], (WEB / "index.html").read_bytes())

    def test_nothing_else_is(self):
        for name in ("", "app", "app.js%00", "../web/app.js", "%2e%2e/README.md", "app.js/", "sub/app.js", "x" * 5000):
            self.assertNotEqual(self.server.request("GET", "/page/" + name)[0], 200, name[:40])

    def test_options_are_the_program_s(self):
        table = self.server.get("/tessera/options")
        printed = subprocess.run([self.server.process.args[0], "options", "--format", "md"], capture_output=True, text=True, check=True).stdout
        for row in table["scene"]:
            if not row["flags"]:
                self.assertIn(f"`{row['key']}`", printed)
                self.assertIn(row["help"].replace("|", "\\|"), printed, row["key"])
        steps = next(row for row in table["scene"] if row["key"] == "steps")
        self.assertEqual((steps["kind"], steps["minimum"], steps["maximum"], steps["default"]), ("int", 1, 10000, "20"))
        history = next(row for row in table["scene"] if row["key"] == "history")
        self.assertEqual(history["choices"], ["keep", "restart"])
        self.assertTrue({"prompt", "feather", "start", "mask_data"} <= {row["key"] for row in table["region"]})


class Sources(unittest.TestCase):
    def test_modules_import_what_exists(self):
        for path in WEB.glob("*.js"):
            for names, module in re.findall(r"^import \{([^}]*)\} from '\./([^']+)'", path.read_text(), re.MULTILINE):
                target = (WEB / module).read_text()
                for name in (name.strip() for name in names.split(",")):
                    self.assertRegex(target, rf"export (async )?(function|class|const) {name}\b", f"{path.name} wants {name} of {module}")

    def test_no_markup_is_parsed_and_nothing_is_fetched_from_elsewhere(self):
        for path in WEB.iterdir():
            text = path.read_text()
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
                self.assertNotIn(word, text, path.name)
            foreign = [url for url in re.findall(r"https?://[^\s'\")<]+", text) if not url.startswith("http://www.w3.org/")]
            self.assertEqual(foreign, [], path.name)

    def test_files_are_short(self):
        for path in [*WEB.iterdir(), *pathlib.Path(__file__).parent.glob("*.mjs")]:
            self.assertLess(len(path.read_text().splitlines()), 600, path.name)


if __name__ == "__main__":
    unittest.main()
