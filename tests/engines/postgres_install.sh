#!/usr/bin/env bash
# Installs PostgreSQL's server programs where there are none (Debian or Ubuntu, as root). The tests start their own
# server; the package's is not started.
set -euo pipefail
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null && exit 0
"$(dirname "$0")/apt_install.sh" postgresql-common
echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
"$(dirname "$0")/apt_install.sh" postgresql
