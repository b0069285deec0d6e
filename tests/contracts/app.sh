#!/bin/sh
# The app of the contract suite: app.sh FOLDER KEY REPLICA MODE VALUE...
# Notes its values and that it started, then waits for FOLDER/KEY.release, whose content is its exit code.
# In mode "trial" its values are TRACKER_BASE INDEX X, and it reports: three steps once there is FOLDER/KEY.plateau, and
# X as the trial's result when its exit code is 0.
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

report() { # FILE VALUE; complete once it is visible
	printf '{"loss": %s}' "$2" >"$tracker/.report" && mv "$tracker/.report" "$tracker/$1"
}
[ "$mode" = trial ] && tracker=$1 index=$2 x=$3 && mkdir -p "$tracker"
until [ -e "$folder/$key.release" ]; do
	if [ "$mode" = trial ] && [ -e "$folder/$key.plateau" ] && [ ! -e "$tracker/$index.steps" ]; then
		mkdir "$tracker/$index.steps"
		for step in 0 1 2; do report "$index.steps/$step" 50; done
	fi
	sleep 0.1
done
code=$(cat "$folder/$key.release")
[ "$mode" = trial ] && [ "$code" = 0 ] && report "$index" "$x"
exit "$code"
