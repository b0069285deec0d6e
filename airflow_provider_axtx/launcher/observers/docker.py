"""``local_docker``: TorchX calls an app without containers SUCCEEDED and hides exit codes and OOM kills."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.launcher.log_sources import LogSource, TimedLog
from airflow_provider_axtx.launcher.lookup import check_docker_host
from airflow_provider_axtx.launcher.observers.base import Observer, first_found, names, seconds_of, with_times_of

_TIMEOUT_SECONDS = 30
_LIVE = {"running": "RUNNING", "paused": "RUNNING", "removing": "RUNNING", "restarting": "RUNNING"}
#: A submitter that is killed between creating and starting a container leaves one that never starts.
_NEVER_STARTED_SECONDS = 300
#: Seconds between TERM and KILL, docker's own default.
_STOP_SECONDS = 10
_REPLICAS_LABEL = "axtx.replicas"
_ROLE_LABEL, _REPLICA_LABEL = "torchx.pytorch.org/role-name", "torchx.pytorch.org/replica-id"


class DockerObserver(Observer):
    """One list of all containers for all apps, and a closer look at those that do not run."""

    def observe(self, app_ids: Sequence[str]) -> dict[str, AppObservation]:
        containers = self._containers()
        return {app_id: self._observe(containers.get(app_id, [])) for app_id in app_ids}

    def find(self, submission_key: str) -> str | None:
        return first_found(
            sorted(app_id for app_id in self._containers() if names(app_id, submission_key)), submission_key, self.name
        )

    def cancel(self, app_id: str) -> None:
        """Stop all containers of an app at the same time. TorchX stops one after the other, each for up to 10 s."""
        live = [c["Id"] for c in self._containers().get(app_id, []) if c["State"] not in ("exited", "dead")]
        if live:
            with ThreadPoolExecutor(len(live), thread_name_prefix="axtx-stop") as pool:
                list(pool.map(self._stop, live))

    def logs(self, app_id: str) -> list[LogSource]:
        """Return the output of each container. TorchX would read all of it, from the beginning, at each look."""
        containers = {
            f"{c['Labels'].get(_ROLE_LABEL, '?')}/{c['Labels'].get(_REPLICA_LABEL, '?')}": c["Id"]
            for c in self._containers().get(app_id, [])
        }
        return [TimedLog(label, functools.partial(self._output, c)) for label, c in sorted(containers.items())]

    def _output(self, container: str, since: int, count: int | None) -> Iterable[bytes]:
        options = {"tail": "all" if count is None else count, "timestamps": True, "stream": True, "follow": False}
        if since >= 10**9:
            options["since"] = since // 10**9
        chunks: Iterable[bytes] = self._client.logs(container, **options)
        return chunks

    def withdraw(self, request: Any) -> None:
        """Remove the containers of a submission that failed half-way: the app would run without its other replicas."""
        from docker.errors import NotFound

        for container in self._containers().get(request.app_id, []):
            with contextlib.suppress(NotFound):
                self._client.remove_container(container["Id"], force=True)

    def _stop(self, container: str) -> None:
        from docker.errors import NotFound

        with contextlib.suppress(NotFound):
            if self._client.inspect_container(container)["State"]["Status"] == "created":
                # Stopping has no effect on it, and the process that created it could still start it.
                self._client.remove_container(container, force=True)
            else:
                self._client.stop(container, timeout=_STOP_SECONDS)

    @functools.cached_property
    def _client(self) -> Any:
        from docker import APIClient
        from docker.utils import kwargs_from_env

        environment = os.environ | ({"DOCKER_HOST": recorded} if (recorded := self.options.get("docker_host")) else {})
        return APIClient(version="auto", timeout=_TIMEOUT_SECONDS, **kwargs_from_env(environment=environment))

    def _containers(self) -> dict[str, list[dict[str, Any]]]:
        from torchx.schedulers.docker_scheduler import LABEL_APP_ID

        check_docker_host(self.options)
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for container in self._client.containers(all=True, filters={"label": LABEL_APP_ID}):
            found[container["Labels"][LABEL_APP_ID]].append(container)
        return found

    def _observe(self, containers: Sequence[dict[str, Any]]) -> AppObservation:
        parts = [part for part in map(self._replica, containers) if part is not None]
        if not parts:
            return UNSEEN
        for state in ("RUNNING", "FAILED", "PENDING"):
            for part in parts:
                if part.app_state == state:
                    return with_times_of(parts, part)
        wanted = int(containers[0]["Labels"].get(_REPLICAS_LABEL, 0))
        if len(parts) < wanted:
            missing = f"only {len(parts)} of {wanted} containers are there"
            return with_times_of(parts, AppObservation("FAILED", missing, is_infrastructure_failure=True))
        return with_times_of(parts, parts[0])

    def _replica(self, container: dict[str, Any]) -> AppObservation | None:
        if container["State"] in _LIVE:
            # Docker has no queue: a container starts when it is created. The list does not contain the exact time.
            return AppObservation(_LIVE[container["State"]], started_at=container["Created"])
        from docker.errors import NotFound

        try:
            state = self._client.inspect_container(container["Id"])["State"]
        except NotFound:
            return None  # removed since it was listed
        ended = self._not_running(container, state)
        return replace(
            ended, started_at=seconds_of(state.get("StartedAt")), ended_at=seconds_of(state.get("FinishedAt"))
        )

    @staticmethod
    def _not_running(container: dict[str, Any], state: dict[str, Any]) -> AppObservation:
        label = container.get("Names", ["?"])[0].lstrip("/")
        if state.get("OOMKilled"):
            return AppObservation("FAILED", f"{label}: out of memory (OOM-killed), exit code {state['ExitCode']}")
        if state["ExitCode"] != 0 or state.get("Error"):
            # Also a container that is only "created": its start has failed, and it will never run.
            reason = " ".join(filter(None, [f"exit code {state['ExitCode']}", state.get("Error")]))
            return AppObservation("FAILED", f"{label}: {reason}")
        if container["State"] != "created":
            return AppObservation("SUCCEEDED")
        if time.time() - container["Created"] > _NEVER_STARTED_SECONDS:
            return AppObservation("FAILED", f"{label}: was created and never started", is_infrastructure_failure=True)
        return AppObservation("PENDING")


def complete_request(request: Any) -> None:
    """Correct the containers' names, and note on each how many belong to the app.

    TorchX cuts names to the last 30 characters of the app's id; docker refuses one that then begins with a dash.

    :param request: TorchX's ``DockerJob``.
    """
    for container in request.containers:
        options = container.kwargs
        options["name"] = options["hostname"] = options["name"].lstrip("-")
        options["environment"]["TORCHX_RANK0_HOST"] = options["environment"]["TORCHX_RANK0_HOST"].lstrip("-")
        options["labels"][_REPLICAS_LABEL] = str(len(request.containers))
