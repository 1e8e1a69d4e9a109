#!/usr/bin/env bash
# Builds the Python package with each of the given Pythons, installs it into an environment of its own, and runs the tests
# of tests/package.rs with it. The build is the quick one, without the optimizations of a release.
#
#     tests/wheels.sh python3.10 python3.11 python3.12 python3.13
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    echo "usage: tests/wheels.sh PYTHON…" >&2
    exit 2
fi
for python in "$@"; do
    version=$("$python" -c 'import platform, sys; print(platform.python_implementation(), sys.version.split()[0])')
    start=$SECONDS
    MINICORN_WHEEL_PYTHON=$(command -v "$python") cargo test --quiet --locked --test integration package:: >target/wheels.log 2>&1 || {
        cat target/wheels.log >&2
        echo "$version: the package does not work" >&2
        exit 1
    }
    echo "$version: built, installed and tested in $((SECONDS - start)) s"
done
