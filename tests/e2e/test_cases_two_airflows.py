"""Two Airflows with the same DAGs on one experiment store and one scheduler: neither takes or ends the other's apps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from airflow_provider_axtx.hooks.installation import VARIABLE
from airflow_provider_axtx.launcher.local_detached.scheduler import LocalDetachedScheduler
from tests.e2e.world import LONG, NewDatabase, Scenario, World, fault_world

pytestmark = [pytest.mark.airflow, pytest.mark.cases]


class Airflows(NamedTuple):
    one: World
    other: World


@pytest.fixture(scope="module")
def airflows(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Airflows]:
    folder = tmp_path_factory.mktemp("two-airflows")
    store = new_database()
    environ = {
        "AIRFLOW_CONN_AX_DEFAULT": store.replace("postgresql+psycopg", "postgres"),
        "AXTX_LOCAL_ROOT": str(folder / "apps"),
    }
    with (
        fault_world(folder / "one", new_database(), environ=environ, store_url=store) as one,
        fault_world(folder / "other", new_database(), environ=environ, store_url=store) as other,
    ):
        for world in (one, other):
            world.scheduler = LocalDetachedScheduler("torchx", folder / "apps")
        yield Airflows(one, other)


def installation_of(world: World) -> str:
    return world.env.airflow("variables", "get", VARIABLE).strip()


def test_the_same_dag_run_in_both_has_trials_of_its_own(airflows: Airflows, tmp_path: Path) -> None:
    for world in airflows:
        world.env.api.trigger("deferred_loop", {"folder": str(tmp_path)}, run_id="same", timeout=LONG)
    one = Scenario(airflows.one, "deferred_loop", "same", tmp_path, "deferred_loop-same")
    other = replace(one, world=airflows.other)
    one.await_starts(2)
    for run in (one, other):
        run.await_task("tune.round_0.wait", "deferred")
    trial_of = {attempt.identity.installation: attempt.trial_index for attempt in one.runs()}
    mine, others = (trial_of[installation_of(world)] for world in airflows)

    other.fail()
    other.await_end("failed")
    assert airflows.other.airflow_json("ax", "reap") == []
    assert one.statuses() == {mine: "RUNNING", others: "ABANDONED"}
    assert [one.app_states()[index] for index in (mine, others)] == ["RUNNING", "CANCELLED"]

    one.let_go()
    one.await_end()
    assert one.statuses() == {mine: "COMPLETED", others: "ABANDONED"}
    assert one.starts() == {0: 1, 1: 1}
    assert (one.living(), one.left_open()) == ([], [])
