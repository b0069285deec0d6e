"""What any process needs to reach an app again; it is recorded with the attempt.

A scheduler's options mostly concern submissions, and some hold secrets (``env`` of Docker). So only the options listed
here are recorded, and with them what the submitting process took from its environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from torchx.schedulers.api import Scheduler

from airflow_provider_axtx.launcher.local_detached import local_root
from airflow_provider_axtx.launcher.local_detached.app_dir import this_host

#: Called with the session's name.
SchedulerFactory = Callable[..., Scheduler]

_OPTIONS: dict[str, tuple[str, ...]] = {
    "local_detached": (),
    "local_docker": (),
    "slurm": ("job_dir",),
    "kubernetes": ("namespace",),
    "kubernetes_mcad": ("namespace",),
    "aws_batch": ("queue",),
    "gcp_batch": ("project", "location"),
    "ray": ("dashboard_address", "cluster_name"),
    "lsf": ("jobdir",),
}
_SECRET = re.compile(r"token|secret|password|passwd|credential|key|auth", re.IGNORECASE)


def lookup_options(name: str, scheduler: Scheduler, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reaches an app that is submitted with these options, as a JSON object.

    For a scheduler that is not listed here these are its required options, except those whose name suggests a secret.

    :param name: the scheduler's name.
    :param options: its options, checked.
    :raises SchedulerUnavailableError: the folder of ``local_detached`` cannot be written.
    """
    declared = dict(scheduler.run_opts())
    wanted = _OPTIONS.get(name)
    if wanted is None:
        wanted = tuple(o for o, rule in declared.items() if rule.is_required and not _SECRET.search(o))
    found = {option: options.get(option) for option in wanted}
    found = {o: declared[o].default if v is None and o in declared else v for o, v in found.items()}
    surroundings = _SURROUNDINGS.get(name, lambda _: {})(scheduler)
    return {**{o: v for o, v in found.items() if isinstance(v, str | int | float | bool)}, **surroundings}


def connection_place(name: str, recorded: Mapping[str, Any]) -> str | None:
    """Return the place to which a scheduler has to be connected to reach an app, or None if it need not be.

    :param recorded: what ``lookup_options`` returned at the submission.
    """
    place = recorded.get(_CONNECT[name][0]) if name in _CONNECT else None
    return place if isinstance(place, str) else None


def connecting_factories(name: str, place: str) -> dict[str, SchedulerFactory]:
    """Return the factory that connects a scheduler to a place."""
    connect = _CONNECT[name][1]
    return {name: lambda session, **_: connect(session, place)}


def check_docker_host(recorded: Mapping[str, Any]) -> None:
    """Check that an app on a Docker engine behind a local socket belongs to this host.

    :raises AppElsewhereError: it belongs to another host.
    """
    if recorded.get("host") and not local_root.is_this_host(recorded):
        local_root.check_host("container", recorded, "it was submitted to that host's own Docker engine")


def host_of(recorded: Mapping[str, Any]) -> str | None:
    """Return the host whose processes the apps are, or None where they belong to a cluster."""
    host = recorded.get("host")
    return host if isinstance(host, str) else None


def current_kube_context() -> str | None:
    """Return the name of the kubeconfig's current context, or None without a kubeconfig."""
    from kubernetes import config

    try:
        return str(config.list_kube_config_contexts()[1]["name"])
    except config.ConfigException:
        return None


def known_kube_context(name: object) -> str | None:
    """Return ``name`` if the kubeconfig of this machine has such a context, else None: then its current one is used.

    Machines may have different names for one cluster.
    """
    from kubernetes import config

    if not isinstance(name, str):
        return None
    try:
        names = {context["name"] for context in config.list_kube_config_contexts()[0]}
    except config.ConfigException:
        # `kubectl config use-context` empties the file before it writes it. An app was once looked for in the cluster
        # that such a command had just chosen. With a name, the client that follows finds its context or fails.
        return name
    return name if name in names else None


def _local_place(scheduler: Scheduler) -> dict[str, Any]:
    return dict(local_root.place(scheduler.root))


def _docker_place(_: Scheduler) -> dict[str, Any]:
    address = os.environ.get("DOCKER_HOST", "")
    if address and not address.startswith("unix:"):
        return {"docker_host": address}
    return {**({"docker_host": address} if address else {}), **this_host()}


def _kube_place(_: Scheduler) -> dict[str, Any]:
    context = current_kube_context()
    return {"context": context} if context else {}


def _aws_place(_: Scheduler) -> dict[str, Any]:
    import boto3

    region = boto3.Session().region_name
    return {"region": region} if region else {}


_SURROUNDINGS: dict[str, Callable[[Scheduler], dict[str, Any]]] = {
    "local_detached": _local_place,
    "local_docker": _docker_place,
    "kubernetes": _kube_place,
    "kubernetes_mcad": _kube_place,
    "aws_batch": _aws_place,
}


def _local_at(session: str, root: str) -> Scheduler:
    from airflow_provider_axtx.launcher.local_detached.scheduler import create_scheduler

    return create_scheduler(session, local_root=root)


def _kube_client(context: str) -> Any:
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(context=known_kube_context(context), client_configuration=configuration)
    return client.ApiClient(configuration)


def _kubernetes_at(session: str, context: str) -> Scheduler:
    from torchx.schedulers.kubernetes_scheduler import create_scheduler

    return create_scheduler(session, client=_kube_client(context))


def _mcad_at(session: str, context: str) -> Scheduler:
    from torchx.schedulers.kubernetes_mcad_scheduler import create_scheduler

    return create_scheduler(session, client=_kube_client(context))


def _aws_at(session: str, region: str) -> Scheduler:
    import boto3
    from torchx.schedulers.aws_batch_scheduler import create_scheduler

    aws = boto3.Session(region_name=region)
    return create_scheduler(session, client=aws.client("batch"), log_client=aws.client("logs"))


#: By scheduler: the recorded name of the place, and what connects to it.
_CONNECT: dict[str, tuple[str, Callable[[str, str], Scheduler]]] = {
    "local_detached": ("local_root", _local_at),
    "kubernetes": ("context", _kubernetes_at),
    "kubernetes_mcad": ("context", _mcad_at),
    "aws_batch": ("region", _aws_at),
}
