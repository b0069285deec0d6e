"""The users of the browser tests' Airflow."""

from __future__ import annotations

import httpx
from realairflow import AirflowEnv


def token(env: AirflowEnv, passwords: dict[str, str], user: str) -> str:
    """Return a token of Airflow's API."""
    answer = httpx.post(f"{env.url}/auth/token", json={"username": user, "password": passwords[user]}, trust_env=False)
    answer.raise_for_status()
    return str(answer.json()["access_token"])
