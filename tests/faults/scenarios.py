"""The victims: what each of them does when it is killed, and how its experiment has to end all the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.keys import checkpoint_dir_for
from tests.faults import tasks
from tests.faults.play import Play
from tests.faults.world import EXPERIMENT, Expected, until

Run = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """One experiment with one victim.

    :param name: the victim, as the table calls it.
    :param victim: name of its task.
    :param plot: plays the experiment to its end.
    :param template: what the store holds at the beginning: ``empty``, ``migrated``, ``created`` (an experiment) or
        ``generated`` (two trials).
    :param expected: how trials end that do not simply end COMPLETED.
    :param scheduler: where its apps run.
    :param supervisors: the armed points are those of the app's supervisor, not of the task.
    """

    name: str
    victim: str
    plot: Callable[[Play], None]
    template: str = "generated"
    expected: Mapping[int, Expected] = field(default_factory=dict)
    scheduler: str = "local_detached"
    supervisors: bool = False


def end_all(play: Play, runs: list[Run]) -> None:
    play.world.let_finish()
    play.task("finish", tasks.finish, runs)


def submitted(play: Play, *modes: str) -> list[Run]:
    return list(play.task("submit_all", tasks.submit_all, play.trials[: len(modes)], list(modes)))


def _creating(play: Play) -> None:
    play.task("create", tasks.create)
    play.trials = play.task("generate", tasks.generate, 2)
    play.world.let_finish()
    play.task("rest", tasks.rest, play.trials)


def _optimizing(play: Play) -> None:
    play.world.let_finish()
    result = play.task("optimize", tasks.optimize, {})
    _all_of(play, result)
    assert result["trials"] == {"COMPLETED": 3}, result


def _optimizing_till_stopped(play: Play) -> None:
    play.world.let_finish()
    result = play.task("optimize", tasks.optimize, {"max_resource_hours": 1e-9})
    _all_of(play, result)
    assert result["stop_reason"].startswith("max_resource_hours"), result


def _all_of(play: Play, result: Run) -> None:
    """Let the trials of a whole experiment count as requested."""
    trials = play.world.store.trials(result["experiment"])
    assert len(trials) == result["n_trials"] == sum(result["trials"].values()), result
    play.trials = [{"trial_index": trial.index, "parameters": trial.parameters} for trial in trials]


def _submitting(play: Play) -> None:
    runs = [play.task(f"submit_{trial['trial_index']}", tasks.submit, trial) for trial in play.trials]
    end_all(play, runs)


def _completing(play: Play) -> None:
    runs = submitted(play, "silent", "")
    play.world.let_finish()
    outcomes = [play.task(f"wait_{run['trial_index']}", tasks.wait, run) for run in runs]
    # The outcome without results first: the two victims of a pair differ in what they record.
    for outcome in outcomes:
        play.task(f"complete_{outcome['trial_index']}", tasks.complete, outcome)


def _waiting(play: Play) -> None:
    runs = submitted(play, "fail", "")
    play.world.let_finish()
    play.task("wait", tasks.wait, runs[0])
    end_all(play, runs)


def _waiting_unseen(play: Play) -> None:
    runs = submitted(play, "", "")
    play.world.let_finish()
    play.world.cluster.hide_next(2)
    play.task("wait", tasks.wait, runs[0])
    end_all(play, runs)


def _waiting_unanswered(play: Play) -> None:
    runs = submitted(play, "", "")
    play.world.let_finish()
    play.world.cluster.fail_next("describe", 2)
    play.task("wait", tasks.wait, runs[0])
    end_all(play, runs)


def _running(play: Play) -> None:
    play.world.let_finish()
    outcome = play.task("run", tasks.run, play.trials[0])
    play.task("complete", tasks.complete, outcome)
    play.task("rest", tasks.rest, play.trials)


def _deferring(play: Play) -> None:
    runs = submitted(play, "fail", "")
    deferred = {str(run["trial_index"]): play.task(f"defer_{run['trial_index']}", tasks.defer, run) for run in runs}
    triggers = {name: answer["deferred"] for name, answer in deferred.items()}
    events = play.task("triggerer", tasks.triggerer, triggers)
    for run in runs:
        name = str(run["trial_index"])
        outcome = play.task(f"resume_{name}", tasks.resume, run, events[name])
        play.task("complete", tasks.complete, outcome)


def _timing_out(play: Play) -> None:
    runs = submitted(play, "sleep", "")
    outcome = play.task("wait", tasks.wait_shortly, runs[0])
    play.task("complete", tasks.complete, outcome)
    end_all(play, runs[1:])


def _timing_out_deferred(play: Play) -> None:
    runs = submitted(play, "sleep", "")
    outcome = play.task("resume", tasks.time_out, runs[0])
    play.task("complete", tasks.complete, outcome)
    end_all(play, runs[1:])


def _clearing(play: Play) -> None:
    runs = submitted(play, "sleep", "")
    again = play.task("clear", tasks.submit_cleared, play.trials[0])
    end_all(play, [again, runs[1]])


def _killing(play: Play) -> None:
    runs = submitted(play, "", "")
    play.once("kill", tasks.submit_killed, play.trials[0])
    again = play.task("submit", tasks.submit_cleared, play.trials[0])
    end_all(play, [again, runs[1]])


def _user_killing(play: Play) -> None:
    runs = submitted(play, "sleep", "")
    deferred = play.task("defer", tasks.defer, runs[0])
    play.once("user_kill", tasks.user_ends, "failed", deferred["deferred"])
    end_all(play, runs[1:])
    play.task("reap", tasks.reap)


def _reaping(play: Play) -> None:
    play.trials = play.task("generate", tasks.generate, 3)
    runs = submitted(play, "sleep", "")
    play.world.let_finish()
    if play.world.scheduler != "fake":
        play.task("wait", tasks.wait, runs[1])
    play.task("reap", tasks.reap)


def _supervising(play: Play) -> None:
    runs = [play.task("submit", tasks.submit, play.trials[0], "escape"), *_others(play)]
    end_all(play, runs)
    play.kills = play.supervisors_killed()


def _others(play: Play) -> list[Run]:
    return [play.task("submit_other", tasks.submit, play.trials[1])]


def _supervising_with_retries(play: Play) -> None:
    others = _others(play)
    play.task("submit", tasks.submit, play.trials[0], "escape")
    play.world.let_finish()
    play.task("complete", tasks.complete, play.task("run", tasks.run, play.trials[0], "", 1))
    end_all(play, others)
    play.kills = play.supervisors_killed()


def _kill_supervisor(play: Play, run: Run) -> None:
    """Kill the supervisor of an app that has started."""
    app_id = run["app_handle"].rpartition("/")[2]
    assert until(lambda: play.world.starts()[app_id])
    try:
        os.kill(play.world.supervisor(run), signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended before
    play.kills += 1


def _supervising_till_killed(play: Play) -> None:
    runs = submitted(play, "escape", "")
    assert play.injection is not None
    play.world.let_finish()
    time.sleep(play.injection.moment or 0.0)
    _kill_supervisor(play, runs[0])
    end_all(play, runs)


def _finding_lost(play: Play) -> None:
    runs = submitted(play, "escape", "")
    _kill_supervisor(play, runs[0])
    play.kills = 0  # the victim is the one who finds it
    play.task("wait", tasks.wait, runs[0])
    end_all(play, runs)


def _running_lost(play: Play, retry_from: str = "checkpoint", found: str = "1\n2\n") -> None:
    """An app is lost, and another attempt of its trial follows.

    :param found: which attempts have left something in the trial's checkpoint folder at the end.
    """
    runs = submitted(play, "escape", "")
    _kill_supervisor(play, runs[0])
    play.kills = 0
    play.world.let_finish()
    outcome = play.task("run", tasks.run, play.trials[0], "", 1, retry_from)
    play.task("complete", tasks.complete, outcome)
    end_all(play, runs[1:])
    assert (checkpoints(play, 0) / "attempts").read_text() == found, retry_from


def _running_lost_from_the_beginning(play: Play) -> None:
    _running_lost(play, "beginning", "2\n")


def checkpoints(play: Play, trial_index: int) -> Path:
    """Return the checkpoint folder of a trial."""
    last = play.world.store.latest_attempt(EXPERIMENT, trial_index)
    assert last is not None
    return Path(checkpoint_dir_for(last.tracker_base, last.submission_key))


def _optimizing_keeping_the_best(play: Play) -> None:
    play.world.let_finish()
    result = play.task("optimize", tasks.optimize, {"keep_checkpoints": "best"})
    _all_of(play, result)
    best = result["best"]
    kept = [trial for trial in range(3) if checkpoints(play, trial).exists()]
    assert (kept, best["checkpoint_dir"]) == ([best["trial_index"]], str(checkpoints(play, best["trial_index"])))


_TWICE = Expected(attempts=2)
_FAILED = Expected(("FAILED",), "exit code 3")
_SILENT = Expected(("FAILED",), "reported nothing")
_UNPRINTED = Expected(("FAILED",), "no line of the output")
_TIMEOUT = Expected(("ABANDONED",), "timeout")
_LOST = Expected(("FAILED",), "lost")
REAPED = Expected(("ABANDONED",), "reaped")
#: The budget is spent by the first app: the second trial may not have been submitted by then.
_STOPPED = Expected(("COMPLETED", "ABANDONED"), "stopped: max_resource_hours")
#: A supervisor that is killed after its app has ended loses nothing.
_LOST_OR_NOT = Expected(("FAILED", "COMPLETED"), "lost")
KILLED = Expected(("ABANDONED",))

_ON_FAKE = {"scheduler": "fake"}
SCENARIOS = [
    Scenario("creating worker", "create", _creating, "empty"),
    Scenario("generating worker", "generate", _creating, "migrated"),
    Scenario("optimizing worker", "optimize", _optimizing, "migrated"),
    Scenario(
        "optimizing worker, stopped",
        "optimize",
        _optimizing_till_stopped,
        "migrated",
        expected={1: _STOPPED, 2: _STOPPED},
    ),
    Scenario("submitting worker", "submit_0", _submitting),
    Scenario("submitting worker, fake", "submit_0", _submitting, **_ON_FAKE),
    Scenario("run worker", "run", _running),
    Scenario("run worker, app lost", "run", _running_lost, expected={0: _TWICE}),
    Scenario("run worker, from the beginning", "run", _running_lost_from_the_beginning, expected={0: _TWICE}),
    Scenario("optimizing worker, best checkpoint", "optimize", _optimizing_keeping_the_best, "migrated"),
    Scenario("waiting worker", "wait", _waiting, expected={0: _FAILED}),
    Scenario("waiting worker, app not seen", "wait", _waiting_unseen, **_ON_FAKE),
    Scenario("waiting worker, scheduler away", "wait", _waiting_unanswered, **_ON_FAKE),
    Scenario("waiting worker, app lost", "wait", _finding_lost, expected={0: _LOST}),
    Scenario("deferring worker", "defer_0", _deferring, expected={0: _FAILED}),
    Scenario("triggerer", "triggerer", _deferring, expected={0: _FAILED}),
    Scenario("resuming worker", "resume_0", _deferring, expected={0: _FAILED}),
    Scenario("completing worker", "complete_1", _completing, expected={0: _SILENT}),
    Scenario("completing worker, no result", "complete_0", _completing, expected={0: _SILENT}),
    Scenario("cancelling: timeout", "wait", _timing_out, expected={0: _TIMEOUT}),
    Scenario("cancelling: timeout, fake", "wait", _timing_out, expected={0: _TIMEOUT}, **_ON_FAKE),
    Scenario("cancelling: timeout, deferred", "resume", _timing_out_deferred, expected={0: _TIMEOUT}),
    Scenario("cancelling: clear", "clear", _clearing, expected={0: _TWICE}),
    Scenario("cancelling: clear, fake", "clear", _clearing, expected={0: _TWICE}, **_ON_FAKE),
    Scenario("cancelling: on_kill", "kill", _killing, expected={0: _TWICE}),
    Scenario("cancelling: on_kill, fake", "kill", _killing, expected={0: _TWICE}, **_ON_FAKE),
    Scenario("cancelling: triggerer", "user_kill", _user_killing, expected={0: KILLED}),
    Scenario("reaper", "reap", _reaping, "created", {0: REAPED, 2: REAPED}),
    Scenario("reaper, fake", "reap", _reaping, "created", {0: REAPED, 2: REAPED}, **_ON_FAKE),
    Scenario("supervisor", "submit", _supervising, expected={0: _LOST_OR_NOT}, supervisors=True),
    Scenario("supervisor, trial_retries", "submit", _supervising_with_retries, expected={0: _TWICE}, supervisors=True),
]


def _through_script_door(plot: Callable[[Play], None], play: Play) -> None:
    """Play with a script that prints its metric, which is read from its output, in place of a component."""
    (play.world.root / tasks.SCRIPT_DOOR).touch()
    plot(play)


#: The same victims with trials of ``axtx.script``: the guarantees are those of a component.
SCRIPTS = [
    Scenario(f"script: {name}", victim, partial(_through_script_door, plot), template, expected)
    for name, victim, plot, template, expected in (
        ("optimizing worker", "optimize", _optimizing, "migrated", {}),
        ("submitting worker", "submit_0", _submitting, "generated", {}),
        ("run worker", "run", _running, "generated", {}),
        ("waiting worker", "wait", _waiting, "generated", {0: _FAILED}),
        ("completing worker", "complete_1", _completing, "generated", {0: _UNPRINTED}),
        ("completing worker, no result", "complete_0", _completing, "generated", {0: _UNPRINTED}),
        ("cancelling: clear", "clear", _clearing, "generated", {0: _TWICE}),
        ("reaper", "reap", _reaping, "created", {0: REAPED, 2: REAPED}),
    )
]
#: Killed by its pid at a random moment, instead of at a point.
RANDOM_SUPERVISOR = Scenario(
    "supervisor", "nobody", _supervising_till_killed, expected={0: _LOST_OR_NOT}, supervisors=True
)
