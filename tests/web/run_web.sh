#!/usr/bin/env bash
# run_web.sh FILE.test.mjs BUILD_FOLDER - runs one of these tests with its npm packages, which go into the build folder.
#
# Needs node, npm and Chromium. Where one is missing, or the packages are out of reach, it says so and exits with 77
# (skipped); with TESSERA_REQUIRE_WEB=1, as CI sets it, that is a failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
test=$1
work=$2/web-tests

skip() {
    printf '%s\n' "$1"
    [ "${TESSERA_REQUIRE_WEB:-0}" = 1 ] && exit 1
    exit 77
}

command -v node >/dev/null || skip "SKIPPED: node is not installed (Debian: nodejs)"
command -v npm >/dev/null || skip "SKIPPED: npm is not installed (Debian: npm)"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] || skip "SKIPPED: node is older than 18"
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || skip "SKIPPED: Chromium is not installed (Debian: chromium)"

mkdir -p "$work"
exec 9>"$work/lock"
flock 9
if ! cmp -s "$here/package-lock.json" "$work/installed.json"; then
    cp "$here/package.json" "$here/package-lock.json" "$work/"
    (cd "$work" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        skip "SKIPPED: npm could not fetch the packages of tests/web/package-lock.json"
    cp "$here/package-lock.json" "$work/installed.json"
fi
cp "$here"/*.mjs "$work/"
flock -u 9
cd "$work"
exec node --test-reporter=spec "$test"
