# shellcheck shell=bash
# Sourced by deploy/quickstart and tests/run: installs Debian packages, and only those that are missing.
# On Debian 12 libraft comes from bookworm-backports, whose mirror is taken from the machine's own sources.

# shellcheck disable=SC2034 # for those who source this
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config libraft-dev libuv1-dev libsqlite3-dev libmicrohttpd-dev
libxxhash-dev libhiredis-dev libedit-dev libzstd-dev"

step() { printf '\n==> %s\n' "$*"; }

# Why this machine will not do; returns 1 then.
check_system() {
    local id='' version=''
    if [ -r /etc/os-release ]; then
        id=$(. /etc/os-release && echo "${ID:-}")
        version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    fi
    case "$id $version" in
        "debian 12"|"debian 13") return 0 ;;
    esac
    cat >&2 <<EOF
This script knows Debian 12 and 13; this machine says it is '${id:-unknown} ${version}'. Holdfast itself needs:
  a C11 compiler, meson >= 1.0, ninja, pkg-config,
  libraft >= 0.22.1 (cowsql/raft), libuv >= 1.44, SQLite >= 3.40, libmicrohttpd, xxHash, hiredis, libedit, zstd
With those in place: meson setup --buildtype=release -Dtests=false build && ninja -C build
EOF
    return 1
}

is_installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

raft_is_new_enough() {
    dpkg --compare-versions "$(dpkg-query -W -f='${Version}' libraft-dev 2>/dev/null || echo 0)" ge 0.22.1
}

# What apt is set up to read, in either style of source files and also before its first update, as lines
# release|component|uri.
apt_sources() {
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --no-release-info --format '$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
        sort -u
}

# The mirror that serves plain bookworm here serves its backports too, signed with the same key.
add_backports() {
    local uri key=/usr/share/keyrings/debian-archive-keyring.gpg
    apt_sources | grep -q '^bookworm-backports|main|' && return 0
    uri=$(apt_sources | sed -n '/^bookworm|main|cdrom:/d; s,/$,,; s/^bookworm|main|//p' | head -n 1)
    if [ -z "$uri" ]; then
        echo "no Debian mirror for bookworm in /etc/apt: enable bookworm-backports by hand and run this again" >&2
        return 1
    fi
    step "enabling bookworm-backports (for libraft 0.22) from $uri"
    printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: %s\n' "$uri" "$key" |
        $SUDO tee /etc/apt/sources.list.d/holdfast-backports.sources >/dev/null
}

# install_packages NAME...: what is missing of it.
install_packages() {
    local name missing='' from_backports=''
    SUDO=''
    for name in "$@"; do
        is_installed "$name" || missing="$missing $name"
    done
    raft_is_new_enough || from_backports=yes
    if [ -z "$missing" ] && [ -z "$from_backports" ]; then
        echo "all packages are installed"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Packages are missing ($missing): run this as root, or install sudo." >&2
            return 1
        fi
        SUDO=sudo
        echo "Packages are missing; installing them needs root, so sudo may ask for your password."
    fi
    if [ -n "$from_backports" ] && [ "$(. /etc/os-release && echo "$VERSION_ID")" = 12 ]; then
        add_backports || return 1
    fi
    step "installing packages:$missing"
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get update -q || return 1
    if [ -n "$from_backports" ] && [ "$(. /etc/os-release && echo "$VERSION_ID")" = 12 ]; then
        $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
            -t bookworm-backports libraft-dev || return 1
    fi
    # shellcheck disable=SC2086 # a list of names
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing || return 1
    raft_is_new_enough || { echo "libraft-dev is older than 0.22.1" >&2; return 1; }
}
