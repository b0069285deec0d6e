"""A real Airflow on this machine, for the demo and for tests: its processes, its REST API, and a clean end."""

from __future__ import annotations

from realairflow.api import AirflowApi, ApiError, RunFailed, poll
from realairflow.env import COMPONENTS, AirflowEnv, AirflowEnvError

__all__ = ["COMPONENTS", "AirflowApi", "AirflowEnv", "AirflowEnvError", "ApiError", "RunFailed", "poll"]
