"""Stopping trials early: Ax decides on progressive results, the app goes, its data stays, whatever is killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.keys import tracker_key, tracker_step_key
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TaskIdentity
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle.attempts import cancel_attempt, poll_attempt
from airflow_provider_axtx.lifecycle.complete import complete_trial, conclude, finalize
from airflow_provider_axtx.lifecycle.early_stop import count_steps, stop_early
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.lifecycle.reading import MOST_READ_AGAIN, curve_source
from airflow_provider_axtx.lifecycle.submit import AppRequest, submit_trial
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.scheduler import FakeCluster
from tests.store.material import killed_at

SPEC: dict[str, Any] = {
    "name": "curves",
    "parameters": [{"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}],
    "objective": "-loss",
    "generation": {"initialization_random_seed": 1, "random_seed": 1},
    "early_stopping": {"type": "threshold", "metric_threshold": 1.0, "min_progression": 2, "min_curves": 0},
}


class World:
    """An experiment with live apps on a fake scheduler, whose progressive results the test writes."""

    def __init__(self, root: Path, spec: dict[str, Any], trials: int, metrics: Mapping[str, Any] | None = None) -> None:
        self.url, self.cluster = f"sqlite:///{root / 'store.db'}", FakeCluster(root / "cluster")
        self.store = ExperimentStore(self.url)
        self.launcher = self.new_launcher()
        create_experiment(self.store, ExperimentSpec.load(spec), if_exists="fail")
        request = AppRequest(_component, tracker_root=str(root / "results"), metrics=metrics)
        for trial in generate_trials(self.store, "curves", trials, task_key="task").trials:
            submit_trial(self.store, self.launcher, trial, request, TaskIdentity())

    def new_launcher(self) -> TorchXLauncher:
        return TorchXLauncher("fake", scheduler_factories={"fake": self.cluster.factory})

    def runs(self) -> list[AttemptRecord]:
        return [run for run in self.store.attempts("curves") if run.finished_at is None]

    def report(self, index: int, values: dict[str, Any], step: int | None = None) -> None:
        key = tracker_key(index) if step is None else tracker_step_key(index, step)
        path = Path(self.store.attempts("curves", index)[-1].tracker_base, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def write(self, place: str, text: str) -> None:
        """Write a file of the first trial's program, or its output."""
        base = Path(self.store.attempts("curves", 0)[-1].tracker_base)
        base.mkdir(parents=True, exist_ok=True)
        (self.cluster.root / "app-0.log" if place == "output" else base / place).write_text(text)

    def log_scalars(self, place: str, tag: str, values: Sequence[float]) -> None:
        """Write TensorBoard's events of the first trial's program, one step after the other."""
        from torch.utils.tensorboard import SummaryWriter

        base = self.store.attempts("curves", 0)[-1].tracker_base
        with SummaryWriter(f"{base}/{place}") as writer:
            for step, value in enumerate(values, start=1):
                writer.add_scalar(tag, value, step)

    def curve(self, index: int, losses: Sequence[float]) -> None:
        for step, loss in enumerate(losses, start=1):
            self.report(index, {"loss": loss}, step)

    def succeed(self, index: int, loss: float) -> dict[str, Any]:
        self.report(index, {"loss": loss})
        run = self.store.attempts("curves", index)[-1]
        return complete_trial(self.store, finalize(self.store, run, AppObservation("SUCCEEDED")))

    def stop_early(self) -> list[int]:
        """As a new process does it."""
        return stop_early(ExperimentStore(self.url), lambda attempt: self.new_launcher(), "curves", self.runs())

    def settle(self, index: int) -> dict[str, Any]:
        """As the next poll of any process does it."""
        attempt = self.store.attempts("curves", index)[-1]
        observed = poll_attempt(self.store, self.launcher, attempt, LostAppPolicy())
        assert observed.is_terminal
        return conclude(self.store, attempt, observed)

    def status(self, index: int) -> str:
        return self.store.trial("curves", index).status

    def steps(self, index: int) -> list[tuple[float | None, float]]:
        return [(o.step, o.mean) for o in self.store.observations("curves", index)]

    def live_apps(self) -> int:
        return sum(app["state"] == "RUNNING" for app in self.cluster.apps().values())


def _component(x: float) -> Any:
    from torchx import specs

    role = specs.Role(name="app", image="", entrypoint="true", args=[f"{x}"], resource=specs.Resource(1, 0, 100))
    return specs.AppDef(name="app", roles=[role])


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    def make(trials: int = 2, metrics: Mapping[str, Any] | None = None, **changes: Any) -> World:
        return World(tmp_path, {**SPEC, **changes}, trials, metrics)

    return make


def test_a_curve_that_cannot_be_read_now_keeps_no_other_trial_running(world: Callable[..., World]) -> None:
    w = world(3)
    w.curve(0, [0.1, 3.0])
    w.curve(1, [0.3, 0.2])
    w.curve(2, [0.3, 2.0])
    folder = Path(w.runs()[0].tracker_base)
    away = folder.rename(folder.with_name("away"))
    folder.symlink_to(folder)
    assert [count_steps(run) for run in w.runs()] == [0, 2, 2]
    assert w.stop_early() == [2]
    folder.unlink()
    away.rename(folder)
    assert w.stop_early() == [0]


@pytest.fixture
def fake_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TorchX find the fake scheduler by its name, as the reader of an app's output asks for it."""
    for name, value in FakeCluster(tmp_path / "cluster").environment().items():
        monkeypatch.setenv(name, value)
        if name == "PYTHONPATH":
            monkeypatch.syspath_prepend(value.partition(os.pathsep)[0])


@pytest.mark.parametrize(
    ("place", "source", "written", "rest"),
    [
        ("m.csv", {"csv": "m.csv", "step": "epoch"}, "epoch,loss\n1,0.9\n2,3", "e-2"),
        ("output", {"regex": r"epoch (?P<step>\d+) loss=([0-9.e-]+)"}, "epoch 1 loss=0.9\nepoch 2 loss=3", "e-2"),
    ],
)
@pytest.mark.usefixtures("fake_is_installed")
def test_a_half_written_line_is_no_step(
    world: Callable[..., World], place: str, source: dict[str, Any], written: str, rest: str
) -> None:
    w = world(1, metrics={"loss": source})
    w.write(place, written)  # the program's buffer was full
    run, recorded = w.runs()[0], {"loss": source}
    assert (w.stop_early(), w.steps(0)) == ([], [(1.0, 0.9)])
    assert count_steps(run, curve_source(run, recorded)) == 1
    w.write(place, f"{written}{rest}\n3")
    assert (w.stop_early(), w.steps(0)) == ([], [(1.0, 0.9), (2.0, 0.03)])
    assert count_steps(run, curve_source(run, recorded)) == 2


@pytest.mark.parametrize(("state", "steps"), [("SUCCEEDED", [0.9, 0.5, 0.5]), ("FAILED", [0.9]), ("CANCELLED", [0.9])])
def test_the_last_line_of_a_program_that_succeeds_needs_no_line_break(
    world: Callable[..., World], state: str, steps: list[float]
) -> None:
    w = world(1, metrics={"loss": {"csv": "m.csv", "step": "epoch"}})
    w.write("m.csv", "epoch,loss\n1,0.9\n2,0.5")  # one that was killed may have written a part of the line
    conclude(w.store, w.runs()[0], AppObservation(state))
    assert [mean for _, mean in w.steps(0)] == steps


OUTPUT = r"epoch (?P<step>\d+) {}=([0-9.]+)"
#: How a program writes two metrics one after the other: where each is read, and what was written by then.
WRITTEN: dict[str, tuple[dict[str, Any], Callable[[World, list[float], list[float]], None]]] = {
    "csv": (
        {n: {"csv": f"{n}.csv", "step": "epoch"} for n in ("loss", "val_loss")},
        lambda w, losses, values: (
            w.write("loss.csv", "epoch,loss\n" + "".join(f"{e},{v}\n" for e, v in enumerate(losses, 1))),
            w.write("val_loss.csv", "epoch,val_loss\n" + "".join(f"{e},{v}\n" for e, v in enumerate(values, 1))),
        ),
    ),
    "json": (
        {n: {"json": "log", "key": n, "step": "epoch"} for n in ("loss", "val_loss")},
        lambda w, losses, values: w.write(
            "log",
            "".join(json.dumps({"epoch": e, "loss": v}) + "\n" for e, v in enumerate(losses, 1))
            + "".join(json.dumps({"epoch": e, "val_loss": v}) + "\n" for e, v in enumerate(values, 1)),
        ),
    ),
    "regex": (
        {n: {"regex": OUTPUT.format(n)} for n in ("loss", "val_loss")},
        lambda w, losses, values: w.write(
            "output",
            "".join(f"epoch {e} loss={v}\n" for e, v in enumerate(losses, 1))
            + "".join(f"epoch {e} val_loss={v}\n" for e, v in enumerate(values, 1)),
        ),
    ),
    "tensorboard": (
        {n: {"tensorboard": n} for n in ("loss", "val_loss")},
        lambda w, losses, values: (
            w.log_scalars("loss", "loss", losses),
            w.log_scalars("val_loss", "val_loss", values),
        ),
    ),
    "tracker and csv": (
        {"loss": {"csv": "loss.csv", "step": "epoch"}},
        lambda w, losses, values: (
            w.write("loss.csv", "epoch,loss\n" + "".join(f"{e},{v}\n" for e, v in enumerate(losses, 1))),
            [w.report(0, {"val_loss": v}, e) for e, v in enumerate(values, 1)],
        ),
    ),
    "csv and tracker": (
        {"val_loss": {"csv": "val_loss.csv", "step": "epoch"}},
        lambda w, losses, values: (
            [w.report(0, {"loss": v}, e) for e, v in enumerate(losses, 1)],
            w.write("val_loss.csv", "epoch,val_loss\n" + "".join(f"{e},{v}\n" for e, v in enumerate(values, 1))),
        ),
    ),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.usefixtures("fake_is_installed")
def test_the_second_metric_of_a_step_is_recorded_and_judged(world: Callable[..., World], how: str) -> None:
    metrics, write = WRITTEN[how]
    w = world(1, metrics=metrics, objective="-val_loss")
    run, counts = w.runs()[0], []
    for losses, values in (([3.0], []), ([3.0], [0.5]), ([3.0, 3.0], [0.5]), ([3.0, 3.0], [0.5, 5.0])):
        assert w.store.trial("curves", 0).reason is None
        write(w, losses, values)
        counts.append(count_steps(run, curve_source(run, metrics)))
        stopped = w.stop_early()
    assert (stopped, counts) == ([0], [1, 2, 3, 4])
    recorded = [(o.metric, o.step, o.mean) for o in w.store.observations("curves", 0)]
    assert recorded == [("loss", 1, 3), ("loss", 2, 3), ("val_loss", 1, 0.5), ("val_loss", 2, 5)]


def test_a_tracker_file_of_the_last_step_may_be_written_again(world: Callable[..., World]) -> None:
    w = world(1, objective="-val_loss")
    w.curve(0, [0.1, 0.1])
    assert w.stop_early() == []
    w.report(0, {"loss": 0.1, "val_loss": 9.0}, 2)
    assert w.stop_early() == [0]


def test_few_tracker_files_are_read_again_while_the_app_runs(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(1, metrics={"loss": {"csv": "m.csv", "step": "epoch"}})
    w.write("m.csv", "epoch,loss\n" + "".join(f"{epoch},0.5\n" for epoch in range(1, 101)))
    w.curve(0, [0.5] * 100)  # the same values again: the records do not tell which of the two was read
    assert w.stop_early() == []
    read: list[str] = []
    original = tracker._read
    monkeypatch.setattr(tracker, "_read", lambda base, key: read.append(key) or original(base, key))
    assert w.stop_early() == []
    assert len(read) == MOST_READ_AGAIN
    for step in range(1, 101):
        w.report(0, {"other": 0.5}, step)
    conclude(w.store, w.runs()[0], AppObservation("FAILED"))
    assert sum(o.metric == "other" for o in w.store.observations("curves", 0)) == 100


def test_tracker_files_that_were_read_are_not_read_again(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(1, metrics={"val_loss": {"csv": "m.csv", "step": "epoch"}})
    w.curve(0, [0.5] * 100)
    w.write("m.csv", "epoch,val_loss\n" + "".join(f"{epoch},0.5\n" for epoch in range(1, 101)))
    assert w.stop_early() == []
    read: list[str] = []
    original = tracker._read
    monkeypatch.setattr(tracker, "_read", lambda base, key: read.append(key) or original(base, key))
    assert w.stop_early() == []
    assert read == ["0.steps/100"]


def test_the_bad_one_of_two_is_stopped_and_keeps_its_data(world: Callable[..., World]) -> None:
    w = world()
    w.curve(0, [0.1 + 0.2, 0.2])
    w.curve(1, [3.3e-12, 2.0])
    assert w.stop_early() == [1]
    w.settle(1)
    assert [w.status(0), w.status(1)] == ["RUNNING", "EARLY_STOPPED"]
    assert w.steps(0) == [(1.0, 0.1 + 0.2), (2.0, 0.2)]
    assert w.steps(1) == [(1.0, 3.3e-12), (2.0, 2.0)]
    assert "worse than the metric threshold" in (w.store.trial("curves", 1).reason or "")
    assert w.live_apps() == 1
    assert w.stop_early() == []


def test_a_stopped_trial_is_completed_with_its_last_step(world: Callable[..., World]) -> None:
    w = world()
    w.curve(0, [5.0, 4.0, 3.0])
    assert w.stop_early() == [0]
    w.report(0, {"loss": 2.5}, 4)  # written while the app was being cancelled
    run = w.store.attempts("curves", 0)[-1]
    outcome = finalize(w.store, run, poll_attempt(w.store, w.launcher, run, LostAppPolicy()))
    completed = complete_trial(w.store, outcome)
    assert (completed["trial_status"], completed["metrics"]) == ("EARLY_STOPPED", {"loss": {"mean": 2.5, "sem": None}})
    assert w.status(0) == "EARLY_STOPPED"
    w.succeed(1, 0.5)
    assert [b["trial_index"] for b in optimizer.best(w.store.snapshot("curves"))] == [1]


def test_curves_of_completed_trials_are_what_others_are_compared_with(world: Callable[..., World]) -> None:
    strategy = {"type": "percentile", "min_progression": 2, "min_curves": 2, "percentile_threshold": 50}
    w = world(4, early_stopping=strategy)
    for index in (0, 1):
        w.curve(index, [1.0, 0.9, 0.8])
        assert w.succeed(index, 0.75)["trial_status"] == "COMPLETED"
        assert w.steps(index) == [(1.0, 1.0), (2.0, 0.9), (3.0, 0.8), (None, 0.75)]
    w.curve(2, [0.5, 0.4])
    w.curve(3, [4.0, 4.0])
    assert w.stop_early() == [3]
    assert w.live_apps() == 3  # the two completed ones are "live" for the fake, which was not told


def test_nothing_new_means_no_question(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    early_stop = optimizer.early_stop
    monkeypatch.setattr(optimizer, "early_stop", lambda facts: asked.append(facts.version) or early_stop(facts))
    w = world()
    assert w.stop_early() == []
    w.curve(0, [0.3, 0.2])
    assert (w.stop_early(), w.stop_early(), len(asked)) == ([], [], 1)
    w.report(0, {"loss": 0.1}, 3)
    assert (w.stop_early(), len(asked)) == ([], 2)


def test_without_a_strategy_nothing_is_read_or_stopped(world: Callable[..., World]) -> None:
    w = world(1, early_stopping=None)
    w.curve(0, [9.0, 9.0, 9.0])
    assert w.stop_early() == []
    assert w.steps(0) == []


def test_files_that_are_no_results_are_left_for_the_next_look(world: Callable[..., World]) -> None:
    w = world(1)
    w.curve(0, [9.0])
    folder = Path(w.runs()[0].tracker_base, "0.steps")
    (folder / "2").write_text('{"loss": 9')  # the app is writing it
    (folder / "notes").write_text("{}")
    w.report(0, {"loss": float("nan"), "other": 1.0}, 3)
    assert w.stop_early() == []
    assert w.store.observations("curves", 0) == [
        Observation(0, "loss", 9.0, None, 1.0),
        Observation(0, "other", 1.0, None, 3.0),
    ]
    (folder / "2").write_text('{"loss": 9.5}')
    assert w.stop_early() == [0]


def test_an_app_that_ended_by_itself_meanwhile_is_completed(world: Callable[..., World]) -> None:
    w = world(1)
    w.curve(0, [9.0, 9.0])
    runs = w.runs()
    w.store.finish_attempt(runs[0], "SUCCEEDED", "")
    assert stop_early(w.store, lambda attempt: w.launcher, "curves", runs) == []
    assert w.succeed(0, 9.0)["trial_status"] == "COMPLETED"


def test_a_trial_cancelled_for_another_reason_is_not_stopped_early(world: Callable[..., World]) -> None:
    w = world(1)
    w.curve(0, [9.0, 9.0])
    run = cancel_attempt(w.store, w.launcher, w.runs()[0], "timeout")
    assert stop_early(w.store, lambda attempt: w.launcher, "curves", [run]) == []
    assert finalize(w.store, run, poll_attempt(w.store, w.launcher, run, LostAppPolicy())).trial_status == "ABANDONED"


HALVING = {"type": "successive_halving", "min_resource": 2, "reduction_factor": 3}


@pytest.mark.parametrize("rule", [HALVING, {"type": "and", "left": HALVING, "right": HALVING}])
def test_successive_halving_needs_ax_only_in_a_combination(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any]
) -> None:
    w = world(3, early_stopping=rule)
    if rule is HALVING:
        monkeypatch.setattr(optimizer, "early_stop", lambda facts: pytest.fail("asked Ax"))
    for index, loss in enumerate((3.0, 1.0, 2.0)):
        w.curve(index, [loss, loss])
    assert w.stop_early() == [0, 2]
    assert "not among the best 1 of 3 trials" in (w.store.attempts("curves", 0)[-1].cancel_reason or "")
    assert w.settle(0)["trial_status"] == "EARLY_STOPPED"
    assert w.status(1) == "RUNNING"


@pytest.mark.parametrize("rule", [SPEC["early_stopping"], HALVING])
@pytest.mark.parametrize("point", ["cancel.after_request", "cancel.after_cancel", "early.after_cancelled"])
def test_killed_after_the_decision(world: Callable[..., World], point: str, rule: dict[str, Any]) -> None:
    w = world(2, early_stopping=rule)
    w.curve(1, [0.1, 0.1])
    assert w.stop_early() == []
    w.curve(0, [9.0, 9.0])
    killed_at(point, w.stop_early)
    assert w.stop_early() == []  # decided already
    attempt = w.store.attempts("curves", 0)[-1]
    poll_attempt(w.store, w.launcher, attempt, LostAppPolicy())  # carries it out if that was not done
    assert w.settle(0)["trial_status"] == "EARLY_STOPPED"
    assert (w.status(0), w.live_apps(), w.steps(0)) == ("EARLY_STOPPED", 1, [(1.0, 9.0), (2.0, 9.0)])
    assert w.cluster.calls("schedule") == 2


def test_the_end_of_a_cancelled_app_is_not_awaited(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(3)
    for index in range(3):
        w.curve(index, [9.0, 9.0])
    monkeypatch.setattr(TorchXLauncher, "cancel", lambda self, handle: None)  # they take their time
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
    assert w.stop_early() == [0, 1, 2]
    assert [w.status(index) for index in range(3)] == ["RUNNING"] * 3


def test_a_scheduler_that_does_not_take_one_cancellation_holds_up_no_other(world: Callable[..., World]) -> None:
    w = world(2)
    for index in (0, 1):
        w.curve(index, [9.0, 9.0])
    w.cluster.fail_next("cancel")
    assert w.stop_early() == [0, 1]
    assert w.live_apps() == 1
    poll_attempt(w.store, w.launcher, w.store.attempt("curves", 0, 1), LostAppPolicy())
    assert [w.settle(index)["trial_status"] for index in (0, 1)] == ["EARLY_STOPPED"] * 2


def test_killed_before_the_decision_it_is_made_with_the_next_step(world: Callable[..., World]) -> None:
    w = world(1)
    w.curve(0, [9.0, 9.0])
    killed_at("early.after_progress", w.stop_early)
    assert (w.steps(0), w.status(0)) == ([(1.0, 9.0), (2.0, 9.0)], "RUNNING")
    w.report(0, {"loss": 9.0}, 3)
    assert w.stop_early() == [0]
    w.settle(0)


@pytest.mark.parametrize(
    "rule", [SPEC["early_stopping"], {"type": "successive_halving", "min_resource": 2, "reduction_factor": 2}]
)
def test_the_baseline_is_never_stopped_and_the_others_are_compared_with_it(
    tmp_path: Path, rule: dict[str, Any]
) -> None:
    constrained = {"outcome_constraints": ["latency <= 1.1 * baseline"], "baseline": {"x": 0.9}}
    world = World(tmp_path, {**SPEC, **constrained, "early_stopping": rule}, 3)
    for index, loss in ((0, 9.0), (1, 0.5), (2, 2.0)):
        world.curve(index, [loss, loss])
    assert world.stop_early() == [2]
    assert [world.store.trial("curves", index).origin for index in range(3)] == ["baseline", "generated", "generated"]
    world.report(0, {"loss": 9.0, "latency": 5.0})
    run = world.store.attempts("curves", 0)[-1]
    complete_trial(world.store, finalize(world.store, run, AppObservation("SUCCEEDED")))
    world.report(1, {"loss": 0.4, "latency": 5.2})
    run = world.store.attempts("curves", 1)[-1]
    complete_trial(world.store, finalize(world.store, run, AppObservation("SUCCEEDED")))
    assert [best["trial_index"] for best in optimizer.best(world.store.snapshot("curves"))] == [1]
