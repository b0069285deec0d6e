#!/bin/sh
# The app of the contract suite: app.sh FOLDER KEY REPLICA MODE VALUE...
# Notes its values and that it started, then waits for FOLDER/KEY.release, whose content is its exit code.
folder=$1 key=$2 replica=$3 mode=$4
shift 4
trap 'exit 143' TERM # the first process of a container ignores what it does not handle
[ "$mode" = stubborn ] && trap '' TERM
printf '%s\0' "$@" >"$folder/$key.$replica.values"
echo "out of $replica"
echo "err of $replica" >&2
echo >>"$folder/$key.$replica.started"
[ "$mode" = sleep ] && exec sleep 600
[ "$mode" = now ] && exit 0
until [ -e "$folder/$key.release" ]; do sleep 0.1; done
exit "$(cat "$folder/$key.release")"
