"""Observers of Kubernetes: jobs of Volcano and of the multi-cluster app dispatcher (MCAD)."""

from __future__ import annotations

from torchx.schedulers.api import DescribeAppResponse
from torchx.specs import AppState

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher.kubernetes import KEY_LABEL
from airflow_provider_axtx.launcher.lookup import known_kube_context
from airflow_provider_axtx.launcher.observers.base import Observer, first_found

_REQUEST_TIMEOUT_SECONDS = 30


class KubernetesObserver(Observer):
    """Volcano jobs."""

    _GROUP, _VERSION, _PLURAL = "batch.volcano.sh", "v1alpha1", "jobs"

    def find(self, submission_key: str) -> str | None:
        """Return the job that has the key as its label.

        TorchX's ``list`` reads only the kubeconfig's namespace, not that of the submission, and fails while any job
        there has no status yet.
        """
        from kubernetes import client, config

        configuration = client.Configuration()
        context = known_kube_context(self.options.get("context"))
        config.load_kube_config(context=context, client_configuration=configuration)
        namespace = self.options.get("namespace") or "default"
        with client.ApiClient(configuration) as connection:
            jobs = client.CustomObjectsApi(connection).list_namespaced_custom_object(
                *(self._GROUP, self._VERSION, namespace, self._PLURAL),
                label_selector=f"{KEY_LABEL}={submission_key}",
                _request_timeout=_REQUEST_TIMEOUT_SECONDS,
            )
        app_ids = sorted(f"{namespace}:{job['metadata']['name']}" for job in jobs["items"])
        return first_found(app_ids, submission_key, self.name)

    def _read(self, answer: DescribeAppResponse | None) -> AppObservation:
        if answer is not None and answer.state == AppState.UNKNOWN:
            # It exists, or TorchX would have raised "not found".
            return AppObservation("PENDING", "the job has no status yet")
        return super()._read(answer)


class KubernetesMCADObserver(KubernetesObserver):
    """AppWrappers of the multi-cluster app dispatcher."""

    _GROUP, _VERSION, _PLURAL = "workload.codeflare.dev", "v1beta1", "appwrappers"
