#!/bin/bash
# `make demo` and `make test` where nothing is installed: a bare Debian 12 root with only make and git.
# By hand, as root, with debootstrap; not part of `make test`.
#   tests/acceptance/debootstrap.sh [--shared DIR] [--keep] [COMMAND...]
# COMMAND is run by bash in a fresh clone of HEAD inside the root; default: make demo && make test.
# --shared DIR is seen, read-only, beside the clone (the demo looks there for MNIST). --keep leaves the
# root behind and says where. The package mirror and npm's settings are this machine's, read when run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repository=$PWD
shared=
keep=
while [ $# -gt 0 ]; do
    case "$1" in
    --shared) shared=$(realpath "$2") && shift 2 ;;
    --keep) keep=1 && shift ;;
    *) break ;;
    esac
done
command=${*:-make demo && make test}

fail() {
    echo "debootstrap.sh: $*" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || fail "must be root"
command -v debootstrap >/dev/null || fail "missing: debootstrap"

mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' | head -n 1)
[ -n "$mirror" ] || fail "no package mirror in this machine's apt configuration"

root=$(mktemp -d "${TMPDIR:-/tmp}/dbos-bare-XXXXXX")
clean_up() {
    if [ -n "$keep" ]; then
        echo "debootstrap.sh: the root is left in $root"
    else
        rm -rf --one-file-system "$root"
    fi
}
trap clean_up EXIT
echo "== debootstrap into $root"
chmod 755 "$root"
debootstrap --variant=minbase --include=make,git bookworm "$root" "$mirror" \
    >"$root.log" 2>&1 || { tail -n 20 "$root.log" && fail "debootstrap failed"; }
rm -f "$root.log"

# copy FILE...: to the same place in the root, where it exists here.
copy() {
    local file
    for file in "$@"; do
        if [ -e "$file" ]; then
            mkdir -p "$root$(dirname "$file")"
            cp -aL "$file" "$root$(dirname "$file")/"
        fi
    done
}
# How this machine reaches its package mirror and npm's: sources, proxies, names, certificates.
rm -f "$root/etc/apt/sources.list"
copy /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf /etc/apt/auth.conf.d \
    /etc/resolv.conf /etc/hosts /etc/npmrc
{ grep -liE 'proxy|verify|https' /etc/apt/apt.conf.d/* 2>/dev/null || true; } |
    while read -r file; do copy "$file"; done
if [ -e "${HOME:-/root}/.npmrc" ]; then
    cp -L "${HOME:-/root}/.npmrc" "$root/root/.npmrc"
fi
environment=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    LANG=C.UTF-8 CI=true)
while IFS= read -r -d '' variable; do
    environment+=("$variable")
done < <(env -0 |
    grep -zaiE '^(npm_config_|(https?|no|all)_proxy=|(node_extra_ca_certs|ssl_cert_file)=)' || true)
# Certificates that those settings name, under names that no package of the root overwrites.
adopt() { # adopt FILE: prints its path in the root
    mkdir -p "$root/etc/host-certificates"
    cp -L "$1" "$root/etc/host-certificates/"
    echo "/etc/host-certificates/$(basename "$1")"
}
for settings in "$root/root/.npmrc" "$root/etc/npmrc"; do
    file=$({ cat "$settings" 2>/dev/null || true; } | sed -nE 's/^ *cafile *= *//p')
    if [ -n "$file" ] && [ -e "$file" ]; then
        sed -i -E "s|^ *cafile *=.*|cafile=$(adopt "$file")|" "$settings"
    fi
done
for i in "${!environment[@]}"; do
    name=${environment[$i]%%=*}
    value=${environment[$i]#*=}
    case "$name" in
    *[cC][aA][fF][iI][lL][eE] | NODE_EXTRA_CA_CERTS | SSL_CERT_FILE)
        [ ! -e "$value" ] || environment[i]="$name=$(adopt "$value")"
        ;;
    esac
done

mkdir -p "$root/work"
git clone -q --no-hardlinks "$repository" "$root/srv/dbosd"
[ -z "$shared" ] || mkdir -p "$root/srv/shared"

echo "== in the root: $command"
# The mounts live in a namespace of their own: they vanish with the command, however it ends.
unshare --mount --propagation private bash -ec '
    root=$1 shared=$2 command=$3
    shift 3
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    [ -z "$shared" ] || mount --bind -o ro "$shared" "$root/srv/shared"
    exec chroot "$root" env -i "$@" bash -c "cd /srv/dbosd && $command" </dev/null
' - "$root" "$shared" "$command" "${environment[@]}"
echo "== succeeded: $command"
