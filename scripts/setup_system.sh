#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs from Debian what is missing, and only that: `setup_system.sh build` for compiling and the
# virtual environment, `setup_system.sh e2e` for what the end-to-end tests, the demo and the benches run.
set -eu

missing=""

want_command() { # command package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

want_file() { # path package
    [ -e "$1" ] || missing="$missing $2"
}

PATH="$PATH:/usr/sbin:/sbin"
case "${1:-}" in
build)
    want_command cc build-essential
    want_command make make
    "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    ;;
e2e)
    want_command containerd containerd
    want_command runc runc
    want_file /usr/lib/cni/bridge containernetworking-plugins
    want_file /bin/busybox busybox-static
    want_command iptables iptables
    want_command ip iproute2
    want_command kubectl kubernetes-client
    ;;
*)
    echo "setup_system.sh: wanted build or e2e, got: '${1:-}'" >&2
    exit 2
    ;;
esac

[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages:$missing" >&2
    echo "hint: install them as root: apt-get install$missing" >&2
    exit 1
fi
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # the list is split on purpose
apt-get install -y -qq --no-install-recommends $missing >&2
