#!/usr/bin/env python3
"""Writes src/model/unicode_tables.inc: ranges of letters and numbers, and lower-casing, from Python's Unicode data.

    tools/make_unicode.py > src/model/unicode_tables.inc
"""
import sys
import unicodedata

LAST = sys.maxunicode


def ranges(kind):
    """[first, last] runs of code points whose general category starts with kind."""
    runs = []
    for c in range(LAST + 1):
        if unicodedata.category(chr(c))[0] != kind:
            continue
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return runs


def lower_runs():
    """[first, last, step, delta]: code points first, first + step, ... last become themselves + delta."""
    runs = []
    for c in range(LAST + 1):
        low = chr(c).lower()
        if len(low) != 1 or ord(low) == c:  # only U+0130 grows; the C code knows it
            continue
        delta = ord(low) - c
        run = runs[-1] if runs else None
        if run and run[3] == delta and c - run[1] <= 2 and run[2] in (0, c - run[1]):
            run[2] = c - run[1]
            run[1] = c
        else:
            runs.append([c, c, 0, delta])
    for run in runs:
        run[2] = run[2] or 1
    return runs


def table(kind, name, rows):
    print(f"static const {kind} {name}[{len(rows)}] = {{")
    per_line = 5 if len(rows[0]) == 2 else 4
    for i in range(0, len(rows), per_line):
        print("    " + " ".join("{" + ", ".join(str(v) if j > 1 else hex(v) for j, v in enumerate(row)) + "},"
                                for row in rows[i:i + per_line]))
    print("};")


def main():
    print("/* Made by tools/make_unicode.py from Unicode " + unicodedata.unidata_version + "; do not edit. */")
    table("code_range", "LETTERS", ranges("L"))
    table("code_range", "NUMBERS", ranges("N"))
    table("lower_run", "LOWER", lower_runs())


if __name__ == "__main__":
    main()
