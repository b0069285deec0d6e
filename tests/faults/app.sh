#!/bin/sh
# The app of the fault tests: says that it has started, does what its trial's mode wants, reports its parameter.
x=$1 trial_idx=$2 tracker_base=$3 folder=$4 mode=$5
# A process that leaves the app's session and outlives its script.
[ "$mode" = escape ] && setsid sleep 600 &
mkdir -p "$AXTX_CHECKPOINT_DIR"
echo "$AXTX_ATTEMPT" >> "$AXTX_CHECKPOINT_DIR/attempts"
echo "$(basename "$tracker_base") $$" >> "$folder/starts"
[ "$mode" = sleep ] && exec sleep 600
while [ ! -e "$folder/gate" ]; do sleep 0.02; done
[ "$mode" = fail ] && exit 3
mkdir -p "$tracker_base"
[ "$mode" = silent ] && exit 0
printf '{"loss": %s}' "$x" > "$tracker_base/.result"
mv "$tracker_base/.result" "$tracker_base/$trial_idx"
