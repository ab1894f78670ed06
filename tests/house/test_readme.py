#!/usr/bin/env python3
"""README.md and docs/README.md tell the truth: the program is the example, every link leads somewhere, no page is lost."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


class Readme(unittest.TestCase):
    def test_the_program_is_the_example(self):
        program = (ROOT / "README.md").read_text().split("```c\n")[1].split("```")[0]
        example = (ROOT / "examples/two_regions.c").read_text()
        self.assertEqual(program.strip(), example[example.index("#include") :].strip())

    def test_every_link_in_the_docs_leads_somewhere(self):
        pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md")]
        pages += sorted(ROOT.glob("docs/**/*.md"))
        for page in pages:
            for target in LINK.findall(page.read_text()):
                if "://" not in target:
                    self.assertTrue((page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}")

    def test_every_page_is_in_the_index(self):
        index = (ROOT / "docs/README.md").read_text()
        for page in sorted(ROOT.glob("docs/*.md")):
            if page.name != "README.md":
                self.assertIn(f"]({page.name})", index, f"docs/README.md does not list {page.name}")


if __name__ == "__main__":
    unittest.main()
