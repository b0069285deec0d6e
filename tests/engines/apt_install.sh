#!/usr/bin/env bash
# Installs the Debian packages that are missing, without starting their services. Run as root.
#
#   tests/engines/apt_install.sh PACKAGE...
set -euo pipefail

need=()
for p in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || need+=("$p")
done
((${#need[@]})) || exit 0
[ "$(id -u)" = 0 ] || { echo "apt_install: needs root to install ${need[*]}" >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
made_policy=
cleanup() { rm -f "$log"; [ -z "$made_policy" ] || rm -f /usr/sbin/policy-rc.d; }
trap cleanup EXIT
# The packages' scripts would start daemons with empty configurations.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    made_policy=1
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
fi
patient=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
{
    apt-get "${patient[@]}" update -qq # a stale list asks for versions that are gone
    apt-get "${patient[@]}" install -y -qq --no-install-recommends "${need[@]}"
} >"$log" 2>&1 </dev/null || { tail -40 "$log" >&2; exit 1; }
