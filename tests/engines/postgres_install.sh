#!/usr/bin/env bash
# Installs PostgreSQL's server programs where there are none (Debian or Ubuntu, as root). The tests start their own
# server; the package's is not started.
set -euo pipefail
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null && exit 0
[ "$(id -u)" = 0 ] || { echo "postgres_install: needs root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql-common >"$log" 2>&1 || { tail -30 "$log" >&2; exit 1; }
echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
apt-get install -y -qq --no-install-recommends postgresql >"$log" 2>&1 || { tail -30 "$log" >&2; exit 1; }
