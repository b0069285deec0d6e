"""The part of Airflow's REST API (v2) that the demo and the tests need."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

T = TypeVar("T")
RUN_ENDED = ("success", "failed")
POLL_SECONDS = 0.3
LOG_TAIL = 40


class ApiError(RuntimeError):
    """The API answered with an error; `status` is the HTTP status code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RunFailed(AssertionError):
    """A DAG run ended in another state than the expected one; the message has the logs of the failed tasks."""


def poll(look: Callable[[], T | None], timeout: float, what: Callable[[], str] | str) -> T:
    """Call `look` until it returns something else than None, and return that.

    An API server that cannot be reached counts as "not yet", so that a wait survives its restart.
    Raises TimeoutError with the text of `what` after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        trouble: object = None
        try:
            if (found := look()) is not None:
                return found
        except httpx.TransportError as error:
            trouble = error
        if time.monotonic() > deadline:
            told = f"{trouble!r}" if trouble else what if isinstance(what, str) else what()
            raise TimeoutError(f"after {timeout:.0f} s still waiting for {told}")
        time.sleep(POLL_SECONDS)


class AirflowApi:
    """A logged-in client of one Airflow API server. Every method raises `ApiError` when the server says no."""

    def __init__(self, base_url: str, username: str, password: str) -> None:
        self._credentials = {"username": username, "password": password}
        # trust_env=False: a proxy variable of the shell must not be asked for a loopback address.
        self._http = httpx.Client(base_url=base_url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, *, retries: int = 3, **options: Any) -> Any:
        """Send a request to `/api/v2{path}` and return the decoded JSON answer (None for an empty one).

        A GET is repeated up to `retries` times after a server error: SQLite may be locked for a moment.
        """
        if "Authorization" not in self._http.headers:
            self._login()
        answer = self._http.request(method, f"/api/v2{path}", **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._login()
            answer = self._http.request(method, f"/api/v2{path}", **options)
        if answer.is_server_error and method == "GET" and retries > 0:
            return self.request(method, path, retries=retries - 1, **options)
        if answer.is_error:
            raise ApiError(answer.status_code, f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def _login(self) -> None:
        self._http.headers.pop("Authorization", None)
        answer = self._http.post("/auth/token", json=self._credentials)
        if answer.is_error:
            raise ApiError(answer.status_code, f"login as {self._credentials['username']!r}: {answer.text}")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def accepts_us(self, timeout: float = 5) -> bool:
        """Tell whether the server answers within `timeout` seconds and accepts our password.

        Another server that happens to have the port does neither.
        """
        try:
            answer = self._http.post("/auth/token", json=self._credentials, timeout=timeout)
        except httpx.HTTPError:
            return False
        return answer.is_success

    def health(self) -> dict[str, dict[str, str | None]]:
        """Return the state and last heartbeat of each component (this route needs no login)."""
        answer = self._http.get("/api/v2/monitor/health")
        answer.raise_for_status()
        health: dict[str, dict[str, str | None]] = answer.json()
        return health

    # Waiting

    def wait_for_dag(self, dag_id: str, timeout: float = 90) -> dict[str, Any]:
        """Wait until the DAG is parsed, and return it. Raises TimeoutError with the import errors, if any."""

        def look() -> dict[str, Any] | None:
            try:
                dag: dict[str, Any] = self.request("GET", f"/dags/{quote(dag_id)}")
            except ApiError as error:
                if error.status != httpx.codes.NOT_FOUND:
                    raise
                return None
            return dag

        return poll(look, timeout, lambda: f"the DAG {dag_id!r}; import errors: {self.import_errors() or 'none'}")

    def import_errors(self) -> dict[str, str]:
        """Return the stack trace of each DAG file that failed to import."""
        answer = self.request("GET", "/importErrors")
        return {each["filename"]: each["stack_trace"] for each in answer["import_errors"]}

    def wait_for_run(
        self, dag_id: str, run_id: str, timeout: float = 300, expect: str | None = "success"
    ) -> dict[str, Any]:
        """Wait until the DAG run has ended, and return it.

        `expect` is the state it must end in, None for any. Raises `RunFailed` with the logs of the failed tasks when it
        is another one, TimeoutError with the state of every task after `timeout` seconds.
        """

        def look() -> dict[str, Any] | None:
            run = self.dag_run(dag_id, run_id)
            return run if run["state"] in RUN_ENDED else None

        run = poll(look, timeout, lambda: f"{dag_id} {run_id}; its tasks: {self.task_states(dag_id, run_id)}")
        if expect is not None and run["state"] != expect:
            raise RunFailed(f"{dag_id} {run_id} ended as {run['state']}, not {expect}.{self.failures(dag_id, run_id)}")
        return run

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Collection[str],
        timeout: float = 120,
        map_index: int = -1,
    ) -> dict[str, Any]:
        """Wait until the task instance is in one of `states` (`"deferred"`, `"success"`, ...), and return it."""

        def look() -> dict[str, Any] | None:
            found = self.task_instances(dag_id, run_id, task_id)
            return next((ti for ti in found if ti["map_index"] == map_index and ti["state"] in states), None)

        return poll(look, timeout, lambda: f"{task_id}[{map_index}] to be {states}: {self.task_states(dag_id, run_id)}")

    # DAG runs and their tasks

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause or unpause the DAG."""
        self.request("PATCH", f"/dags/{quote(dag_id)}", json={"is_paused": paused})

    def trigger(
        self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None, timeout: float = 90
    ) -> str:
        """Start a run of the DAG with the Params in `conf`, and return its run id.

        Waits up to `timeout` seconds until the DAG is parsed, and unpauses it.
        """
        if self.wait_for_dag(dag_id, timeout)["is_paused"]:
            self.pause(dag_id, False)
        body = {"logical_date": None, "conf": conf or {}} | ({"dag_run_id": run_id} if run_id else {})
        return str(self.request("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body)["dag_run_id"])

    def unfinished_runs(self, dag_id: str) -> list[str]:
        """Return the ids of the DAG's queued and running runs, of at most the 100 oldest; none for an unknown DAG."""
        path, query = f"/dags/{quote(dag_id)}/dagRuns", {"state": ["queued", "running"], "limit": 100}
        try:
            answer = self.request("GET", path, params=query)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return []
            raise
        return [run["dag_run_id"] for run in answer["dag_runs"]]

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the DAG run: `state`, `conf`, `start_date`, `end_date`, ..."""
        run: dict[str, Any] = self.request("GET", _run(dag_id, run_id))
        return run

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """Return the task instances of a run, all or those of one task: `task_id`, `map_index`, `state`, ..."""
        found = self._pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")
        return [ti for ti in found if task_id is None or ti["task_id"] == task_id]

    def _pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self.request("GET", path, params={"limit": 100, "offset": offset})
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state of each task instance, by `task_id` or `task_id[map_index]`."""
        return {_label(ti): ti["state"] for ti in self.task_instances(dag_id, run_id)}

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return the value of an XCom. Raises `ApiError` with status 404 when there is none."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key)}"
        return self.request("GET", path, params={"map_index": map_index, "deserialize": True})["value"]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int | None = None
    ) -> str:
        """Return the log of a task instance as lines of text, of its last try when none is given."""
        if try_number is None:
            found = self.task_instances(dag_id, run_id, task_id)
            try_number = next((ti["try_number"] for ti in found if ti["map_index"] == map_index), 1)
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        answer = self.request("GET", path, params={"map_index": map_index, "full_content": True})
        return "\n".join(_log_line(each) for each in answer["content"])

    def failures(self, dag_id: str, run_id: str) -> str:
        """Return the end of the log of each failed task instance, as one text."""
        parts = []
        for ti in self.task_instances(dag_id, run_id):
            if ti["state"] == "failed":
                log = self.task_log(dag_id, run_id, ti["task_id"], ti["map_index"], ti["try_number"])
                parts.append(f"\n--- {_label(ti)}, try {ti['try_number']}\n" + "\n".join(log.splitlines()[-LOG_TAIL:]))
        return "".join(parts)

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: list[str | tuple[str, int]],
        *,
        only_failed: bool = False,
        downstream: bool = False,
    ) -> list[dict[str, Any]]:
        """Clear task instances (a pair means one map index), as a user does; return those that were cleared."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "only_failed": only_failed,
            "include_downstream": downstream,
        }
        answer = self.request("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", json=body)
        cleared: list[dict[str, Any]] = answer["task_instances"]
        return cleared

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance as `"success"`, `"failed"` or `"skipped"`, as a user does."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}"
        path += f"/{map_index}" if map_index >= 0 else ""
        self.request("PATCH", path, json={"new_state": state})

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a DAG run as `"success"` or `"failed"`, or `"queued"` to clear its state, as a user does."""
        self.request("PATCH", _run(dag_id, run_id), json={"state": state})

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a DAG run, as a user does; a run of the same id can be made afterwards."""
        self.request("DELETE", _run(dag_id, run_id))


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"


def _label(ti: dict[str, Any]) -> str:
    return f"{ti['task_id']}[{ti['map_index']}]" if ti["map_index"] >= 0 else str(ti["task_id"])


def _log_line(entry: dict[str, Any] | str) -> str:
    if isinstance(entry, str):
        return entry
    shown = [str(entry.get("timestamp") or ""), str(entry.get("level") or "").upper(), str(entry.get("event"))]
    for detail in entry.get("error_detail") or ():
        frames = detail.get("frames") or [{}]
        place = "{filename}:{lineno}".format_map({"filename": "?", "lineno": "?"} | frames[-1])
        shown.append(f"{detail.get('exc_type')}: {detail.get('exc_value')} ({place})")
    return " ".join(part for part in shown if part)
