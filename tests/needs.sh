#!/usr/bin/env bash
# Makes sure that the programs which the integration tests use are there: installs them as root on Debian, and says
# what is missing elsewhere.
set -euo pipefail

# Where proxies are, and not everybody looks.
PATH=$PATH:/usr/sbin:/sbin
packages=()
need() {
    command -v "$1" >/dev/null || packages+=("$2")
}
need unshare util-linux
need prlimit util-linux
need taskset util-linux
need setpriv util-linux
need mount mount
need script bsdutils
need nginx nginx
need haproxy haproxy
need logrotate logrotate
need chromium chromium
need systemd-analyze systemd
need systemd-socket-activate systemd
# A module instead of a program, of Debian's Python.
/usr/bin/python3 -c 'import yaml' 2>/dev/null || packages+=(python3-yaml)
[ ${#packages[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    exec apt-get install -y -qq "${packages[@]}"
fi
echo "the tests need these packages: ${packages[*]}" >&2
exit 1
