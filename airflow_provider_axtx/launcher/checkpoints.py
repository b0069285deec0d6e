"""What an app is told about the checkpoints of its trial, besides the argument ``checkpoint_dir``."""

from __future__ import annotations

import re

from torchx.specs import AppDef

from airflow_provider_axtx.core.keys import attempt_of_key

#: Where the trial's checkpoints are, for all attempts of the trial.
DIR_VARIABLE = "AXTX_CHECKPOINT_DIR"
#: The number of the attempt, from 1: above 1, an earlier attempt may have left a checkpoint.
ATTEMPT_VARIABLE = "AXTX_ATTEMPT"

#: Values that arrive through ``srun --export`` as they are.
_PLAIN = re.compile(r"[\w./:@%+=~-]+", re.ASCII)


def set_variables(app: AppDef, checkpoint_dir: str, submission_key: str, *, only_plain: bool) -> None:
    """Set the two variables in every role; a variable that the component has set itself stays.

    :param app: the app; changed.
    :param only_plain: leave the folder out if it has characters that Slurm does not pass on. Its app still gets it as
        an argument.
    """
    variables = {ATTEMPT_VARIABLE: str(attempt_of_key(submission_key))}
    if not only_plain or _PLAIN.fullmatch(checkpoint_dir):
        # TorchX reads a role's environment as templates.
        variables[DIR_VARIABLE] = checkpoint_dir.replace("$", "$$")
    for role in app.roles:
        role.env = {**variables, **role.env}
