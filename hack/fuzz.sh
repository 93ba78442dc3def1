#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET…]]: runs each fuzz target for some seconds from its corpus, several at once.
#
# The engine is libFuzzer, which is guided by coverage. cargo-fuzz asks for a nightly compiler, but
# what it adds is flags: the pass that counts edges is in the stable one. What the targets found worth
# keeping stays in the cache and is where the next run begins; an input that breaks something is left
# there with the command that repeats it.

source "$(dirname "$0")/lib.sh"
seconds=${1:-60}
shift || true

workspace=controller/fuzz
folder=$WATCHWORD_CACHE/fuzz
built=$folder/target/$WATCHWORD_HOST/debug
mkdir -p "$folder"/{crashes,corpus,logs}

# The versions that we ship; only libFuzzer itself is added.
[[ $workspace/Cargo.lock -nt Cargo.lock ]] || cp Cargo.lock $workspace/Cargo.lock

variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$WATCHWORD_HOST")_RUSTFLAGS
env "$variable=--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
  cargo build --manifest-path $workspace/Cargo.toml --workspace --bins \
  --target "$WATCHWORD_HOST" --target-dir "$folder/target"

# run TARGET FOLDER: fuzzes, and says in one line how it went.
run() {
  local target=$1 seeds=$2 log=$folder/logs/$1.log crashes=$folder/crashes/$1
  mkdir -p "$crashes" "$folder/corpus/$target"
  rm -f "$crashes"/*
  if ! "$built/$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$crashes/" "$folder/corpus/$target" "$seeds" &>"$log"; then
    grep -m 5 -E 'panicked|ERROR: libFuzzer|^[^ ].*: ' <(grep -A 3 -m 1 'panicked' "$log"; grep 'ERROR' "$log") >&2 || true
    tail -n 30 "$log" >&2
    printf '%serror:%s %s broke; repeat it by: %s %s\n' "$red" "$plain" "$target" "$built/$target" \
      "$(find "$crashes" -type f | head -n 1)" >&2
    return 1
  fi
  awk -v target="$target" '
    /inline 8-bit counters/ {gsub(/[()]/, ""); for (i = 1; i < NF; i++) if ($(i + 1) == "inline") counters = $i}
    /INITED/ {match($0, /cov: [0-9]+/); first = substr($0, RSTART + 5, RLENGTH - 5)}
    /DONE/ {match($0, /cov: [0-9]+/); last = substr($0, RSTART + 5, RLENGTH - 5)
            match($0, /corp: [0-9]+/); kept = substr($0, RSTART + 6, RLENGTH - 6)}
    /number_of_executed_units/ {runs = $2}
    END {
      printf "%-20s %9d runs, %5d edges reached (%5d at first), %4d inputs kept\n", target, runs, last, first, kept
      # Blind, it would pass for ever.
      exit !(counters && last)
    }' "$log"
}

targets=()
for manifest in controller/*/fuzz/Cargo.toml $workspace/Cargo.toml; do
  while read -r target; do
    seeds=$(dirname "$manifest")/corpus/${target#*_}
    [[ -d $seeds ]] || fail "$target has no corpus: $seeds"
    [[ $# -eq 0 || " $* " == *" $target "* ]] && targets+=("$target $seeds")
  done < <(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$manifest")
done

status=0
for entry in "${targets[@]}"; do
  while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n || status=1; done
  # shellcheck disable=SC2086 # a name and a folder
  run $entry &
done
while (($(jobs -p | wc -l))); do wait -n || status=1; jobs >/dev/null; done
((status == 0)) || fail 'a fuzz target broke something'
