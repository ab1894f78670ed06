#!/usr/bin/env python3
"""Checks the shape of the tree: who may include whom, unique file names, file sizes.

    check_layers.py [ROOT]

Rules:
  * src/FOLDER includes only itself, the folders before it in src/LAYERS, and tessera/...
  * include/tessera includes only tessera/... and the C headers named in PUBLIC_SYSTEM_HEADERS
  * apps, server and examples include only tessera/... and files of their own folder; apps may include the server's
    one public header, server.h
  * oneDNN's header is seen by src/nn alone: nothing above it may know which back end runs
  * no two source files share a name
  * no source file is over MAX_LINES lines; generated *.inc files are exempt

Prints one line a violation and exits with 1 if there is any.
"""
import pathlib
import re
import sys

MAX_LINES = 800
PUBLIC_ONLY_FOLDERS = ("apps", "server", "examples")
LENT_HEADERS = {"apps": {"server.h": "server/server.h"}}
SOURCE_FOLDERS = ("include", "src", "apps", "server", "examples", "bench", "tests", "fuzz", "tools")
PUBLIC_SYSTEM_HEADERS = {"stdint.h", "stddef.h", "stdbool.h", "stdio.h", "stdarg.h"}
BACK_END_HEADERS = re.compile(r"^(dnnl|oneapi/)")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)


def read_layers(root):
    """The folders of src/LAYERS, lowest first."""
    lines = (root / "src" / "LAYERS").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def sources(root, *folders):
    """Every C file of the folders, in a fixed order; *.inc files are C too."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".inc") and path.is_file():
                yield path


def includes(path):
    """(line number, is it quoted, name) of every include of a file."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1) == '"', match.group(2)


def check_src(root, layers):
    for path in sources(root, "src"):
        folder = path.relative_to(root / "src").parts[0]
        where = path.relative_to(root)
        if folder not in layers:
            yield f"{where}: folder src/{folder} is not in src/LAYERS"
            continue
        allowed = layers[: layers.index(folder) + 1]
        for line, quoted, name in includes(path):
            if not quoted or name.startswith("tessera/"):
                if BACK_END_HEADERS.match(name) and folder != "nn":
                    yield f"{where}:{line}: {name} may be included by src/nn only"
                continue
            if (path.parent / name).is_file() and not name.startswith("."):
                continue  # a neighbour in the same folder, or below it
            target = name.split("/")[0]
            if target not in layers or "/" not in name:
                yield f'{where}:{line}: "{name}" is no file beside it and no folder of src/LAYERS'
            elif target not in allowed:
                yield f'{where}:{line}: src/{folder} may not include "{name}": {target} lies below it in src/LAYERS'


def check_public_headers(root):
    for path in sources(root, "include"):
        for line, quoted, name in includes(path):
            ok = name.startswith("tessera/") if quoted else name in PUBLIC_SYSTEM_HEADERS
            if not ok:
                yield f"{path.relative_to(root)}:{line}: a public header may not include {name}"


def check_programs(root):
    for folder in PUBLIC_ONLY_FOLDERS:
        for path in sources(root, folder):
            for line, quoted, name in includes(path):
                if not quoted or name.startswith("tessera/"):
                    continue
                lent = LENT_HEADERS.get(folder, {}).get(name)
                if lent and (root / lent).is_file() and not (path.parent / name).exists():
                    continue
                target = (path.parent / name).resolve()
                if not target.is_file() or (root / folder).resolve() not in target.parents:
                    yield f'{path.relative_to(root)}:{line}: {folder}/ may include tessera/... only, not "{name}"'


def check_files(root):
    seen = {}
    for path in sources(root, *SOURCE_FOLDERS):
        where = path.relative_to(root)
        if path.name in seen:
            yield f"{where}: the name is taken by {seen[path.name]}"
        seen.setdefault(path.name, where)
        if path.suffix != ".inc":
            lines = len(path.read_bytes().splitlines())
            if lines > MAX_LINES:
                yield f"{where}: {lines} lines, at most {MAX_LINES}: split it by topic"


def main(arguments):
    root = pathlib.Path(arguments[1] if len(arguments) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    layers = read_layers(root)
    problems = [*check_src(root, layers), *check_public_headers(root), *check_programs(root), *check_files(root)]
    for problem in problems:
        print(problem)
    print(f"check_layers: {len(layers)} layers, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
