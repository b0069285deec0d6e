#!/bin/sh
# The app of the kill tests: says that it has started, takes its time, reports its parameter.
x=$1 trial_idx=$2 tracker_base=$3 folder=$4 seconds=$5
echo "$(basename "$tracker_base")" >> "$folder/starts"
sleep "$seconds"
mkdir -p "$tracker_base"
printf '{"loss": %s}' "$x" > "$tracker_base/.result"
mv "$tracker_base/.result" "$tracker_base/$trial_idx"
