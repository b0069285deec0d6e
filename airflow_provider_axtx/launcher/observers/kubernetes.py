"""Observers of Kubernetes: jobs of Volcano and of the multi-cluster app dispatcher (MCAD)."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torchx.schedulers.api import DescribeAppResponse
from torchx.specs import AppState
from torchx.util.strings import normalize_str

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.launcher.kubernetes import KEY_LABEL
from airflow_provider_axtx.launcher.log_sources import LogSource, TimedLog
from airflow_provider_axtx.launcher.lookup import known_kube_context
from airflow_provider_axtx.launcher.observers.base import Observer, first_found, replicas_of, says_unknown, seconds_of

_REQUEST_TIMEOUT_SECONDS = 30
_CLOCK_DIFFERENCE_SECONDS = 120
_CHUNK_BYTES = 64 * 1024
_NO_STATUS = "the job has no status yet"


class _KubernetesObserver(Observer):
    """Jobs that are custom resources."""

    _GROUP, _VERSION, _PLURAL = "batch.volcano.sh", "v1alpha1", "jobs"

    def find(self, submission_key: str) -> str | None:
        """Return the job that has the key as its label.

        TorchX's ``list`` reads only the kubeconfig's namespace, not that of the submission, and fails while any job
        there has no status yet.
        """
        from kubernetes import client

        namespace = self.options.get("namespace") or "default"
        jobs = client.CustomObjectsApi(self._client).list_namespaced_custom_object(
            *(self._GROUP, self._VERSION, namespace, self._PLURAL),
            label_selector=f"{KEY_LABEL}={submission_key}",
            _request_timeout=_REQUEST_TIMEOUT_SECONDS,
        )
        app_ids = sorted(f"{namespace}:{job['metadata']['name']}" for job in jobs["items"])
        return first_found(app_ids, submission_key, self.name)

    @functools.cached_property
    def _client(self) -> Any:
        from kubernetes import client, config

        configuration = client.Configuration()
        context = known_kube_context(self.options.get("context"))
        config.load_kube_config(context=context, client_configuration=configuration)
        return client.ApiClient(configuration)

    def _read(self, answer: DescribeAppResponse | None) -> AppObservation:
        if answer is not None and answer.state == AppState.UNKNOWN:
            # It exists, or TorchX would have raised "not found".
            return AppObservation("PENDING", _NO_STATUS)
        return super()._read(answer)


class KubernetesObserver(_KubernetesObserver):
    """Volcano jobs. TorchX reads the same status of a job, and returns neither its times nor its message."""

    def _look(self, app_id: str) -> AppObservation:
        from kubernetes import client
        from torchx.schedulers.kubernetes_scheduler import JOB_STATE

        namespace, _, name = app_id.partition(":")
        try:
            job = client.CustomObjectsApi(self._client).get_namespaced_custom_object_status(
                *(self._GROUP, self._VERSION, namespace, self._PLURAL, name), _request_timeout=_REQUEST_TIMEOUT_SECONDS
            )
        except client.ApiException as error:
            if says_unknown(error):
                return UNSEEN
            raise
        status = job.get("status") or {}
        phase = (status.get("state") or {}).get("phase")
        if not phase:
            return AppObservation("PENDING", _NO_STATUS)
        if phase not in JOB_STATE:
            # A phase that this version does not know must never end a trial.
            return AppObservation("PENDING", f"unknown phase {phase!r} of the job")
        state = JOB_STATE[phase]
        if state == AppState.UNKNOWN:
            return AppObservation("PENDING", f"the job is in phase {phase}")
        told = AppObservation(state.name, str(status["state"].get("message") or ""))
        return replace(told, started_at=_started_at(status), ended_at=_ended_at(status) if told.is_terminal else None)

    def logs(self, app_id: str) -> list[LogSource]:
        """Return the output of each pod. TorchX would read all of it, from the beginning, at each look."""
        namespace, _, name = app_id.partition(":")
        pods = [
            (f"{role}/{replica}", normalize_str(f"{name}-{role}-{replica}-0"))
            for role, replica in replicas_of(self.scheduler.describe(app_id))
        ]
        return [TimedLog(label, functools.partial(self._output, namespace, pod)) for label, pod in pods]

    def _output(self, namespace: str, pod: str, since: int, count: int | None) -> Iterable[bytes]:
        from kubernetes import client

        options = {} if count is None else {"tail_lines": count}
        if since >= 10**9:
            # In seconds before now, by the server's clock, which may differ from ours.
            options["since_seconds"] = max(1, int(time.time() - since / 10**9) + _CLOCK_DIFFERENCE_SECONDS)
        answer = client.CoreV1Api(self._client).read_namespaced_pod_log(
            *(pod, namespace),
            timestamps=True,
            _preload_content=False,
            _request_timeout=_REQUEST_TIMEOUT_SECONDS,
            **options,
        )
        chunks: Iterable[bytes] = answer.stream(_CHUNK_BYTES)
        return chunks


class KubernetesMCADObserver(_KubernetesObserver):
    """AppWrappers of the multi-cluster app dispatcher."""

    _GROUP, _VERSION, _PLURAL = "workload.codeflare.dev", "v1beta1", "appwrappers"


def _started_at(status: Mapping[str, Any]) -> float | None:
    """Return when the job became Running; Volcano keeps the time of each phase as a condition."""
    conditions = status.get("conditions") or ()
    began = [seconds_of(c.get("lastTransitionTime")) for c in conditions if c.get("status") == "Running"]
    if not began and status["state"]["phase"] == "Running":
        began = [seconds_of(status["state"].get("lastTransitionTime"))]
    return min((at for at in began if at is not None), default=None)


def _ended_at(status: Mapping[str, Any]) -> float | None:
    return seconds_of(status["state"].get("lastTransitionTime"))
