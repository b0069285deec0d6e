import re
import subprocess
import sys
from pathlib import Path

from ray import tune
from ray.tune.search.optuna import OptunaSearch

PROGRAM = Path("train.py").resolve()


def trainable(config):
    command = [sys.executable, PROGRAM, f"--c={config['c']}", f"--gamma={config['gamma']}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tune.report({"accuracy": float(re.search(r"accuracy=([0-9.]+)", printed)[1])})


if __name__ == "__main__":
    tuner = tune.Tuner(
        trainable,
        param_space={"c": tune.loguniform(1e-3, 1e3), "gamma": tune.loguniform(1e-5, 1.0)},
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", search_alg=OptunaSearch(), num_samples=12, max_concurrent_trials=4
        ),
    )
    print(tuner.fit().get_best_result().config)
