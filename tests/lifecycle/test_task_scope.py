"""Which tasks a reap may end trials of."""

from __future__ import annotations

import pytest

from airflow_provider_axtx.lifecycle.reap import TaskScope


@pytest.mark.parametrize(
    ("scope", "task_id", "map_index", "belongs"),
    [
        (TaskScope(), "anything", 3, True),
        (TaskScope(prefix="one."), "one.round_0.submit", 2, True),
        (TaskScope(prefix="one."), "one_more.submit", -1, False),
        (TaskScope(prefix="one."), "one", -1, False),
        (TaskScope(prefix="one.", map_index=1), "one.submit", 1, True),
        (TaskScope(prefix="one.", map_index=1), "one.submit", 0, False),
        (TaskScope(task_ids=frozenset({"submit"})), "submit", 4, True),
        (TaskScope(task_ids=frozenset({"submit"})), "submit_2", -1, False),
        (TaskScope(task_ids=frozenset()), "submit", -1, False),
        (TaskScope(task_ids=frozenset({"free"}), prefix="one."), "free", -1, True),
        (TaskScope(task_ids=frozenset({"free"}), prefix="one."), "one.submit", -1, True),
    ],
)
def test_a_scope_contains_the_tasks_of_its_group_only(
    scope: TaskScope, task_id: str, map_index: int, belongs: bool
) -> None:
    assert scope.contains(task_id, map_index) is belongs
