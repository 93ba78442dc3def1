#!/usr/bin/env bash
# Builds the image of the Dockerfile around the programs that are there, and looks at what it is: the
# two programs, nothing else, and a user that is not root. The stage that compiles starts from an
# image of a registry, and is not built here.

source "$(dirname "$0")/lib.sh"
command -v buildah >/dev/null || fail "\`buildah\` is not installed"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# In a mount namespace of its own, so that no mount is left.
unshare --mount bash -euo pipefail -s "$folder" "$programs" <<'END'
folder=$1 programs=$2
buildah() { command buildah --root "$folder/root" --runroot "$folder/run" --storage-driver vfs "$@"; }
buildah bud --quiet --isolation chroot --target prebuilt --tag watchword --file Dockerfile "$programs" >/dev/null
buildah inspect --type image --format '{{.OCIv1.Config.User}}' watchword >"$folder/user"
mounted=$(buildah mount "$(buildah from --pull-never watchword)")
(cd "$mounted" && find . -mindepth 1 -printf '%P %m %U\n' | sort) >"$folder/files"
END

[[ $(<"$folder/user") == 65532:65532 ]] || fail "the image runs as \`$(<"$folder/user")\`, not as 65532:65532"
expected=$'agent 755 0\nwatchword-controller 755 0'
[[ $(<"$folder/files") == "$expected" ]] || fail "the image holds, with modes and owners: $(<"$folder/files")"
echo "the image holds the two programs and runs as 65532:65532"
