"""The database goes away in mid-run and comes back: nothing is lost, nothing is doubled."""

from __future__ import annotations

import pytest

from tests.faults.cuts import Cut, Databases

pytestmark = pytest.mark.postgres

#: ``make faults`` has 30 s.
SECONDS = 2.0


@pytest.mark.parametrize("victim", ["generate", "submit", "wait", "reap"])
def test_an_outage(databases: Databases, victim: str) -> None:
    result, _ = databases.run(victim, Cut("COMMIT", 2, "after_commit", SECONDS))
    assert (result.findings, result.cuts) == ([], 1)


def test_an_outage_that_outlasts_the_patience_of_the_store(databases: Databases) -> None:
    """The task fails then, with nothing half-written, and Airflow's retries go on."""
    result, _ = databases.run("submit", Cut("COMMIT", 3, "after_commit", 1.0), patience=0.3)
    assert (result.findings, result.cuts) == ([], 1)


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_a_cut_in_the_middle_of_a_statement(databases: Databases, moment: str) -> None:
    _, sent = databases.run("complete", None)
    result, _ = databases.run("complete", Cut("packet", sent["packet"] // 2, moment))  # type: ignore[arg-type]
    assert (result.findings, result.cuts) == ([], 1)
