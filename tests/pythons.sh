#!/usr/bin/env bash
# Builds minicorn with each of the given Pythons and serves the Flask example with it: from workers that import it, and,
# over a reload, from workers that are forked with it.
#
#     tests/pythons.sh python3.10 python3.11 python3.12 python3.13
set -euo pipefail
cd "$(dirname "$0")/.."

serve_flask_with() {
    local python=$1 version work
    version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    work=target/pythons/$version
    mkdir -p "$work"
    "$python" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^flask==' requirements.txt)"
    PYO3_PYTHON=$PWD/$work/venv/bin/python cargo build --quiet --locked --target-dir "$work/target"
    serve_flask "$version" "$work"
    serve_flask "$version" "$work" --preload
    echo "CPython $version: Flask answered"
}

serve_flask() {
    local version=$1 work=$2 log=$2/log server url
    shift 2
    "$work/target/debug/minicorn" --python "$work/venv" --bind 127.0.0.1:0 --workers 2 "$@" examples.flask_app:app 2>"$log" &
    server=$!
    # The address is in the line that says that the first worker is ready.
    wait_for_line "$server" 'listening on' "$log"
    url=$(sed -n 's/.*listening on \([^,]*\),.*/\1/p' "$log")
    ask "$work" "$url"
    kill -HUP "$server"
    wait_for_line "$server" 'reloaded: generation 2 serves' "$log"
    ask "$work" "$url"
    kill -TERM "$server"
    wait "$server"
    grep -q "CPython $version" "$log" || { echo "another Python was loaded:" >&2; cat "$log" >&2; return 1; }
}

wait_for_line() {
    local server=$1 line=$2 log=$3
    for _ in $(seq 100); do
        grep -q "$line" "$log" && return
        kill -0 "$server" || break
        sleep 0.1
    done
    cat "$log" >&2
    return 1
}

ask() {
    "$1/venv/bin/python" - "$2" <<'PYTHON'
import sys, urllib.request
answer = urllib.request.urlopen(sys.argv[1] + "/?name=minicorn", timeout=10)
assert answer.status == 200 and b"Hello, minicorn!" in answer.read(), answer.status
PYTHON
}

if [ $# -eq 0 ]; then
    echo "usage: tests/pythons.sh PYTHON…" >&2
    exit 2
fi
for python in "$@"; do
    serve_flask_with "$python"
done
