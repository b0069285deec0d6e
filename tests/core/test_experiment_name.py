from __future__ import annotations

import pytest

from airflow_provider_axtx.core.experiment_name import MAX_EXPERIMENT_NAME, is_experiment_name
from airflow_provider_axtx.store.tables import NAME_LENGTH

#: What Airflow allows in a run id, as in its option ``[scheduler] allowed_run_id_pattern``.
RUN_ID = "manual__2026-01-31T18:00:00+00:00_a.b~c-D:9"


@pytest.mark.parametrize("name", ["a", "_x", "digits 2", "précision", f"booth-{RUN_ID}", "x" * 100, "a@b=c,d"])
def test_allowed(name: str) -> None:
    assert is_experiment_name(name)


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "a\\b", "..", ".a", "~a", "-a", "a\nb", "a\x00", "x" * 101])
def test_not_allowed(name: str) -> None:
    assert not is_experiment_name(name)


def test_the_store_has_room_for_every_name() -> None:
    assert MAX_EXPERIMENT_NAME <= NAME_LENGTH
