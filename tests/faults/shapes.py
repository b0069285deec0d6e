"""What ordinary DAGs and users do: several loops in one DAG, two deployments, rollouts, absences, marks and Clears."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.faults import shape_tasks, tasks
from tests.faults.play import Play
from tests.faults.scenarios import KILLED, REAPED, Scenario, end_all, submitted
from tests.faults.world import EXPERIMENT, Expected, until

#: States of a task instance after which no try follows, and those in which one does.
OVER = ("failed", "success", "skipped", "removed")
GOES_ON = (None, "scheduled", "queued", "restarting", "up_for_retry", "deferred")


def _two_loops(play: Play) -> None:
    """A reap of one group beside another group and an optimize task."""
    (one,) = play.task("one.generate", shape_tasks.generate_in, "one")
    (two,) = play.task("two.generate", shape_tasks.generate_in, "two")
    play.task("one.submit", shape_tasks.submit_in, "one", one, "sleep")
    run = play.task("two.submit", shape_tasks.submit_in, "two", two, "")
    play.task("optimize", shape_tasks.optimize_deferred, 3)
    play.task("one.reap", shape_tasks.reap_in, "one")
    play.world.let_finish()
    play.task("finish", tasks.finish, [run])
    result = play.task("optimize", shape_tasks.optimize_to_end)
    assert result["n_trials"] == 3, result
    _request_all(play)


def _request_all(play: Play) -> None:
    """Take every trial of the store for one that was asked for: an optimize task asks for its trials itself."""
    trials = play.world.store.trials(EXPERIMENT)
    play.trials = [{"trial_index": trial.index, "parameters": trial.parameters} for trial in trials]


def _two_deployments(play: Play) -> None:
    """The other deployment has the same DAG and DAG run ids: its trials are new ones, and its reap ends only these."""
    (here,) = play.task("generate", tasks.generate, 1)
    (there,) = play.task("generate there", shape_tasks.of_another_deployment, "generate", 1)
    assert there["trial_index"] != here["trial_index"], there
    run = play.task("submit", tasks.submit, here)
    play.task("submit there", shape_tasks.of_another_deployment, "submit", there, "sleep")
    play.task("reap there", shape_tasks.of_another_deployment, "reap")
    play.trials = [here, there]
    end_all(play, [run])


def _bodies(play: Play) -> None:
    """Airflow tasks do the work of three trials: one succeeds, one fails, and one is left when the DAG run ends."""
    play.trials = play.task("generate", tasks.generate, 3)
    started = [play.task(f"start_{trial['trial_index']}", shape_tasks.start_body, trial) for trial in play.trials]
    for state, one in zip(("success", "failed"), started, strict=False):
        play.once("train", shape_tasks.run_body, one)
        play.task(f"complete_{one['trial_index']}", shape_tasks.complete_body, one, state)
    play.task("reap", tasks.reap)


def _bodies_cleared(play: Play) -> None:
    """A user clears the failed task of a trial and those that follow: it succeeds, and is completed again."""
    (started,) = [play.task("start", shape_tasks.start_body, trial) for trial in play.trials[:1]]
    play.task("failed", shape_tasks.complete_body, started, "failed")
    play.task("complete", shape_tasks.complete_body, started, "success")
    again = play.world.store.latest_attempt(EXPERIMENT, 0)
    assert again is not None
    play.once("train", shape_tasks.run_body, {"tracker_base": again.submission_key})
    for trial in play.trials[1:]:
        other = play.task(f"start_{trial['trial_index']}", shape_tasks.start_body, trial)
        play.once("train", shape_tasks.run_body, other)
        play.task(f"complete_{trial['trial_index']}", shape_tasks.complete_body, other, "success")


def _away_over_deadline(play: Play) -> None:
    """The apps succeed in time, and the triggerer is there again after their deadline."""
    runs = submitted(play, "", "")
    deferred = {str(run["trial_index"]): play.task("defer", shape_tasks.defer_with_deadline, run) for run in runs}
    play.world.let_finish()
    assert until(lambda: not play.world.processes()), "the apps did not end"
    events = play.task("triggerer", tasks.triggerer, {name: each["deferred"] for name, each in deferred.items()})
    for run in runs:
        name = str(run["trial_index"])
        play.task("complete", tasks.complete, play.task(f"resume_{name}", tasks.resume, run, events[name]))


def _ended_while_deferred(state: str | None, play: Play) -> None:
    """What is over is settled by the trigger alone, without a reap."""
    runs = submitted(play, "sleep" if state in OVER else "", "")
    deferred = play.task("defer", tasks.defer, runs[0])
    play.once("user", tasks.user_ends, state, deferred["deferred"])
    end_all(play, runs[1:] if state in OVER else runs)


def _optimize_ended_while_deferred(state: str | None, play: Play) -> None:
    """What is over is settled by the trigger alone, without a reap; else the next try goes on to the end."""
    deferred = play.task("optimize", shape_tasks.optimize_deferred, 3)
    play.once("user", shape_tasks.user_ends_optimize, state, deferred["deferred"])
    if state not in OVER:
        play.world.let_finish()
        assert play.task("optimize", shape_tasks.optimize_to_end)["trials"] == {"COMPLETED": 3}
    _request_all(play)


def _optimize_stopped(state: str | None, play: Play) -> None:
    """The process of an optimize task is asked to stop while its apps run, and killed a little later."""
    play.once("optimize", shape_tasks.optimize_till_ended, state)
    if state in OVER:
        # Airflow kills it after some seconds, possibly before all was ended.
        play.task("reap", tasks.reap)
    else:
        play.world.let_finish()
        assert play.task("optimize again", shape_tasks.optimize_to_end)["trials"] == {"COMPLETED": 3}
    _request_all(play)


def _wait_stopped(state: str | None, play: Play) -> None:
    """The process of a sensor is asked to stop, and killed a little later; another task has submitted the app."""
    (run,) = submitted(play, "sleep" if state in OVER else "")
    play.once("wait", shape_tasks.wait_till_ended, state, run)
    play.world.let_finish()
    if state not in OVER:
        play.task("complete", tasks.complete, play.task("wait again", shape_tasks.wait_again, run))
    play.task("rest", tasks.rest, play.trials[1:])
    # It ends the app of a sensor that was stopped before it had found the app.
    play.task("reap", tasks.reap)


def _stopped(state: str | None, play: Play) -> None:
    """The process of a running task is asked to stop: what is over is ended by it, anything else is tried again."""
    if state not in OVER:
        play.world.let_finish()
        outcome = play.task("run", shape_tasks.run_till_ended, state, play.trials[0], "")
        play.task("complete", tasks.complete, outcome)
        play.task("rest", tasks.rest, play.trials[1:])
        return
    play.once("run", shape_tasks.run_till_ended, state, play.trials[0], "sleep")
    if not until(lambda: not play.world.processes(), 10.0):
        play.left.append("an app of a task that was stopped")
    play.world.let_finish()
    play.task("rest", tasks.rest, play.trials[1:])
    # It settles a trial that was not submitted yet.
    play.task("reap", tasks.reap)


def _of_each_state(
    name: str,
    victim: str,
    plot: Callable[[str | None, Play], None],
    template: str = "generated",
    ended: tuple[int, ...] = (0,),
) -> list[Scenario]:
    """Return a scenario for each state.

    :param ended: the trials that are ABANDONED when no try follows.
    """
    over = dict.fromkeys(ended, KILLED)
    return [
        Scenario(f"{name} {state}", victim, partial(plot, state), template, over if state in OVER else {})
        for state in (*OVER, *GOES_ON)
    ]


_BODIES = {1: Expected(("FAILED",), "train failed: "), 2: REAPED}

SHAPES = [
    *(
        Scenario(f"body: {victim}", victim, _bodies, "created", _BODIES)
        for victim in ("start_0", "complete_0", "complete_1", "reap")
    ),
    Scenario("body: cleared", "complete", _bodies_cleared, expected={0: Expected(attempts=2)}),
    Scenario("reap of one of two loops", "one.reap", _two_loops, "created", {0: REAPED}),
    Scenario("reap of another deployment", "reap there", _two_deployments, "created", {1: REAPED}),
    Scenario("generating for another deployment", "generate there", _two_deployments, "created", {1: REAPED}),
    Scenario("triggerer away over a deadline", "triggerer", _away_over_deadline),
    Scenario("resuming after a deadline", "resume_0", _away_over_deadline),
    *_of_each_state("deferred, then", "nothing", _ended_while_deferred),
    *_of_each_state("deferred optimize, then", "nothing", _optimize_ended_while_deferred, "created", (0, 1, 2)),
]
#: Asked to stop at a random line, and killed a little later.
STOPPED = [
    *_of_each_state("run task asked to stop (SIGTERM), then", "run", _stopped),
    *_of_each_state("sensor asked to stop (SIGTERM), then", "wait", _wait_stopped),
    *_of_each_state("optimize task asked to stop (SIGTERM), then", "optimize", _optimize_stopped, "created", (0, 1, 2)),
]
