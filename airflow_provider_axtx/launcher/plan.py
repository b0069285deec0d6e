"""What is going to be submitted, as data that can be read, printed and submitted once."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torchx.specs import AppDef, AppDryRunInfo, Role

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.tracker_url import split_connection

_MAX_COMMAND = 300


@dataclass(frozen=True)
class PlanResources:
    """What an app asks for, summed over all replicas of all roles. A resource that a role leaves open counts as 0.

    :param cpu: cores.
    :param gpu: GPUs.
    :param memMB: memory in MB.
    :param replicas: number of replicas.
    """

    cpu: int
    gpu: int
    memMB: int
    replicas: int


@dataclass(frozen=True)
class SubmissionPlan:
    """One planned submission. Its text shows names of environment variables only, never their values.

    :param submission_key: the app's name.
    :param scheduler: the scheduler's name.
    :param component: the component's name.
    :param resources: what the app asks for.
    :param summary: one line for each role.
    :param dryrun: TorchX's request.
    """

    submission_key: str
    scheduler: str
    component: str
    resources: PlanResources
    summary: tuple[str, ...]
    dryrun: AppDryRunInfo[Any] = field(repr=False)

    def __str__(self) -> str:
        return "\n".join([f"{self.submission_key} on {self.scheduler}, component {self.component}", *self.summary])


def make_plan(
    component: str, app: AppDef, scheduler: str, submission_key: str, dryrun: AppDryRunInfo[Any]
) -> SubmissionPlan:
    """Return the plan for a dry run."""
    return SubmissionPlan(
        submission_key=submission_key,
        scheduler=scheduler,
        component=component,
        resources=_resources(app),
        summary=tuple(map(_summary, app.roles)),
        dryrun=dryrun,
    )


def add_variables(app: AppDef, variables: Mapping[str, str]) -> None:
    """Set environment variables in every role; one that the component has set itself stays.

    :param app: the app; changed.
    """
    for role in app.roles:
        # TorchX reads a role's environment as templates.
        role.env = {**{name: value.replace("$", "$$") for name, value in variables.items()}, **role.env}


def _resources(app: AppDef) -> PlanResources:
    def total(name: str) -> int:
        return sum(max(0, getattr(role.resource, name)) * role.num_replicas for role in app.roles)

    return PlanResources(total("cpu"), total("gpu"), total("memMB"), sum(role.num_replicas for role in app.roles))


def _summary(role: Role) -> str:
    command = shlex.join([role.entrypoint, *role.args])
    command = command if len(command) <= _MAX_COMMAND else f"{command[:_MAX_COMMAND]}..."
    resource = role.resource
    asks = ", ".join(f"{n} {v}" for n in ("cpu", "gpu", "memMB") if (v := getattr(resource, n)) > 0)
    return (
        f"  {role.name} x {role.num_replicas} ({asks or 'no resources named'}), image {role.image}: {command}; "
        f"env: {', '.join(sorted(role.env)) or 'none'}"
    )


def address_for_app(tracker_base: object) -> str:
    """Return a tracker base as the app gets it: without the Airflow connection that it may name.

    A relative path is refused: the app runs in another working directory than the task that reads its results.

    :raises InvalidInputError: it is not an absolute path or a URL.
    """
    if not isinstance(tracker_base, str) or not ("://" in tracker_base or tracker_base.startswith("/")):
        raise InvalidInputError(
            f"tracker_base must be an absolute path or a URL, not {tracker_base!r}.",
            fix="for example /shared/trackers or s3://bucket/trackers.",
        )
    return split_connection(tracker_base)[1]
