#!/bin/sh
# Installs Debian's Chromium and its driver, for the browser tests and the screenshots. As root.
set -eu
command -v chromium > /dev/null && command -v chromedriver > /dev/null && exit 0
apt-get -o Acquire::Retries=3 update
DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y --no-install-recommends \
    chromium chromium-driver fonts-dejavu-core
