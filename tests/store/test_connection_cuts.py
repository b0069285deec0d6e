"""A database server behind a proxy that cuts connections: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from airflow_provider_axtx.core.errors import StoreConflictError, StoreUnavailableError
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.proxy import CuttingProxy, Moment
from tests.store.conftest import TABLES, Server
from tests.store.material import add, at_once, begin, experiment
from tests.store.test_crashes import STEPS, recorded

#: Transactions of a step that only read (to find the run, or the count) and are committed before the one that writes.
_READS_FIRST = {"begin_attempt": 1, "record_handle": 1, "request_cancel": 1, "finish_attempt": 1, "note_unseen": 2}


@pytest.fixture
def proxy(server: Server) -> Iterator[CuttingProxy]:
    with CuttingProxy(server.port, server.commit) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: CuttingProxy, server: Server, server_database: str) -> Iterator[ExperimentStore]:
    """A store with empty tables that is reached through the proxy."""
    store = ExperimentStore(server.url(server_database, port=proxy.port))
    yield store
    store.close()


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
@pytest.mark.parametrize("step", STEPS)
def test_one_effect_when_the_connection_breaks_around_a_commit(
    proxied: ExperimentStore, proxy: CuttingProxy, server: Server, server_database: str, step: str, moment: Moment
) -> None:
    before, work = STEPS[step]
    before(proxied)
    proxy.arm(moment, skip=_READS_FIRST.get(step, 0))
    answer = work(proxied)
    assert proxy.cuts == 1
    seen = recorded(proxied)

    server.truncate(server_database, TABLES)
    before(proxied)
    undisturbed = work(proxied)
    assert recorded(proxied) == seen
    if isinstance(answer, (bool, int, str)):
        assert answer == undisturbed


def test_idle_connections_that_were_cut_are_replaced(proxied: ExperimentStore, proxy: CuttingProxy) -> None:
    name = experiment(proxied)
    for _ in range(5):
        proxy.cut()
        assert len(proxied.trials(name)) == 1


def test_an_outage_is_waited_for(proxied: ExperimentStore, proxy: CuttingProxy) -> None:
    name = experiment(proxied)
    proxy.refuse(True)
    end = threading.Timer(1.5, proxy.refuse, [False])
    end.start()
    assert [trial.index for trial in add(proxied, name)] == [1]
    end.join()
    assert len(proxied.trials(name)) == 2


def test_an_outage_that_lasts_gives_a_clear_error(
    proxied: ExperimentStore, proxy: CuttingProxy, server: Server, server_database: str
) -> None:
    name = experiment(proxied)
    impatient = ExperimentStore(server.url(server_database, port=proxy.port), retry_seconds=0.5)
    proxy.refuse(True)
    with pytest.raises(StoreUnavailableError, match="database is up and reachable") as caught:
        impatient.complete(name, 0, status="COMPLETED")
    assert server.password not in str(caught.value)
    proxy.refuse(False)
    assert impatient.trial(name, 0).status == "CANDIDATE"


def test_connections_cut_at_random_lose_and_double_nothing(proxied: ExperimentStore, proxy: CuttingProxy) -> None:
    name = experiment(proxied)
    over = threading.Event()
    chance = random.Random(5)

    def cutter() -> None:
        while not over.wait(chance.uniform(0.05, 0.3)):
            proxy.cut()
            proxy.arm("after_commit", skip=chance.randrange(4))

    def work(number: int) -> int:
        for slot in range(4):
            while len(proxied.granted(name, f"task {number}")) <= slot:
                try:
                    add(proxied, name, task=f"task {number}")
                except StoreConflictError:
                    continue
            index = proxied.granted(name, f"task {number}")[slot].index
            run = proxied.latest_attempt(name, index) or begin(proxied, name, index, expected_attempt=1)
            run = proxied.record_handle(run, f"local://s/{index}")
            proxied.finish_attempt(run, "SUCCEEDED", "")
            proxied.complete(name, index, status="COMPLETED", observations=[Observation(index, "m", index / 3)])
        return number

    cutting = threading.Thread(target=cutter)
    cutting.start()
    try:
        assert at_once(3, work) == [0, 1, 2]
    finally:
        over.set()
        cutting.join()
        proxy.arm("after_commit", skip=10**9)
    assert proxy.cuts > 0
    facts = proxied.snapshot(name)
    assert [trial.index for trial in facts.trials] == list(range(13))
    assert [trial.status for trial in facts.trials] == ["CANDIDATE"] + ["COMPLETED"] * 12
    assert facts.observations == tuple(Observation(index, "m", index / 3) for index in range(1, 13))
    assert [(run.trial_index, run.number, run.app_state) for run in proxied.attempts(name)] == [
        (index, 1, "SUCCEEDED") for index in range(1, 13)
    ]


@pytest.mark.parametrize("crash", [False, True])
def test_the_server_restarts_under_working_processes(server: Server, server_database: str, crash: bool) -> None:
    store = ExperimentStore(server.url(server_database))
    name = experiment(store, 60)

    def restart() -> None:
        server.stop(crash=crash)
        server.start()

    def work(number: int) -> None:
        for index in range(number, 60, 2):
            store.complete(name, index, status="COMPLETED", observations=[Observation(index, "m", 1.0)])

    restarting = threading.Timer(0.1, restart)
    restarting.start()
    assert at_once(2, work) == [None, None]
    restarting.join()
    assert len(store.snapshot(name).observations) == 60
    assert store.summary(name).trial_counts == {"COMPLETED": 60}
    store.close()
