"""Tasks that are caught on one worker, while they submit and while they wait."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.platform.world import Run, World


@dataclass(frozen=True)
class Caught:
    """DAG runs whose tasks were caught on one worker: while it submits, and while it waits in the worker."""

    submitting: Run
    waiting: Run
    since: float

    @property
    def runs(self) -> list[Run]:
        """Both DAG runs."""
        return [self.submitting, self.waiting]

    def let_go(self) -> None:
        """Let all apps end."""
        for run in self.runs:
            run.let_go()


def catch(world: World, queue: str, waiting: str = "poking_loop") -> Caught:
    """Start two DAG runs for the worker of a queue, which has slots for both tasks."""
    wait = world.run(f"{waiting}_{queue}")
    wait.await_starts(1)
    submit = world.run(f"loop_{queue}", held=True)
    submit.await_held()
    return Caught(submit, wait, time.time())
