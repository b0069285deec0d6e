"""Records experiments as offline runs of Weights & Biases, which ``wandb sync`` uploads.

W&B writes a run into a folder aside. When it is complete, the folder is renamed to a name that follows from the
attempt, and a folder is not renamed to one that is there: so an attempt has one folder, which is complete.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.integrations.published import workshop
from airflow_provider_axtx.integrations.recording import RecordedExperiment, RecordedRun

if TYPE_CHECKING:
    from wandb import Run

#: In a run's folder: what it is recorded as.
_MARK = "axtx-recorded"


class WandbRecorder:
    """Writes experiments to a folder of offline runs.

    :param folder: its ``wandb`` is where the runs are.
    :raises InvalidInputError: the extra is not installed.
    """

    _experiment: RecordedExperiment

    def __init__(self, folder: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise InvalidInputError(
                f"Weights & Biases is not installed here: {error}.",
                fix="install it on every Airflow machine: pip install 'airflow-provider-axtx[wandb]'.",
            ) from error
        self._wandb = wandb
        self.folder = Path(folder)

    def begin(self, experiment: RecordedExperiment) -> Mapping[str, str]:
        """Return what each attempt is recorded as already, by its submission key."""
        self._experiment = experiment
        recorded = {}
        for run in experiment.runs:
            key = run.attempt.submission_key
            recorded[key] = _read_mark(self._place(key, run.attempt.requested_at))
        return recorded

    def write(self, run: RecordedRun) -> None:
        """Write an attempt as one run of the group of its experiment."""
        attempt, config = run.attempt, dict(run.trial.parameters)
        about = {"axtx_trial_index": attempt.trial_index, "axtx_attempt": attempt.number}
        with self._published(attempt.submission_key, attempt.requested_at, run.state) as begin:
            wandb_run = begin(attempt.title, "trial", {**config, **about})
            # W&B takes `*` for any text, and refuses it elsewhere than at the end. Such a metric has the axis of steps.
            for metric in {one.metric for one in run.observations if "*" not in one.metric}:
                wandb_run.define_metric(metric, step_metric="axtx_step")
            for step, values in _by_step(run):
                wandb_run.log({"axtx_step": step, **values})
            final = {one.metric: one.mean for one in run.observations if one.step is None}
            wandb_run.summary.update({**final, **{f"axtx_{name}": value for name, value in run.facts.items()}})
            wandb_run.finish(exit_code=int(not run.succeeded))

    def finish(self, experiment: RecordedExperiment) -> None:
        """Write what is told of the experiment itself as a run of its group, again when it has changed."""
        state = hashlib.sha256(json.dumps(experiment.facts).encode()).hexdigest()
        if _read_mark(self._place(experiment.uid, experiment.began_at)) == state:
            return
        with self._published(experiment.uid, experiment.began_at, state) as begin:
            wandb_run = begin(experiment.name, "experiment", {})
            wandb_run.summary.update({f"axtx_{name}": value for name, value in experiment.facts.items()})
            wandb_run.finish()

    def _place(self, key: str, began_at: float) -> Path:
        """Return the folder of a run; ``wandb sync`` expects such a name."""
        begun = time.strftime("%Y%m%d_%H%M%S", time.gmtime(began_at))
        return self.folder / "wandb" / f"offline-run-{begun}-{key}"

    @contextmanager
    def _published(self, key: str, began_at: float, state: str) -> Iterator[Callable[[str, str, dict[str, Any]], Run]]:
        """Give what begins a run, whose folder is put in its place when the block ends."""
        place = self._place(key, began_at)
        with workshop(self.folder) as aside:

            def begin(name: str, job_type: str, config: dict[str, Any]) -> Run:
                return self._begin(aside, key, began_at, name, job_type, config)

            yield begin
            (made,) = (aside / "wandb").glob("offline-run-*")
            (made / _MARK).write_text(state)
            crash_point("wandb.before_publish")
            place.parent.mkdir(exist_ok=True)
            if place.exists() and _read_mark(place) != state:
                place.rename(aside / "replaced")
                crash_point("wandb.after_removed")
            try:
                made.rename(place)
            except OSError:
                if not place.exists():
                    raise
                # Another process was faster; its run is the same.
            crash_point("wandb.after_publish")

    def _begin(self, aside: Path, key: str, began_at: float, name: str, job_type: str, config: dict[str, Any]) -> Run:
        settings = self._wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_start_time=began_at,
        )
        return self._wandb.init(
            project=self._experiment.project,
            group=self._experiment.name,
            job_type=job_type,
            name=name,
            id=key,
            config=config,
            dir=str(aside),
            mode="offline",
            # The program of the task may have a run of its own in this process.
            reinit="create_new",
            settings=settings,
        )


def _read_mark(place: Path) -> str:
    try:
        return (place / _MARK).read_text()
    except OSError:
        return ""


def _by_step(run: RecordedRun) -> Iterator[tuple[float, dict[str, float]]]:
    """Yield the curve: each step with its metrics."""
    steps: dict[float, dict[str, float]] = {}
    for one in run.observations:
        if one.step is not None:
            steps.setdefault(one.step, {})[one.metric] = one.mean
    yield from sorted(steps.items())
