"""The first task of ``ax_trial_loop``: it creates the experiment once it knows that the loop can run as asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import Templated, as_int, is_templated
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator
from airflow_provider_axtx.operators.base import airflow_errors

if TYPE_CHECKING:
    from airflow.sdk import Context


class AxCreateLoopExperimentOperator(AxCreateExperimentOperator):
    """Creates the experiment of a loop, and refuses more rounds or trials than the DAG or Airflow has room for.

    :param rounds: rounds that the DAG run asks for (templated).
    :param unrolled: rounds that the DAG has.
    :param trials_per_round: trials in parallel in each round (templated).
    """

    template_fields: Sequence[str] = (*AxCreateExperimentOperator.template_fields, "rounds", "trials_per_round")

    def __init__(
        self, *, rounds: Templated[int], unrolled: int, trials_per_round: Templated[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rounds = rounds
        self.unrolled = unrolled
        self.trials_per_round = trials_per_round
        if not is_templated(rounds):
            check_rounds(rounds, unrolled)
        if not is_templated(trials_per_round):
            check_trials_per_round(trials_per_round)

    @airflow_errors
    def execute(self, context: Context) -> str:
        """Check the numbers, then create the experiment or find that it is there."""
        check_rounds(self.rounds, self.unrolled)
        check_trials_per_round(self.trials_per_round)
        name: str = super().execute(context)
        return name


def check_rounds(rounds: object, unrolled: int) -> None:
    """Refuse more rounds than the DAG has: the rest would silently not run.

    :raises InvalidInputError: names both numbers.
    """
    number = as_int("rounds", rounds, minimum=1)
    if number > unrolled:
        raise InvalidInputError(
            f"rounds is {number}, and the DAG has {unrolled} (max_rounds).",
            fix=f"ask for at most {unrolled} rounds, or raise max_rounds in the DAG file.",
        )


def check_trials_per_round(trials: object) -> None:
    """Refuse more trials in a round than Airflow maps a task to: the round would fail after its trials are recorded.

    :raises InvalidInputError: names both numbers.
    """
    number, most = as_int("trials_per_round", trials, minimum=1), conf.getint("core", "max_map_length", fallback=1024)
    if number > most:
        raise InvalidInputError(
            f"trials_per_round is {number}, and Airflow maps a task to at most {most} ([core] max_map_length).",
            fix=f"ask for at most {most} trials in a round, raise [core] max_map_length, or use AxOptimizeOperator.",
        )
