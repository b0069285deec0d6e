"""The script and the DAG of the README in a real Airflow: an ordinary script that prints its accuracy is tuned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from realairflow import poll

from tests.e2e.world import LONG, NewDatabase, World, fault_world

pytestmark = pytest.mark.airflow

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("script")
    for title, code in re.findall(r"```python title=\"(dags/[^\"]+)\"\n(.*?)```", README, re.S):
        path = folder / title
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    with fault_world(folder, new_database(), folder / "dags") as world:
        yield world


def test_a_script_that_prints_is_tuned_although_the_scheduler_is_killed(world: World) -> None:
    api, run_id = world.env.api, "first"
    experiment = f"wine-{run_id}"
    world.env.api.trigger("tune_script", {}, run_id=run_id, timeout=LONG)

    def has_completed() -> bool | None:
        found = [s for s in world.store.summaries() if s.name == experiment]
        return (bool(found) and found[0].trial_counts.get("COMPLETED", 0) >= 2) or None

    poll(has_completed, LONG, "two trials")
    world.env.kill_tree("scheduler")
    world.env.start("scheduler")
    assert api.wait_for_run("tune_script", run_id, LONG, "success")["state"] == "success"
    result = api.xcom("tune_script", run_id, "optimize")
    assert result["trials"] == {"COMPLETED": 12}
    means = [o.mean for o in world.store.snapshot(experiment).observations]
    assert result["best"]["metrics"]["accuracy"]["mean"] == max(means) > 0.9
    attempts = world.store.attempts(experiment)
    assert [attempt.number for attempt in attempts] == [1] * 12
    assert all(attempt.app_state == "SUCCEEDED" for attempt in attempts)
