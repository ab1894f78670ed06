#!/usr/bin/env python3
"""Turns the page's files into a C table that server/routes_page.c includes.

    embed_page.py WEB_FOLDER OUTPUT.inc

Each row: path, content type, entity tag (of the bytes), bytes, size. Files of an unknown kind are an error: they would be
served with a wrong type.
"""
import hashlib
import pathlib
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


def table(folder):
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    rows = []
    lines = ["/* Made by cmake/embed_page.py from web/. */\n"]
    for number, path in enumerate(files):
        data = path.read_bytes()
        if not data:
            raise SystemExit(f"{path}: is empty")
        if path.suffix not in TYPES:
            raise SystemExit(f"{path}: no content type is known for {path.suffix or 'a name without ending'}")
        tag = hashlib.sha256(data).hexdigest()[:24]
        lines.append(f"static const unsigned char FILE_{number}[] = {{\n")
        lines += ["    " + ",".join(str(byte) for byte in data[at : at + 24]) + ",\n" for at in range(0, len(data), 24)]
        lines.append("};\n")
        rows.append(f'    {{ "{path.name}", "{TYPES[path.suffix]}", "\\"{tag}\\"", FILE_{number}, sizeof FILE_{number} }},\n')
    if not any('"index.html"' in row for row in rows):
        raise SystemExit(f"{folder}: there is no index.html")
    return "".join(lines) + "static const page_file FILES[] = {\n" + "".join(rows) + "};\n"


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    pathlib.Path(sys.argv[2]).write_text(table(pathlib.Path(sys.argv[1])))


if __name__ == "__main__":
    main()
