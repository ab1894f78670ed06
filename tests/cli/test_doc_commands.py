"""The commands in docs/ are true: every option exists with such a value, and those of the families' pages run to the end, on
small models of the same build, from the top of a page to its end in one folder."""
import os
import re
import shlex
import unittest

import doc_files
from cli_case import SOURCE, Case

COMMAND = re.compile(r"^\s*(?:build/release/apps/)?(tessera (?:generate|run|convert|inspect|nodes|samplers|schedulers)\b.*)$")


def commands(page):
    """The words of each command of a page, joined over its lines, without comments and dots."""
    with open(os.path.join(SOURCE, page), encoding="utf-8") as file:
        lines = file.read().splitlines()
    found, i = [], 0
    while i < len(lines):
        match = COMMAND.match(lines[i])
        text = match.group(1) if match else ""
        while text.endswith("\\"):
            i += 1
            text = text[:-1] + " " + lines[i].strip()
        if text:
            words = shlex.split(text, comments=True)[1:]
            found.append([word for word in words if word != "..."])
        i += 1
    return found


def small(words):
    """The same command with a picture of 64 x 64 and two steps at most."""
    if words[0] != "generate":
        return words
    words, sized = list(words), "--init-image" in words
    for option, most in (("--width", 64), ("--height", 64), ("--steps", 2)):
        if option in words:
            place = words.index(option) + 1
            words[place] = str(min(most, int(words[place])))
        elif option == "--steps" or not sized:
            words += [option, str(most)]
    return words


class Words(Case):
    """Files are missing here, so most end with status 1; 2 is a word that the command does not know."""

    def test_every_option_exists(self):
        pages = ["README.md"] + sorted("docs/" + name for name in os.listdir(os.path.join(SOURCE, "docs"))
                                       if name.endswith(".md") and name != "options.md")
        count = 0
        for page in pages:
            for words in commands(page):
                extra = ["--dry-run"] if words[0] == "generate" else []
                done = self.run_command(*words, *extra)
                self.assertNotEqual(done.returncode, 2, f"{page}: tessera {' '.join(words)}\n{done.stderr}")
                count += 1
        self.assertGreater(count, 60)


class Families(Case):
    def run_page(self, page, family, names, about=""):
        """Runs the page's commands that name `about`: a page may be about two families, whose files have the same names."""
        doc_files.write_family(self.dir, family, names)
        found = [words for words in commands(page) if any(about in word for word in words)]
        self.assertGreater(len(found), 1)
        for words in found:
            before, text = set(self.files()), f"{page}: tessera {' '.join(words)}"
            done = self.run_command(*small(words))
            self.assertEqual(done.returncode, 0, f"{text}\n{done.stderr}")
            self.assertNotIn("warning", done.stderr.lower(), text)
            if words[0] in ("generate", "convert"):
                self.assertTrue(set(self.files()) - before, text)

    def test_sd1(self):
        self.run_page("docs/sd1.md", "sd1", ["sd15.safetensors", "sd15-other.safetensors"])

    def test_sd2(self):
        self.run_page("docs/sd2.md", "sd2", ["sd21.safetensors"])

    def test_sdxl(self):
        self.run_page("docs/sdxl.md", "sdxl", ["sdxl.safetensors"])

    def test_few_steps_of_sd1(self):
        self.run_page("docs/few_steps.md", "sd1", ["sd15.safetensors", "sd15-lcm.safetensors"], "sd15")

    def test_few_steps_of_sdxl(self):
        self.run_page("docs/few_steps.md", "sdxl", ["sdxl-turbo.safetensors", "sdxl-lightning.safetensors"], "sdxl")


if __name__ == "__main__":
    unittest.main()
