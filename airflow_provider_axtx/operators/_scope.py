"""Which tasks a reap answers for, from its place in the DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import TaskGroup

    from airflow_provider_axtx.lifecycle.reap import TaskScope


def task_scope(reap: BaseOperator, map_index: int) -> TaskScope:
    """Return the tasks whose trials and attempts a reap may end.

    :param map_index: the reap's own map index, -1 outside a mapped group.
    """
    from airflow_provider_axtx.lifecycle.reap import TaskScope

    group = _group_of(reap)
    if group is not None:
        ids = frozenset(task.task_id for task in group.iter_tasks())
        prefix = f"{group.group_id}." if group.prefix_group_id else None
        return TaskScope(ids, prefix, map_index if map_index >= 0 else None)
    upstream = reap.get_flat_relative_ids(upstream=True)
    return TaskScope(frozenset(upstream)) if upstream else TaskScope()


def _group_of(reap: BaseOperator) -> TaskGroup | None:
    """Return the innermost task group that has other tasks than the reap; None at the top of the DAG."""
    return next(
        (group for group in _and_outer(reap.task_group) if any(task is not reap for task in group.iter_tasks())), None
    )


def _and_outer(group: TaskGroup | None) -> list[TaskGroup]:
    """Return the group and those around it, without the root of the DAG."""
    groups = []
    while group is not None and not group.is_root:
        groups.append(group)
        group = group.parent_group
    return groups
