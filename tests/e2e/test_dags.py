"""Every DAG of ``dags/`` through a real scheduler and triggerer, as a newcomer runs it, and what apps do wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from realairflow import ApiError, poll
from realairflow.env import COMPONENTS

from airflow_provider_axtx.core.output_line import without_line
from tests.e2e.world import LONG, NewDatabase, World, fault_world

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parents[2] / "dags"
EXAMPLES = {file.stem for file in DAGS.glob("*.py")}


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's DAGs and, for failing apps, those of the fault tests, in one folder."""
    folder = tmp_path_factory.mktemp("dags") / "dags"
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(DAGS, folder, ignore=without_caches)
    shutil.copytree(Path(__file__).parent / "dags_faults", folder / "faults", ignore=without_caches)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, dags: Path) -> Iterator[World]:
    with fault_world(tmp_path_factory.mktemp("examples"), new_database(), dags) as world:
        yield world


@pytest.fixture(scope="module")
def digits_conf(dags: Path) -> dict[str, Any]:
    """Another choice in the form of ``tune_from_ui``: component, search space with a choice, constant arguments."""
    return {
        "experiment_name": "digits-from-ui",
        "component": f"{dags / 'apps' / 'components.py'}:digits",
        "component_args": {"folds": 2, "gamma": 0.1},
        "parameters": [
            {"type": "range", "name": "c", "parameter_type": "float", "bounds": [0.1, 100.0], "scaling": "log"},
            {"type": "range", "name": "pixels", "parameter_type": "int", "bounds": [4, 16]},
            {
                "type": "choice",
                "name": "kernel",
                "parameter_type": "str",
                "values": ["rbf", "sigmoid"],
                "is_ordered": False,
            },
        ],
        "objective": "accuracy",
        "rounds": 1,
        "trials_per_round": 2,
    }


@pytest.fixture(scope="module")
def runs(world: World, digits_conf: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """DAG id and run id of each example; started at once, since they wait more than they work."""
    api = world.env.api
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "sequential": ("booth_sequential", {}),
        "batch": ("booth_batch", {}),
        "form": ("tune_from_ui", {}),
        "form-digits": ("tune_from_ui", digits_conf),
    }
    return {name: (dag_id, api.trigger(dag_id, conf, timeout=LONG)) for name, (dag_id, conf) in wanted.items()}


def test_every_dag_is_imported(world: World) -> None:
    for dag_id in EXAMPLES:
        world.env.api.wait_for_dag(dag_id, LONG)
    assert world.env.api.import_errors() == {}
    assert {
        "tune_digits",
        "booth_sequential",
        "booth_batch",
        "tune_from_ui",
        "nightly_tuning",
        "tune_on_slurm",
        "axtx_maintenance",
    } <= EXAMPLES


def test_tune_digits_ends_with_the_best_and_a_final_fit(world: World) -> None:
    # Run by `make demo`; here only its shape.
    tasks = {task["task_id"]: task for task in world.env.api.request("GET", "/dags/tune_digits/tasks")["tasks"]}
    assert tasks["best"]["downstream_task_ids"] == ["final_fit"]
    assert tasks["tune.reap"]["downstream_task_ids"] == []
    trials = sorted(task_id for task_id in tasks if "round_" in task_id)
    assert trials == [f"tune.round_{number}.run" for number in range(5)]


@pytest.mark.parametrize(
    ("name", "experiment", "trials"),
    [
        ("sequential", "booth-sequential-{run_id}", 6),
        ("batch", "booth-batch-{run_id}", 8),
        ("form", "from-ui", 4),
        ("form-digits", "digits-from-ui", 2),
    ],
)
def test_an_example_runs_its_trials_and_returns_the_best(
    world: World, runs: dict[str, tuple[str, str]], name: str, experiment: str, trials: int
) -> None:
    dag_id, run_id = runs[name]
    world.env.api.wait_for_run(dag_id, run_id, LONG * 2)
    facts = world.store.snapshot(experiment.format(run_id=run_id))
    assert [(trial.index, trial.status) for trial in facts.trials] == [(i, "COMPLETED") for i in range(trials)]
    objective = facts.spec["objective"].removeprefix("-")
    measured = {seen.trial_index: seen.mean for seen in facts.observations if seen.metric == objective}
    choose = min if facts.spec["objective"].startswith("-") else max
    best = world.env.api.xcom(dag_id, run_id, "best")
    assert measured[best["trial_index"]] == choose(measured.values())
    assert best["parameters"] == facts.trials[best["trial_index"]].parameters
    if name == "form-digits":
        assert {trial.parameters["kernel"] for trial in facts.trials} <= {"rbf", "sigmoid"}
    else:
        for trial in facts.trials:
            x1, x2 = float(trial.parameters["x1"]), float(trial.parameters["x2"])
            assert measured[trial.index] == pytest.approx((x1 + 2 * x2 - 7) ** 2 + (2 * x1 + x2 - 5) ** 2)


def test_the_pipeline_publishes_the_winner_and_the_second_dag_gets_it(world: World) -> None:
    api = world.env.api
    for dag_id in ("platform_pipeline", "deploy_digits"):
        api.wait_for_dag(dag_id, LONG)
    api.pause("deploy_digits", False)
    run_id = api.trigger("platform_pipeline", {"trials": 5}, timeout=LONG)
    api.wait_for_run("platform_pipeline", run_id, LONG * 2)
    tuned = api.xcom("platform_pipeline", run_id, "optimize")
    facts = world.store.snapshot(f"platform-{run_id}")
    assert (tuned["n_trials"], tuned["trials"]) == (5, {"COMPLETED": 5})
    measured = {seen.trial_index: seen.mean for seen in facts.observations if seen.metric == "accuracy"}
    assert measured[tuned["best"]["trial_index"]] == max(measured.values())
    (deployed,) = poll(
        lambda: api.request("GET", "/dags/deploy_digits/dagRuns")["dag_runs"] or None, LONG, "the second DAG"
    )
    api.wait_for_run("deploy_digits", deployed["dag_run_id"], LONG)
    model = api.xcom("deploy_digits", deployed["dag_run_id"], "deploy")
    assert model["parameters"] == tuned["best"]["parameters"]
    assert model["experiment"] == facts.name
    assert model["held_out_accuracy"] > 0.5


def test_each_night_adds_trials_to_the_same_experiment(world: World) -> None:
    api = world.env.api
    api.wait_for_dag("nightly_tuning", LONG)
    api.pause("nightly_tuning", False)
    (scheduled,) = poll(lambda: api.unfinished_runs("nightly_tuning") or None, LONG, "the night that is due")
    assert scheduled.startswith("scheduled__")
    api.wait_for_run("nightly_tuning", scheduled, LONG * 2)
    first = world.store.snapshot("nightly-digits")
    api.wait_for_run("nightly_tuning", api.trigger("nightly_tuning"), LONG * 2)
    both = world.store.snapshot("nightly-digits")
    assert len(first.trials) == 4
    assert [(trial.index, trial.status) for trial in both.trials] == [(i, "COMPLETED") for i in range(8)]
    assert both.trials[:4] == first.trials
    assert len({tuple(trial.parameters.items()) for trial in both.trials}) == 8


@pytest.mark.parametrize(
    ("field", "conf"),
    [
        ("rounds", {"rounds": 11}),
        ("component", {"component": "utils.sh"}),
        ("scheduler", {"scheduler": "local_cwd"}),
        ("trials_per_round", {"trials_per_round": "many"}),
        ("experiment_name", {"experiment_name": "../escape"}),
        ("parameters", {"parameters": [{"type": "range", "name": "x1", "parameter_type": "complex"}]}),
    ],
)
def test_a_form_with_a_value_outside_its_schema_is_refused(world: World, field: str, conf: dict[str, Any]) -> None:
    before = world.env.api.request("GET", "/dags/tune_from_ui/dagRuns")["total_entries"]
    with pytest.raises(ApiError, match=field) as refused:
        world.env.api.trigger("tune_from_ui", conf, timeout=LONG)
    assert 400 <= refused.value.status < 500
    assert world.env.api.request("GET", "/dags/tune_from_ui/dagRuns")["total_entries"] == before


def test_a_failing_app_fails_its_trial_with_a_reason_and_the_loop_goes_on(world: World) -> None:
    scenario = world.scenario("deferred_loop", trials=3, rounds=2, behaviours="exits-nothing-nan-garbage-good")
    scenario.let_go()
    scenario.await_end()
    assert scenario.statuses() == {0: "FAILED", 1: "FAILED", 2: "FAILED", 3: "FAILED", 4: "COMPLETED", 5: "COMPLETED"}
    reasons = [trial.reason or "" for trial in scenario.trials()]
    said = ["exit code 1", "reported nothing", "nan", "<html>502 Bad Gateway", "", ""]
    assert [text in reason for text, reason in zip(said, reasons, strict=True)] == [True] * 6
    assert reasons[0].endswith("exit code 1; its last line: the training data is missing"), reasons[0]
    for index in range(4):
        log = scenario.log(f"tune.round_{index // 3}.complete", index % 3)
        assert f"Trial {index} FAILED: {without_line(reasons[index])}" in log
    assert "the training data is missing" in scenario.log("tune.round_0.wait", 0)
    assert scenario.starts() == dict.fromkeys(range(6), 1)


def test_the_output_of_an_app_is_in_the_log_of_a_deferred_task_while_it_runs(world: World) -> None:
    scenario = world.scenario("streamed")
    scenario.await_task("wait", "deferred", map_index=-1)
    poll(lambda: "app/0: waiting to be let go" in scenario.log("wait", -1) or None, LONG, "the app's first line")
    assert scenario.states()["wait"] == "deferred"
    scenario.let_go()
    scenario.await_end()
    log = scenario.log("wait", -1)
    assert [log.count(f"app/0: {line}") for line in ("waiting to be let go", "was let go")] == [1, 1]


def test_a_fused_trial_that_is_killed_before_its_results_are_read_goes_on(world: World) -> None:
    scenario = world.scenario("fused_loop", rounds=2, kill={"tune.round_0.run": "finalize.after_end_attempt"})
    scenario.let_go()
    scenario.await_end()
    assert scenario.statuses() == {0: "COMPLETED", 1: "COMPLETED"}
    assert scenario.starts() == {0: 1, 1: 1}
    assert (scenario.tries("tune.round_0.run"), scenario.tries("tune.round_1.run")) == ([2], [1])


def test_tasks_find_ax_imported_and_no_other_process_loads_it(world: World) -> None:
    run_id = world.env.api.trigger("warm", timeout=LONG)
    world.env.api.wait_for_run("warm", run_id, LONG)
    assert world.env.api.xcom("warm", run_id, "look") == ["ax", "torchx"]
    mapped = {name: Path(f"/proc/{world.env.pid(name)}/maps").read_text() for name in COMPONENTS}
    assert [name for name, libraries in mapped.items() if "libtorch" in libraries] == ["scheduler"]


def test_the_nightly_maintenance_removes_what_has_ended_and_leaves_what_is_used(world: World) -> None:
    """The last test: it removes the experiments of the others."""
    used = world.scenario("deferred_loop")
    used.await_starts(1)
    used.await_task("tune.round_0.wait", "deferred")
    before = {summary.name for summary in world.store.summaries()}
    assert len(before) > 3
    api = world.env.api
    api.wait_for_dag("axtx_maintenance", LONG)
    run_id = api.trigger("axtx_maintenance", {"older_than": "1"}, timeout=LONG)
    api.wait_for_run("axtx_maintenance", run_id, LONG)
    lines = {line["experiment"]: line for line in api.xcom("axtx_maintenance", run_id, "cleanup")}
    assert lines[used.experiment]["result"] == "left"
    assert "open" in lines[used.experiment]["reason"]
    assert {name for name, line in lines.items() if line["result"] == "removed"} >= {"from-ui", "nightly-digits"}
    left = {summary.name for summary in world.store.summaries()}
    assert left == before - {name for name, line in lines.items() if line["result"] == "removed"}
    used.let_go()
    used.await_end()
    assert used.statuses() == {0: "COMPLETED"}
