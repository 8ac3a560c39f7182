#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Unpacks Debian's kubectl (1.20) into a directory without installing it: `fetch_kubectl.sh DIRECTORY`.
# The last line printed is the program's path. Nothing is done when it is there already.
set -eu

directory=${1:?wanted a directory}
program="$directory/root/usr/bin/kubectl"
if [ ! -x "$program" ]; then
    mkdir -p "$directory"
    cd "$directory"
    apt-get download kubernetes-client >&2 || {
        apt-get update -qq >&2
        apt-get download kubernetes-client >&2
    }
    dpkg -x kubernetes-client_*.deb root
fi
echo "$program"
