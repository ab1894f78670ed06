#!/usr/bin/env bash
# Runs clang-tidy over the library, the server, the command and the examples; a warning is an error.
#   tools/check_tidy.sh BUILD_FOLDER [PATTERN]     a configured folder, and which files (default: src, server, apps, examples)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?a build folder with compile_commands.json, for example build/release}
pattern=${2:-/(src|server|apps|examples)/.*\.c$}

# run-clang-tidy takes its file list from compile_commands.json, one process a core. gcc's own options are unknown to clang, not wrong.
run-clang-tidy -quiet -p "$build" -extra-arg=-Wno-unknown-warning-option \
    -extra-arg=-Wno-ignored-optimization-argument "$PWD$pattern" >"$build/tidy.log" 2>"$build/tidy.err" || {
    grep -E -A4 '(warning|error):' "$build/tidy.log" || cat "$build/tidy.log" "$build/tidy.err"
    printf 'check_tidy: warnings, see %s/tidy.log\n' "$build" >&2
    exit 1
}
printf 'check_tidy: clean\n'
