#!/bin/sh
# Twenty epochs, each followed by a checkpoint. An earlier attempt's checkpoint is gone on with. The first attempt stays
# in its fifteenth epoch, of which there is no checkpoint yet, until it is ended.
trial_idx=$1 tracker_base=$2 checkpoint_dir=$3 folder=$4
mkdir -p "$checkpoint_dir" "$tracker_base"
epoch=$(cat "$checkpoint_dir/epoch" 2>/dev/null || echo 0)
while [ "$epoch" -lt 20 ]; do
    epoch=$((epoch + 1))
    echo "$epoch" >> "$folder/epochs"
    [ "$epoch" = 15 ] && [ ! -e "$folder/gate" ] && exec sleep 600
    echo "$epoch" > "$checkpoint_dir/.epoch"
    mv "$checkpoint_dir/.epoch" "$checkpoint_dir/epoch"
done
echo "$AXTX_ATTEMPT $AXTX_CHECKPOINT_DIR" > "$folder/told"
printf '{"loss": 0.5}' > "$tracker_base/.result"
mv "$tracker_base/.result" "$tracker_base/$trial_idx"
