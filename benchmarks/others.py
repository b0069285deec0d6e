"""The same short trials with Ray Tune and Optuna: ``python others.py SIDE SLOTS TRIALS ANSWER``.

This file is run by the Python of an environment of its own, in which nothing of this project is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

#: Arguments: seconds, tracker base, index of the trial, x.
APP = 'sleep "$1"; mkdir -p "$2"; printf \'{"loss": %s}\' "$4" > "$2/.$3"; mv "$2/.$3" "$2/$3"'
APP_SECONDS = 1.0
RAY, OPTUNA = "Ray Tune", "Optuna"
SIDES = [RAY, OPTUNA]
_PACKAGES = ("ray[tune]", "optuna")
_HOME = Path(__file__).resolve().parents[1] / ".benchmarks" / "others"


def python() -> str:
    """Return the Python of the environment."""
    return str(_HOME / "bin" / "python")


def install() -> bool:
    """Install Ray Tune and Optuna into an environment of their own; return whether they are there."""
    if not (_HOME / "installed").exists():
        venv.create(_HOME, with_pip=True, clear=True)
        command = [python(), "-m", "pip", "install", "--quiet", *_PACKAGES]
        if subprocess.run(command, check=False).returncode:
            return False
        (_HOME / "installed").touch()
    return True


def _run_app(x: float, trial: str, folder: str, seconds: float) -> float:
    subprocess.run(["sh", "-c", APP, "sh", str(seconds), folder, trial, str(x)], check=True)
    with open(f"{folder}/{trial}", encoding="utf-8") as file:  # noqa: PTH123 - also run in Ray's workers
        return float(json.load(file)["loss"])


def through_ray(slots: int, trials: int, seconds: float, folder: str) -> None:
    """Run trials with Ray Tune."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"loss": _run_app(config["x"], tune.get_context().get_trial_id(), folder, seconds)})

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=slots, metric="loss", mode="min"),
        run_config=tune.RunConfig(storage_path=f"{folder}/ray", verbose=0),
    )
    assert len(tuner.fit()) == trials


def through_optuna(slots: int, trials: int, seconds: float, folder: str) -> None:
    """Run trials with Optuna, whose trials are recorded in SQLite as ours are."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/optuna-{trials}.db", sampler=optuna.samplers.RandomSampler(7)
    )

    def objective(trial: Any) -> float:
        return _run_app(trial.suggest_float("x", 0.0, 1.0), str(trial.number), folder, seconds)

    study.optimize(objective, n_trials=trials, n_jobs=slots)
    assert len(study.trials) == trials


def main(side: str, slots: int, trials: int, answer: Path) -> None:
    """Measure one side after a first small experiment."""
    run = {RAY: through_ray, OPTUNA: through_optuna}[side]
    if side == RAY:
        import ray

        ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        run(2, 3, 0.0, folder)
        wall, cpu = time.perf_counter(), time.process_time()
        run(slots, trials, APP_SECONDS, folder)
        found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
