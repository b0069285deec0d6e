#!/usr/bin/env bash
# Stops what docker_up.sh started, with its containers, and removes its state (--keep: keeps it).
set -uo pipefail
D=${AXTX_DOCKER_DIR:?set AXTX_DOCKER_DIR to the folder that holds the engine}
api() { curl -fsS --max-time 30 --unix-socket "$D/docker.sock" "$@"; }

p=$(cat "$D/dockerd.pid" 2>/dev/null || true)
if [ -n "$p" ] && [ "$(cat "/proc/$p/comm" 2>/dev/null)" = dockerd ]; then
    # With --live-restore containers would outlive it.
    for id in $(api 'http://docker/containers/json?all=1' | grep -oE '"Id":"[0-9a-f]{64}"' | cut -d'"' -f4); do
        api -X DELETE "http://docker/containers/$id?force=1&v=1"
    done
    api -X DELETE http://docker/networks/torchx 2>/dev/null
    kill -TERM "$p"
    for _ in $(seq 150); do [ "$(cat "/proc/$p/comm" 2>/dev/null)" = dockerd ] || break; sleep 0.1; done
fi
# containerd outlives a dockerd that was killed, or that keeps containers alive
c=$(cat "$D/exec/containerd/containerd.pid" 2>/dev/null || true)
if [ -n "$c" ] && [ "$(cat "/proc/$c/comm" 2>/dev/null)" = containerd ]; then
    kill -TERM "$c"
    for _ in $(seq 100); do [ -e "/proc/$c" ] || break; sleep 0.1; done
fi
if [ "${1:-}" != --keep ]; then
    for m in $(awk -v d="$D/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r); do umount "$m"; done
    rm -rf "$D"
fi
echo "docker_down: stopped" >&2
