#!/usr/bin/env bash
# The demo: start a node with nothing configured, run the image workflow on it, stop it.
#   MNIST_DIR=dir  where the four MNIST files are (default: ../shared/data/mnist, else drawn digits)
#   KEEP=1         leave the node up and print how to connect
#   BENCH=1        classify 1, 10, 100, 1,000 times and print a line for each
#   DEMO_DATA=dir  data directory (default: a temporary one, removed at the end)
set -eu
cd "$(dirname "$0")/.."
bin=build/bin
mnist=${MNIST_DIR:-../shared/data/mnist}
data=${DEMO_DATA:-$(mktemp -d "${TMPDIR:-/tmp}/dbosd-demo.XXXXXX")}
log=$data/dbosd.log
mkdir -p "$data"

"$bin/dbosd" --data-dir "$data/node" --port 0 ${DBOSD_OPTIONS:-} >"$data/ready" 2>"$log" &
pid=$!
node=$pid
stop() {
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    [ -n "${DEMO_DATA:-}" ] || rm -rf "$data"
}
trap stop EXIT
port=
for _ in $(seq 300); do
    port=$(sed -n 's/.*ready.*port=\([0-9]*\).*/\1/p' "$data/ready")
    [ -n "$port" ] && break
    kill -0 "$pid" 2>/dev/null || { echo "dbosd did not start:" >&2; cat "$log" >&2; exit 1; }
    sleep 0.1
done
[ -n "$port" ] || { echo "dbosd was not ready within 30 s; its log is $log" >&2; exit 1; }
echo "dbosd is ready on port $port"

psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U loader -d dbos -f procs/examples/mnist.sql
options=()
[ -r "$mnist/train-images-idx3-ubyte.gz" ] || [ -r "$mnist/train-images-idx3-ubyte" ] &&
    options+=(--mnist "$mnist")
[ -n "${BENCH:-}" ] && options+=(--bench)
"$bin/dbos-demo" --port "$port" "${options[@]}"

if [ -n "${KEEP:-}" ]; then
    pid=
    trap - EXIT
    echo
    echo "The node stays up. Connect with:"
    echo "  psql -h 127.0.0.1 -p $port -U $(id -un) -d dbos"
    echo "Stop it with:  kill $node; its data is in $data"
fi
