#!/bin/bash
# Installs what a level needs, and nothing that is already there. Asks nothing; may run again.
#   setup.sh build   compile and run the programs and the demo
#   setup.sh test    build, and what the tests need
#   setup.sh bench   build, and the systems that the benchmark compares with
# Debian packages come by apt (sudo where not root), DuckDB's library and header by npm with pinned
# checksums into third_party/duckdb. What can not be had is named in one line on standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BUILD_PACKAGES="build-essential cmake ninja-build pkg-config ca-certificates
    libpg-query-dev libprotobuf-c-dev liburing-dev libdnnl-dev libssl-dev libxxhash-dev libzstd-dev
    libpq-dev postgresql-client"
TEST_PACKAGES="clang clang-format libclang-rt-14-dev libcriterion-dev python3"
BENCH_PACKAGES="postgresql-15 postgresql-server-dev-15 redis-server tarantool tarantool-dev
    libmsgpuck-dev libsqlite3-dev liblmdb-dev python3"

# Package, its tarball's name, and the SHA-256 of the tarball.
DUCKDB_DIR=third_party/duckdb
LIBRARY_PACKAGE=@duckdb/node-bindings-linux-x64@1.4.4-r.4
LIBRARY_TARBALL=duckdb-node-bindings-linux-x64-1.4.4-r.4.tgz
LIBRARY_TARBALL_SHA256=732fac4dc6b8f198870b9c4bb6ddf13544466daca00ad28ba2f1d80de5d7aa4b
HEADER_PACKAGE=duckdb@1.4.4
HEADER_TARBALL=duckdb-1.4.4.tgz
HEADER_TARBALL_SHA256=5bb967dcbcd517670ba5f169f238fb9d6787e53752c60ebe24386169d76941ed
HEADER_PATH=package/src/duckdb/src/include/duckdb.h
DUCKDB_FILES="1ef33048e12235115ac0d277a0aaccbb560e33248144f488b5ac005cd9ba81b5  libduckdb.so
cbe6a827284375c5a646b8f27dbd3a00808ce8738b5bbb49c190cb1e08540281  duckdb.h
7e17fd31249fa875cb3b1c5e05c6c3e99b75509f6a2804ca176c217834de1dcb  LICENSE"

fail() {
    echo "setup: $*" >&2
    exit 1
}

missing_packages() { # prints those of "$@" that dpkg does not know as installed
    local package
    for package in "$@"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            echo -n "$package "
        fi
    done
}

is_debian_12() {
    [ -r /etc/os-release ] && (. /etc/os-release && [ "${ID:-}" = debian ] &&
        [ "${VERSION_ID:-}" = 12 ])
}

# as_root COMMAND...: directly as root, else by sudo without a prompt.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@" </dev/null
    else
        sudo -n "$@" </dev/null
    fi
}

apt_install() { # packages known to be missing
    local log=build/setup-apt.log
    is_debian_12 || fail "missing: $* (packages of Debian 12; this is another system)"
    command -v apt-get >/dev/null || fail "missing: $* (and there is no apt-get to install them)"
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        fail "missing: $* (not root, and sudo is absent or asks for a password)"
    fi
    echo "setup: installing with apt: $*"
    mkdir -p build
    local options=(-y -q --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 update \
        >"$log" 2>&1 || echo "setup: apt-get update failed; trying with the lists that are here"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install "$@" \
        >>"$log" 2>&1 || fail "missing: $* (apt-get install failed, see $log)"
}

need_packages() {
    command -v dpkg-query >/dev/null || fail "missing: $* (packages of Debian 12; no dpkg here)"
    local missing
    missing=$(missing_packages "$@")
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # a list of words
        apt_install $missing
    fi
}

duckdb_is_there() {
    [ -d "$DUCKDB_DIR" ] && (cd "$DUCKDB_DIR" && sha256sum --check --status <<<"$DUCKDB_FILES") \
        2>/dev/null
}

# fetch PACKAGE TARBALL SHA256: into build/setup-npm, which is also npm's cache and home, so that npm
# writes nothing elsewhere. The user's own settings (a proxy, a certificate) still hold.
fetch() {
    local work=$PWD/build/setup-npm
    local settings=${npm_config_userconfig:-${NPM_CONFIG_USERCONFIG:-${HOME:-/root}/.npmrc}}
    (cd "$work" && HOME=$work npm_config_userconfig=$settings npm pack "$1" \
        --cache "$work/cache" --ignore-scripts --no-update-notifier --no-fund --no-audit \
        --loglevel=error </dev/null >"$work/npm.log" 2>&1) || fail "missing: $1 (npm pack failed, see $work/npm.log)"
    (cd "$work" && sha256sum --check --status <<<"$3  $2") 2>/dev/null ||
        fail "missing: $1 (what npm delivered does not have the pinned SHA-256)"
}

need_duckdb() {
    duckdb_is_there && return
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        fail "missing: DuckDB 1.4.4 (pinned for Linux on x86-64; this is $(uname -s)-$(uname -m))"
    command -v npm >/dev/null || need_packages npm
    echo "setup: fetching with npm: $LIBRARY_PACKAGE $HEADER_PACKAGE"
    local work=build/setup-npm
    rm -rf "$work"
    mkdir -p "$work" "$DUCKDB_DIR"
    fetch "$LIBRARY_PACKAGE" "$LIBRARY_TARBALL" "$LIBRARY_TARBALL_SHA256"
    fetch "$HEADER_PACKAGE" "$HEADER_TARBALL" "$HEADER_TARBALL_SHA256"
    tar -xmzf "$work/$LIBRARY_TARBALL" -C "$work" --no-same-owner package/libduckdb.so \
        package/LICENSE
    tar -xmzf "$work/$HEADER_TARBALL" -C "$work" --no-same-owner "$HEADER_PATH"
    mv "$work/package/libduckdb.so" "$work/package/LICENSE" "$work/$HEADER_PATH" "$DUCKDB_DIR/"
    rm -rf "$work"
    duckdb_is_there || fail "missing: DuckDB 1.4.4 (the files unpacked do not have the pinned SHA-256)"
}

download_pgbench() { # into the folder $1
    (cd "$1" && apt-get -q -o Acquire::Retries=3 download postgresql-15 </dev/null &&
        dpkg-deb -x postgresql-15_*.deb .)
}

# pgbench comes with the server's package. Where that is not installed only the program is taken out of
# it: installing it would leave a cluster that runs.
need_pgbench() {
    local work=build/setup-pgbench
    [ ! -x third_party/pgbench/pgbench ] || return 0
    [ -z "$(ls /usr/lib/postgresql/*/bin/pgbench 2>/dev/null)" ] || return 0
    echo "setup: fetching with apt: pgbench (of postgresql-15)"
    rm -rf "$work"
    mkdir -p "$work" third_party/pgbench
    if ! download_pgbench "$work" >build/setup-pgbench.log 2>&1; then
        as_root apt-get -q update >>build/setup-pgbench.log 2>&1 || true # the lists may be gone
        download_pgbench "$work" >>build/setup-pgbench.log 2>&1 ||
            fail "missing: pgbench (apt-get download postgresql-15 failed, see build/setup-pgbench.log)"
    fi
    mv "$work/usr/lib/postgresql/15/bin/pgbench" third_party/pgbench/
    rm -rf "$work"
}

level=${1:-}
case "$level" in
build) packages="$BUILD_PACKAGES" ;;
test) packages="$BUILD_PACKAGES $TEST_PACKAGES" ;;
bench) packages="$BUILD_PACKAGES $BENCH_PACKAGES" ;;
*) fail "usage: scripts/setup.sh build|test|bench" ;;
esac
# shellcheck disable=SC2086 # a list of words
need_packages $packages
need_duckdb
[ "$level" != test ] || need_pgbench
echo "setup: everything for '$level' is there"
