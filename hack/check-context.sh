#!/usr/bin/env bash
# Fails if what .dockerignore lets through is no workspace: cargo reads the manifest of every member,
# also of those that the image does not need, and refuses one whose programs are not there.
#
# The file is a list of what is let through, path by path: everything is shut out first.

source "$(dirname "$0")/lib.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mapfile -t patterns < <(grep -v -e '^#' -e '^$' .dockerignore)
[[ ${patterns[0]} == '*' ]] || fail ".dockerignore: the first pattern must be \`*\`"
for pattern in "${patterns[@]:1}"; do
  [[ $pattern == '!'* && $pattern != *[*?[]* ]] || fail ".dockerignore: \`$pattern\` is no path to let through"
  [[ -e ${pattern#!} ]] || fail ".dockerignore: there is no \`${pattern#!}\`"
  cp --recursive --parents "${pattern#!}" "$folder"
done
# Not `cargo metadata`, which passes over a program that is missing; and there is nothing to fetch.
cargo fetch --offline --locked --target "$WATCHWORD_HOST" --manifest-path "$folder/Cargo.toml" ||
  fail "the image cannot be built from what .dockerignore lets through"
echo "what .dockerignore lets through is a workspace"
