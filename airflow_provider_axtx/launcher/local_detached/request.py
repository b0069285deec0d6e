"""What is submitted: TorchX's plan of a local app under the app's own name, and the checks that come first."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, Self

from torchx.schedulers.local_scheduler import PopenRequest, ReplicaParam
from torchx.specs import AppDef

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.local_detached.environment import app_environment

BACKEND = "local_detached"
#: Seconds between SIGTERM and SIGKILL, as in TorchX's own local scheduler.
DEFAULT_TERM_GRACE = 10
#: Megabytes of output that are kept of an app.
DEFAULT_LOG_LIMIT_MB = 100
#: The number of apps that may run on this host at once, for all apps that do not say otherwise.
HOST_LIMIT_VARIABLE = "AXTX_HOST_MAX_PARALLEL"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass
class DetachedRequest(PopenRequest):  # type: ignore[misc]
    """What ``submit_dryrun`` returns: TorchX's ``PopenRequest`` and how the supervisor treats the app.

    :param max_parallel: the app starts when fewer than this many of the apps submitted before it run on the host.
    :param host_max_parallel: and when fewer than this many apps run on the host at all; None means no such limit.
    :param term_grace: seconds between SIGTERM and SIGKILL when it is stopped.
    :param log_limit_mb: megabytes of output that are kept.
    """

    max_parallel: int
    host_max_parallel: int | None
    term_grace: int
    log_limit_mb: int

    @classmethod
    def from_plan(cls, plan: PopenRequest, name: str, cfg: Any) -> Self:
        """Return TorchX's plan with the app's own name as id.

        :param plan: the plan of ``LocalScheduler``, which has made the id unique.
        :param cfg: the scheduler options, resolved and checked.
        """
        own = _renamed(asdict(plan), plan.app_id, name)
        return cls(
            app_id=own["app_id"],
            log_dir=own["log_dir"],
            role_params={role: [ReplicaParam(**r) for r in replicas] for role, replicas in own["role_params"].items()},
            role_log_dirs=own["role_log_dirs"],
            max_parallel=cfg.get("max_parallel") or len(os.sched_getaffinity(0)),
            host_max_parallel=cfg.get("host_max_parallel") or _host_limit(),
            term_grace=DEFAULT_TERM_GRACE if cfg.get("term_grace") is None else cfg["term_grace"],
            log_limit_mb=cfg.get("log_limit_mb") or DEFAULT_LOG_LIMIT_MB,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what the supervisor needs, with the environment of this process as far as apps inherit it."""
        inherited = app_environment(os.environ)
        roles = [
            {"name": role, "replicas": [_replica(params, inherited) for params in replicas]}
            for role, replicas in self.role_params.items()
        ]
        limits = {"max_parallel": self.max_parallel, "host_max_parallel": self.host_max_parallel}
        limits["log_bytes"] = self.log_limit_mb * 1024 * 1024
        return {"roles": roles, **limits, "term_grace": self.term_grace}


def is_safe_name(name: str) -> bool:
    """Return whether ``name`` is one path component, and none of the scheduler's own."""
    return _SAFE_NAME.fullmatch(name) is not None


def check_app(app: AppDef) -> None:
    """Check names and replicas.

    :raises InvalidInputError: when the app cannot be submitted here.
    """
    names = [role.name for role in app.roles]
    for field, name in [("AppDef.name", app.name), *(("Role.name", name) for name in names)]:
        if not is_safe_name(name):
            raise InvalidInputError(
                f"{field} {name!r} cannot be the name of a directory.",
                fix="use 1 to 128 letters, digits, dots, dashes and underscores; no dot or dash at the beginning.",
            )
    if len(set(names)) < len(names) or sum(role.num_replicas for role in app.roles) < 1:
        replicas = ", ".join(f"{role.name} ({role.num_replicas} replicas)" for role in app.roles)
        raise InvalidInputError(
            f"AppDef.roles of {app.name!r} cannot run: {replicas or 'none'}.",
            fix="give each role a name of its own and at least one of them a replica.",
        )


def check_options(cfg: Any) -> None:
    """Check the values of the scheduler options.

    :raises InvalidInputError: naming the option.
    """
    if cfg.get("log_dir"):
        raise InvalidInputError(
            f"scheduler option log_dir={cfg['log_dir']!r}: {BACKEND} keeps all apps under one root.",
            fix="set the environment variable AXTX_LOCAL_ROOT for all processes of this installation.",
        )
    for name, least in (("max_parallel", 1), ("host_max_parallel", 1), ("term_grace", 0), ("log_limit_mb", 1)):
        value = cfg.get(name)
        if value is not None and value < least:
            raise InvalidInputError(f"scheduler option {name}={value!r} is too small.", fix=f"at least {least}.")


def _host_limit() -> int | None:
    """Return the limit of this host from the environment, or None.

    :raises InvalidInputError: it is not a whole number above 0.
    """
    value = os.environ.get(HOST_LIMIT_VARIABLE)
    if not value:
        return None
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise InvalidInputError(
            f"The environment variable {HOST_LIMIT_VARIABLE} is {value!r}.", fix="set it to a whole number above 0."
        )
    return int(value)


def _renamed(value: Any, unique: str, name: str) -> Any:
    """Return ``value`` with ``name`` for ``unique``, which ends in 14 random characters and so occurs nowhere else."""
    return json.loads(json.dumps(value).replace(unique, name))


def _replica(params: ReplicaParam, inherited: dict[str, str]) -> dict[str, Any]:
    path = os.pathsep.join(p for p in (params.env.get("PATH"), inherited.get("PATH")) if p)
    env = {"PYTHONUNBUFFERED": "x", **inherited, **params.env, "PATH": path}
    return {**asdict(params), "env": env}
