#!/usr/bin/env bash
# The demo's whole workflow on a node of its own; then the model and the predictions that it left in
# the database against a forward pass in double precision (mnist_check.c).
#   mnist_check.sh folder-of-the-programs [drawn]
# On real MNIST where MNIST_DIR or ../shared/data/mnist has it, else, or with "drawn", on digits that
# the demo draws.
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"
command -v psql >/dev/null || skip "there is no psql here"
mnist=${MNIST_DIR:-../shared/data/mnist}
data=drawn
if [ "${2:-}" = drawn ]; then
    repeat="$repeat drawn"
elif [ -r "$mnist/t10k-images-idx3-ubyte.gz" ] || [ -r "$mnist/t10k-images-idx3-ubyte" ]; then
    data=mnist
fi

# plain NAME: the file of MNIST, not compressed; prints where.
plain() {
    if [ -r "$mnist/$1.gz" ]; then
        gzip -dc "$mnist/$1.gz" >"$dir/$1"
        echo "$dir/$1"
    else
        echo "$mnist/$1"
    fi
}

node_start
psql -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U loader -d dbos -f procs/examples/mnist.sql
if [ "$data" = mnist ]; then
    "$bin/dbos-demo" --port "$port" --mnist "$mnist" | tail -n 1
    check=(mnist "$(plain t10k-images-idx3-ubyte)" "$(plain t10k-labels-idx1-ubyte)")
else
    [ "${2:-}" = drawn ] || echo "there is no MNIST in $mnist"
    "$bin/dbos-demo" --port "$port" | tail -n 1
    check=(drawn)
fi
"$bin/mnist_check" "$port" "${check[@]}"

# The check must notice when one prediction in fifty is another.
psql -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U loader -d dbos \
    -c "UPDATE predictions SET label = (label + 1) % 10 WHERE id % 50 = 0"
! "$bin/mnist_check" "$port" "${check[@]}" >"$dir/got" 2>&1 || fail "planted errors are not found"
grep -q "predictions are those of the double-precision pass" "$dir/got" || fail "$(cat "$dir/got")"
echo "planted errors are found: $(tail -n 1 "$dir/got")"
node_stop

# The calls of the demo (large values, tasks, a model that is stored) do the same again.
"$bin/dbosctl" replay "$dir/node" >"$dir/got" || fail "$(cat "$dir/got")"
echo "run again: $(tail -n 1 "$dir/got")"
