"""A TorchX scheduler for tests: its state is a file, so that all processes see the same apps; the test rules them.

In one process, pass ``FakeCluster(path).factory`` as ``TorchXLauncher(..., scheduler_factories={"fake": ...})``. For
child processes, ``FakeCluster(path).environment()`` gives the variables under which TorchX finds it as ``fake``.
"""

from __future__ import annotations

import builtins
import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchx.schedulers.api import DescribeAppResponse, ListAppResponse, Scheduler
from torchx.schedulers.ids import make_unique
from torchx.specs import AppDef, AppDryRunInfo, AppState, Role, macros, runopts

ROOT_VARIABLE = "AXTX_TEST_FAKE_CLUSTER"
REQUIRED_VARIABLE = "AXTX_TEST_FAKE_REQUIRED"


class FakeSchedulerError(Exception):
    """What the fake raises when it was told to fail."""


class FakeCluster:
    """The state of a fake scheduler, and the test's control over it. Safe across processes.

    :param root: folder of the state.
    :param required: names of further options, texts without which nothing can be submitted.
    """

    def __init__(self, root: Path, required: tuple[str, ...] = ()) -> None:
        self.root = root
        self.required = required
        root.mkdir(parents=True, exist_ok=True)

    def factory(self, session_name: str, **_: object) -> FakeScheduler:
        """TorchX's scheduler factory."""
        return FakeScheduler(session_name, self)

    def environment(self) -> dict[str, str]:
        """Return variables for a child process: TorchX there finds ``fake`` (and hides its built-in schedulers)."""
        site = self.root / "site"
        info = site / "axtx_test_fake-1.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: axtx-test-fake\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[torchx.schedulers]\nfake = tests.fakes.scheduler:create_scheduler\n")
        project = Path(__file__).parents[2]
        required = {REQUIRED_VARIABLE: ",".join(self.required)}
        return {**required, ROOT_VARIABLE: str(self.root), "PYTHONPATH": f"{site}{os.pathsep}{project}"}

    # -- the test's side ----------------------------------------------------------------------------------------------

    def apps(self) -> dict[str, dict[str, Any]]:
        """Return every app ever submitted, by id: ``name``, ``state``, ``message``, ``roles``, ``cancels``."""
        with self._state() as state:
            apps: dict[str, dict[str, Any]] = state["apps"]
            return apps

    def set_state(self, app_id: str, app_state: str, message: str = "") -> None:
        """Let an app be in this ``AppState``."""
        with self._state() as state:
            state["apps"][app_id].update(state=app_state, message=message)

    def submit_as(self, app_state: str) -> None:
        """Let apps be in this state from their submission on (default RUNNING)."""
        with self._state() as state:
            state["initial"] = app_state

    def forget(self, app_id: str) -> None:
        """Remove an app, as a scheduler does that purges old ones."""
        with self._state() as state:
            del state["apps"][app_id]

    def fail_next(self, method: str, times: int = 1, *, after_effect: bool = False) -> None:
        """Let the next calls of ``schedule``, ``describe``, ``list`` or ``cancel`` raise ``FakeSchedulerError``.

        :param after_effect: only after it has taken effect: an answer that was lost on its way.
        """
        with self._state() as state:
            state["failures"][method] = {"times": times, "after": after_effect}

    def hide_next(self, polls: int) -> None:
        """Let the next ``describe`` calls not know their app, as accounting that lags."""
        with self._state() as state:
            state["hidden"] = polls

    def hide_from_list(self, times: int) -> None:
        """Let the next ``list`` calls show no app, as a scheduler does that has not seen a submission yet."""
        with self._state() as state:
            state["unlisted"] = times

    def survive_next_cancels(self, times: int) -> None:
        """Let apps run on after the next calls of ``cancel``, as those do that need a while after TERM."""
        with self._state() as state:
            state["surviving"] = times

    def calls(self, method: str) -> int:
        """Return how often a method was called, by all processes."""
        with self._state() as state:
            return int(state["calls"].get(method, 0))

    # -- the scheduler's side -----------------------------------------------------------------------------------------

    @contextmanager
    def call(self, method: str) -> Iterator[dict[str, Any]]:
        """Count a call and give it the state; raise if the test wants so."""
        with self._state() as state:
            state["calls"][method] = state["calls"].get(method, 0) + 1
            failure = state["failures"].get(method, {"times": 0})
            failing = failure["times"] > 0
            if failing:
                failure["times"] -= 1
            if not failing or failure["after"]:
                yield state
            else:
                yield json.loads(json.dumps(state))  # without effect
        if failing:
            raise FakeSchedulerError(f"the fake was told to fail in {method}")

    @contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            file = self.root / "state.json"
            state = json.loads(file.read_text()) if file.exists() else {"apps": {}, "failures": {}, "calls": {}}
            yield state
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps(state))
            temporary.replace(file)


class FakeScheduler(Scheduler[Any]):
    """See the module."""

    def __init__(self, session_name: str, cluster: FakeCluster) -> None:
        super().__init__("fake", session_name)
        self.cluster = cluster
        self.hanging_logs = threading.Event()

    def _run_opts(self) -> runopts:
        opts = runopts()
        for name in self.cluster.required:
            opts.add(name, type_=str, required=True, help=name)
        if "queue" not in self.cluster.required:
            opts.add("queue", type_=str, default="default", help="queue")
        opts.add("slots", type_=int, default=None, help="slots")
        opts.add("weight", type_=float, default=None, help="weight")
        opts.add("urgent", type_=bool, default=False, help="urgent")
        opts.add("tags", type_=builtins.list[str], default=None, help="tags")
        opts.add("labels", type_=dict[str, str], default=None, help="labels")
        return opts

    def _submit_dryrun(self, app: AppDef, cfg: Mapping[str, Any]) -> AppDryRunInfo[Any]:
        app_id = make_unique(app.name)
        values = macros.Values(img_root="", app_id=app_id, replica_id="0", rank0_env="")
        roles = [
            {"name": r.name, "args": r.args, "env": r.env, "replicas": r.num_replicas}
            for r in map(values.apply, app.roles)
        ]
        request = {"app_id": app_id, "name": app.name, "roles": roles, "options": dict(cfg)}
        return AppDryRunInfo(request, lambda r: json.dumps(r, indent=2))

    def schedule(self, dryrun_info: AppDryRunInfo[Any]) -> str:
        request = dryrun_info.request
        with self.cluster.call("schedule") as state:
            state["apps"][request["app_id"]] = {
                **request,
                "state": state.get("initial", "RUNNING"),
                "message": "",
                "cancels": 0,
            }
        return str(request["app_id"])

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        with self.cluster.call("describe") as state:
            hidden = state.get("hidden", 0) > 0
            if hidden:
                state["hidden"] -= 1
            app = None if hidden else state["apps"].get(app_id)
        if app is None:
            return None
        roles = [Role(name=r["name"], image="", num_replicas=r["replicas"]) for r in app["roles"]]
        return DescribeAppResponse(app_id=app_id, state=AppState[app["state"]], msg=app["message"], roles=roles)

    def list(self) -> builtins.list[ListAppResponse]:
        with self.cluster.call("list") as state:
            if state.get("unlisted", 0) > 0:
                state["unlisted"] -= 1
                return []
            return [ListAppResponse(app_id=i, state=AppState[a["state"]]) for i, a in state["apps"].items()]

    def _cancel_existing(self, app_id: str) -> None:
        with self.cluster.call("cancel") as state:
            app = state["apps"][app_id]
            app["cancels"] += 1
            if state.get("surviving", 0) > 0:
                state["surviving"] -= 1
            elif app["state"] not in ("SUCCEEDED", "FAILED", "CANCELLED"):
                app["state"] = "CANCELLED"

    def log_iter(self, app_id: str, role_name: str, k: int = 0, *_: Any, **__: Any) -> Iterable[str]:
        """Return the lines of ``<root>/<role>-<k>.log``; one that ends with ``HANG`` is followed by no end."""
        text = (self.cluster.root / f"{role_name}-{k}.log").read_text()

        def lines() -> Iterator[str]:
            for line in text.splitlines(keepends=True):
                yield line
                if line.startswith("HANG"):
                    self.hanging_logs.wait()

        return lines()


def create_scheduler(session_name: str, **_: object) -> FakeScheduler:
    """Make the scheduler from the environment, as TorchX does through the entry point."""
    required = tuple(filter(None, os.environ.get(REQUIRED_VARIABLE, "").split(",")))
    return FakeScheduler(session_name, FakeCluster(Path(os.environ[ROOT_VARIABLE]), required))
