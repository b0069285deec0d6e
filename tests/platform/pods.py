"""An Airflow executor that gives each task what a Kubernetes pod gives it, without a control plane.

A task is a fresh Python process, started with the command of Airflow's executor for Kubernetes, with a root, a hostname
and processes of its own. It sees the image (this machine's files) and ``AXTX_TEST_RESULTS``, which stands for an object
store, and nothing that another task or host writes. When a pod ends, all its processes and files are gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from airflow.executors.base_executor import BaseExecutor

#: What is kept of a pod, and what its processes must not see.
RESULTS, HIDDEN = "AXTX_TEST_RESULTS", "AXTX_TEST_HIDDEN"
#: Makes the root, then does what the init process of Airflow's image does: passes SIGTERM on, and waits.
_POD = """set -e
hostname "$1"
new=$(mktemp -d "$AXTX_TEST_HIDDEN/pod-XXXXXX")
mount -t tmpfs tmpfs "$new"
mkdir "$new/upper" "$new/work" "$new/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$new/upper,workdir=$new/work" "$new/tree"
mount -t proc proc "$new/tree/proc"
mount --rbind /dev "$new/tree/dev"
mount -t tmpfs tmpfs "$new/tree$AXTX_TEST_HIDDEN"
mkdir -p "$new/tree$AIRFLOW_HOME"
mount --bind "$AXTX_TEST_RESULTS" "$new/tree$AXTX_TEST_RESULTS"
set +e
chroot "$new/tree" "${@:2}" &
trap 'kill -TERM $!' TERM
code=129
while [ $code -gt 128 ] && kill -0 $!; do
    wait $!
    code=$?
done 2>/dev/null
exit $code"""


class PodExecutor(BaseExecutor):
    """Runs each task in a pod."""

    def start(self) -> None:
        """Begin without a pod."""
        self._pods: dict[Any, subprocess.Popen[bytes]] = {}

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        for workload in workload_list:
            self.queued_tasks.pop(workload.key)
            self.running.add(workload.key)
            self._pods[workload.key] = _start_pod(workload)

    def sync(self) -> None:
        """Report the pods that have ended."""
        for key, pod in list(self._pods.items()):
            if (code := pod.poll()) is not None:
                del self._pods[key]
                self.success(key) if code == 0 else self.fail(key, info=f"the pod ended with exit code {code}")

    def end(self) -> None:
        """Leave the pods: they outlive a scheduler."""

    def terminate(self) -> None:
        """Leave the pods."""


def _start_pod(workload: Any) -> subprocess.Popen[bytes]:
    name = f"pod-{workload.ti.id}"
    spaces = ["unshare", "--fork", "--pid", "--kill-child", "--mount-proc", "--uts", "--mount"]
    command = [sys.executable, "-m", "airflow.sdk.execution_time.execute_workload", "--json-string"]
    return subprocess.Popen(
        [*spaces, "bash", "-c", _POD, "bash", name, *command, workload.model_dump_json()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ},
    )
