# shellcheck shell=bash disable=SC2034
# tools/setup.sh - sourced by tessera-demo, tessera-test and .ci/run: installs what is missing, configures, builds.
#
# It says every step it takes. It knows Debian's package names and nothing of what the programs do.

readonly TSR_BUILD_PACKAGES=(
    gcc g++ libc6-dev cmake ninja-build pkg-config python3
    libdnnl-dev libpng-dev libjpeg62-turbo-dev libwebp-dev libjansson-dev libchafa-dev libglib2.0-dev
    libcivetweb-dev libsqlite3-dev libcmocka-dev
)

say() {
    printf '== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# missing_packages NAME...: prints those that dpkg does not list as installed.
missing_packages() {
    local name
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || printf '%s\n' "$name"
    done
}

# need_packages NAME...: installs what is missing, as root or through sudo, or stops with the line to type.
# TESSERA_NO_INSTALL=1 skips the question on systems that name their packages otherwise.
need_packages() {
    if [ "${TESSERA_NO_INSTALL:-0}" = 1 ]; then
        say "TESSERA_NO_INSTALL=1: packages are not looked at"
        return
    fi
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        die "this is not a Debian system. Install what these Debian packages hold, then set TESSERA_NO_INSTALL=1: $*"
    fi
    local missing root=()
    mapfile -t missing < <(missing_packages "$@")
    if [ "${#missing[@]}" -eq 0 ]; then
        say "Debian packages: all here"
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "packages are missing and there is no sudo. As root: apt-get install ${missing[*]}"
        root=(sudo)
    fi
    say "Debian packages to install: ${missing[*]}"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q ||
        die "apt-get update failed. Mend it, or install by hand: apt-get install ${missing[*]}"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
        die "apt-get install failed. Mend it, or install by hand: apt-get install ${missing[*]}"
}

# build_preset NAME [TARGET...]: configures build/NAME and builds everything, or the named targets.
build_preset() {
    local preset=$1
    shift
    say "configuring build/$preset"
    cmake --preset "$preset"
    say "building build/$preset"
    cmake --build --preset "$preset" ${1:+--target "$@"}
}

# run_tests PRESET [ctest options...]. Tests run side by side, two threads each; waiting threads sleep, so that the
# tests do not take each other's processors.
run_tests() {
    local preset=$1
    shift
    say "testing build/$preset"
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} GOMP_SPINCOUNT=0 \
        ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)" "$@"
}
