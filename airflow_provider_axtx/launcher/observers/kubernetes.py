"""Observers of Kubernetes: jobs of Volcano and of the multi-cluster app dispatcher (MCAD)."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from typing import Any

from torchx.schedulers.api import DescribeAppResponse
from torchx.specs import AppState
from torchx.util.strings import normalize_str

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher.kubernetes import KEY_LABEL
from airflow_provider_axtx.launcher.log_sources import LogSource, TimedLog
from airflow_provider_axtx.launcher.lookup import known_kube_context
from airflow_provider_axtx.launcher.observers.base import Observer, first_found, replicas_of

_REQUEST_TIMEOUT_SECONDS = 30
_CLOCK_DIFFERENCE_SECONDS = 120
_CHUNK_BYTES = 64 * 1024


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
            return AppObservation("PENDING", "the job has no status yet")
        return super()._read(answer)


class KubernetesObserver(_KubernetesObserver):
    """Volcano jobs."""

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
