#!/usr/bin/env bash
# Builds minicorn with each of the given Pythons and serves the Flask example with it, once.
#
#     tests/pythons.sh python3.10 python3.11 python3.12 python3.13
set -euo pipefail
cd "$(dirname "$0")/.."

serve_flask_with() {
    local python=$1 version work server log
    version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    work=target/pythons/$version
    log=$work/log
    mkdir -p "$work"
    "$python" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^flask==' requirements.txt)"
    PYO3_PYTHON=$PWD/$work/venv/bin/python cargo build --quiet --locked --target-dir "$work/target"
    "$work/target/debug/minicorn" --python "$work/venv" --bind 127.0.0.1:0 --workers 2 examples.flask_app:app 2>"$log" &
    server=$!
    # The address is in the line that says that the first worker is ready.
    for _ in $(seq 100); do
        grep -q 'listening on' "$log" && break
        kill -0 "$server" || { cat "$log" >&2; return 1; }
        sleep 0.1
    done
    "$work/venv/bin/python" - "$(sed -n 's/.*listening on \([^,]*\),.*/\1/p' "$log")" "$version" <<'PYTHON'
import sys, urllib.request
url, version = sys.argv[1:]
answer = urllib.request.urlopen(url + "/?name=minicorn", timeout=10)
assert answer.status == 200 and b"Hello, minicorn!" in answer.read(), answer.status
print(f"CPython {version}: Flask answered 200")
PYTHON
    kill -TERM "$server"
    wait "$server"
    grep -q "CPython $version" "$log" || { echo "another Python was loaded:" >&2; cat "$log" >&2; return 1; }
}

if [ $# -eq 0 ]; then
    echo "usage: tests/pythons.sh PYTHON…" >&2
    exit 2
fi
for python in "$@"; do
    serve_flask_with "$python"
done
