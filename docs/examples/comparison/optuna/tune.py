import re
import subprocess
import sys

import optuna


def objective(trial):
    c = trial.suggest_float("c", 1e-3, 1e3, log=True)
    gamma = trial.suggest_float("gamma", 1e-5, 1.0, log=True)
    command = [sys.executable, "train.py", f"--c={c}", f"--gamma={gamma}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"accuracy=([0-9.]+)", printed)[1])


if __name__ == "__main__":
    study = optuna.create_study(
        study_name="wine", storage="sqlite:///wine.db", direction="maximize", load_if_exists=True
    )
    study.optimize(objective, n_trials=12, n_jobs=4)
    print(study.best_params)
