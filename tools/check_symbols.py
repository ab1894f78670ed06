#!/usr/bin/env python3
"""Checks what a shared library exports: every defined dynamic symbol starts with tsr_, none with tsr__.

    check_symbols.py LIBRARY [--nm NM]
"""
import argparse
import subprocess
import sys

# The linker's own marks, present in libraries of any maker.
LINKER_SYMBOLS = {"_init", "_fini", "__bss_start", "_edata", "_end"}


def exported(nm, library):
    output = subprocess.run(
        [nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True
    ).stdout
    return [line.split()[-1].split("@")[0] for line in output.splitlines() if line.strip()]


def wrong(names):
    """The names that may not be exported: without the prefix, or library-private."""
    return [
        name for name in names
        if name not in LINKER_SYMBOLS and (not name.startswith("tsr_") or name.startswith("tsr__"))
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--nm", default="nm")
    arguments = parser.parse_args()
    names = exported(arguments.nm, arguments.library)
    bad = wrong(names)
    for name in bad:
        print(f"{arguments.library}: exports {name}; public names start with tsr_ and carry TSR_API, others are hidden")
    print(f"check_symbols: {len(names)} exported, {len(bad)} wrong")
    return 1 if bad or not names else 0


if __name__ == "__main__":
    sys.exit(main())
