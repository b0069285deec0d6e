"""A job that a real Slurm preempts, or whose node is lost: its trial goes on from its checkpoint as another attempt."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher import torchx_launcher
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.optimizer import engine as optimizer
from tests.contracts.rigs import SlurmRig
from tests.lifecycle.rig import SPEC
from tests.operators.conftest import FakeTaskInstance

pytestmark = pytest.mark.slurm

#: Imported here, so that a forked process need not import them.
PRELOADED = (optimizer, torchx_launcher)
COMPONENT = f"{Path(__file__).parents[1] / 'lifecycle' / 'components.py'}:epochs"


def work(folder: Path, scheduler_args: dict[str, Any], retry_from: str) -> None:
    operator = AxOptimizeOperator(
        task_id="optimize",
        experiment=SPEC,
        component=COMPONENT,
        component_args={"folder": str(folder)},
        scheduler="slurm",
        scheduler_args={**scheduler_args, "partition": "main"},
        tracker_base=str(folder / "tracker"),
        max_trials=1,
        trial_retries=1,
        retry_from=retry_from,
        poll_interval=0.5,
        deferrable=False,
    )
    task: Any = {"ti": FakeTaskInstance("optimize")}
    operator.execute(task)


@contextmanager
def preemption(rig: SlurmRig) -> Iterator[str]:
    """Submit a job that needs every node, in a partition that comes first; give the state in which the trial's ends."""
    cluster = rig.cluster
    cluster.ask("scontrol", "create", "PartitionName=urgent", "Nodes=ALL", "PriorityTier=10", "State=UP")
    urgent = cluster.ask(
        *("sbatch", "--parsable", "--partition=urgent", "--nodes=3", "--exclusive", "--mem=0", "--output=/dev/null"),
        "--wrap=sleep 600",
    )
    yield "PREEMPTED"
    cluster.ask("scancel", urgent)
    cluster.await_true(lambda: urgent not in cluster.ask("squeue", "-h", "-o", "%i"), "end of the urgent job")
    cluster.ask("scontrol", "delete", "PartitionName=urgent")


@contextmanager
def lost_node(rig: SlurmRig) -> Iterator[str]:
    """End the node of the job with all that runs on it, as a crash; give the state in which the job ends."""
    node = rig.cluster.ask("squeue", "-h", "-o", "%N")
    steps = [one for one in psutil.process_iter(["name", "cwd"]) if one.info["name"] == "slurmstepd"]
    steps = [one for one in steps if str(one.info["cwd"]).startswith(str(rig.cluster.folder))]
    assert steps
    rig.cluster.kill(f"slurmd-{node}", hard=True)
    for one in [*steps, *(child for step in steps for child in step.children(recursive=True))]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    yield "NODE_FAIL"
    rig.cluster.start()


@pytest.mark.parametrize("lose", [preemption, lost_node])
@pytest.mark.parametrize(("retry_from", "repeated"), [("checkpoint", 1), ("beginning", 15)])
def test_a_trial_that_lost_its_job_repeats_at_most_one_epoch(
    slurm_rig: SlurmRig, lose: Callable[[SlurmRig], AbstractContextManager[str]], retry_from: str, repeated: int
) -> None:
    store = AxHook().store  # with its tables
    folder = slurm_rig.folder
    task = multiprocessing.get_context("fork").Process(target=work, args=(folder, slurm_rig.scheduler_args, retry_from))
    task.start()
    log = folder / "epochs"
    slurm_rig.await_true(lambda: log.exists() and log.read_text().endswith("\n15\n"), "fifteenth epoch")
    (folder / "gate").touch()
    with lose(slurm_rig) as state:
        slurm_rig.await_true(lambda: len(store.attempts("loop")) == 2, "another attempt", seconds=180)
    task.join(300)
    assert task.exitcode == 0
    first, second = store.attempts("loop")
    assert (first.app_state, first.is_infrastructure_failure, second.app_state) == ("FAILED", True, "SUCCEEDED")
    assert state in (first.message or "")
    begun = list(map(int, log.read_text().split()))
    assert (len(begun) - 20, sorted(set(begun))) == (repeated, list(range(1, 21)))
    assert [trial.status for trial in store.trials("loop")] == ["COMPLETED"]
