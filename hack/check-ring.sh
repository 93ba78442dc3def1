#!/usr/bin/env bash
# Fails if the crate ring is anywhere in the tree: it would be a second TLS provider, without the
# post-quantum key exchange, and rustls could not choose between the two by itself.

source "$(dirname "$0")/lib.sh"
if tree=$(cargo tree --locked --workspace --all-features --target all --invert ring 2>"$logs/ring.log"); then
  [[ -z $tree ]] || { echo "$tree" >&2; fail "ring is in the tree"; }
else
  grep -q 'did not match any packages' "$logs/ring.log" || { cat "$logs/ring.log" >&2; exit 1; }
fi
echo "ring is not in the tree"
