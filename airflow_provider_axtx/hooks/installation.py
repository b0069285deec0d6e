"""The identity of this Airflow deployment, which is recorded with everything that it asks of an experiment store.

Two deployments may share a store, and their DAGs and DAG runs may have the same ids. The identity tells their trials
and apps apart: it is the same for all processes of one deployment and survives upgrades, because it is either
configured or kept in Airflow's own database as a Variable.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

from airflow.sdk import Variable, conf

from airflow_provider_axtx.compat import variable_exists
from airflow_provider_axtx.core.errors import InvalidInputError

log = logging.getLogger(__name__)

#: The Airflow Variable that holds the identity unless it is configured.
VARIABLE = "axtx_installation"
_DESCRIPTION = "Identity of this Airflow deployment in its experiment stores (airflow-provider-axtx). Do not change it."
#: Seconds between writing the Variable and reading it back. Airflow offers no "create if absent": when several tasks
#: find no Variable at the same time, each writes one and all must then use the value that was written last.
_PAUSE_SECONDS = 1.0
#: The length of the column in the store.
_MAX_LENGTH = 250

_known: str = ""


def installation_id() -> str:
    """Return the identity of this Airflow deployment; for tasks and triggers.

    It is the option ``[axtx] installation`` when that is set, else the Variable ``axtx_installation``, which the first
    task makes with a random value.

    :return: the identity; empty outside Airflow and where the deployment does not let tasks read the Variable.
    :raises InvalidInputError: when the configured identity is too long.
    :raises AirflowRuntimeError: when Airflow's API server does not answer.
    """
    global _known
    if not _known:
        _known = configured_installation() or _read_or_create()
    return _known


async def ainstallation_id() -> str:
    """Return what ``installation_id`` returns without blocking an event loop; for triggers."""
    return await asyncio.to_thread(installation_id)


def installation_id_in_database() -> str:
    """Return the identity as the command line and the API server see it, which read Airflow's database themselves.

    :return: the identity; empty when no task has made one yet.
    """
    from airflow.models.variable import Variable as StoredVariable

    return configured_installation() or StoredVariable.get(VARIABLE, default_var="")


def configured_installation() -> str:
    """Return the option ``[axtx] installation``, or an empty string when it is not set.

    :raises InvalidInputError: when it is too long.
    """
    value: str = (conf.get("axtx", "installation", fallback="") or "").strip()
    if len(value) > _MAX_LENGTH:
        raise InvalidInputError(
            f"The option [axtx] installation has {len(value)} characters: {value[:30]}...",
            fix=f"use at most {_MAX_LENGTH} characters.",
        )
    return value


def _read_or_create() -> str:
    try:
        return _read() or _create()
    except ImportError:
        # The SDK has no channel to Airflow in this process: it is not a task and not a trigger.
        return ""
    except PermissionError as error:
        log.warning(
            "This deployment does not let tasks read the Variable %s (%s). Trials are recorded without the identity of "
            "the deployment. Fix: set the option [axtx] installation to a name of your choice, in all processes.",
            VARIABLE,
            error,
        )
        return ""


def _read() -> str:
    return Variable.get(VARIABLE, default=None) or ""


def _create() -> str:
    # `Variable.get` also finds nothing when the API server fails to answer; `variable_exists` raises then. Without
    # asking it, one failed request would give the deployment a new identity.
    if not variable_exists(VARIABLE):
        Variable.set(VARIABLE, str(uuid.uuid4()), description=_DESCRIPTION)
        time.sleep(_PAUSE_SECONDS)
        log.info("Made the Airflow Variable %s, the identity of this deployment: %s", VARIABLE, _read())
    found = _read()
    if not found:
        raise RuntimeError(f"The Airflow Variable {VARIABLE} exists and could not be read. Retry the task.")
    return found
