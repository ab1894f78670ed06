#!/usr/bin/env bash
# What tools/setup.sh does about missing packages, with made-up dpkg-query, apt-get, sudo and id in front of it.
set -euo pipefail
setup=$(cd "$(dirname "$0")/../.." && pwd)/tools/setup.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fake NAME BODY: a program that writes down its call and then does BODY.
fake() {
    printf '#!/bin/bash\necho "%s $*" >>"%s/calls"\n%s\n' "$1" "$work" "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# fresh USER_ID: a system with apt-get where the package `here` is installed and nothing else.
fresh() {
    rm -rf "${work:?}/bin" "$work/calls"
    mkdir "$work/bin"
    touch "$work/calls"
    ln -s "$(command -v env)" "$(command -v bash)" "$work/bin/"
    # shellcheck disable=SC2016 # expanded by the fake program, not here
    fake dpkg-query '[ "${!#}" = here ] && printf installed'
    fake apt-get ':'
    fake id "echo $1"
}

# need PACKAGE...: runs need_packages on that system; output in $output, exit status in $status.
need() {
    status=0
    output=$(PATH="$work/bin" bash -c 'set -euo pipefail; . "$0"; need_packages "$@"' "$setup" "$@" 2>&1) || status=$?
}

expect() {
    local what=$1
    shift
    "$@" || {
        printf 'setup: %s\nstatus %s, output:\n%s\ncalls:\n' "$what" "$status" "$output"
        cat "$work/calls"
        exit 1
    }
}
said() { [[ $output == *"$1"* ]]; }
called() { grep -q -- "$1" "$work/calls"; }
not() { ! "$@"; }

fresh 0
need here
expect 'installs nothing when all is there' not called '^apt-get'
expect 'succeeds when all is there' [ "$status" -eq 0 ]

fresh 0
need here lost
expect 'succeeds as root' [ "$status" -eq 0 ]
expect 'says what it installs' said 'to install: lost'
expect 'fetches the lists first' called '^apt-get update'
expect 'installs only what is missing' called '^apt-get install .*recommends lost$'

fresh 1000
fake sudo '"$@"'
need lost
expect 'uses sudo when not root' called '^sudo env .*apt-get install'
expect 'succeeds through sudo' [ "$status" -eq 0 ]

fresh 1000
need here lost
expect 'stops without sudo' [ "$status" -eq 1 ]
expect 'gives the line to type' said 'apt-get install lost'
expect 'does not try without rights' not called '^apt-get'

fresh 0
fake apt-get 'exit 100'
need lost
expect 'stops when apt-get fails' [ "$status" -eq 1 ]
expect 'gives the line to type when apt-get fails' said 'apt-get install lost'

fresh 0
rm "$work/bin/dpkg-query"
need here lost
expect 'stops on other systems' [ "$status" -eq 1 ]
expect 'names the packages on other systems' said 'here lost'
TESSERA_NO_INSTALL=1 need here lost
expect 'can be told to go on' [ "$status" -eq 0 ]
echo "setup: as expected"
