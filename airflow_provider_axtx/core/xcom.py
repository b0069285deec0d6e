"""The trial as it travels through XCom: one flat JSON object that grows from generate to complete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import Parameters
from airflow_provider_axtx.core.status import TRIAL_STATUSES


@dataclass(frozen=True)
class Trial:
    """A generated trial.

    :param experiment: name of the experiment.
    :param trial_index: index within it, from 0.
    :param arm_name: Ax's arm name.
    :param parameters: the parameterization.
    """

    experiment: str
    trial_index: int
    arm_name: str
    parameters: Parameters

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with this object's fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read one from XCom; fields of later stages are ignored, so a finished run is also a trial.

        :raises InvalidInputError: when it is not an object or lacks a field; the message names the field.
        """
        if not isinstance(value, Mapping):
            raise InvalidInputError(
                f"A trial must be a JSON object, not {type(value).__name__}: {value!r}.",
                fix="pass the XCom of AxGenerateTrialOperator or, after submission, of TorchXSubmitTrialOperator.",
            )
        missing = [f.name for f in fields(cls) if f.name not in value]
        if missing:
            raise InvalidInputError(
                f"The trial lacks {', '.join(missing)}; it has {', '.join(sorted(map(str, value)))}.",
                fix=f"pass the output of the task before ({cls._made_by()}).",
            )
        taken = cls(**{f.name: value[f.name] for f in fields(cls)})
        taken._check()
        return taken

    @classmethod
    def _made_by(cls) -> str:
        return "AxGenerateTrialOperator or AxGenerateTrialsOperator"

    def _check(self) -> None:
        if isinstance(self.trial_index, bool) or not isinstance(self.trial_index, int) or self.trial_index < 0:
            raise InvalidInputError(
                f"trial_index must be a whole number from 0, not {self.trial_index!r}.",
                fix="pass the trial as it came from the generate task.",
            )
        if not isinstance(self.experiment, str) or not isinstance(self.parameters, Mapping):
            raise InvalidInputError(
                f"experiment must be a name and parameters an object, not {self.experiment!r} and {self.parameters!r}.",
                fix="pass the trial as it came from the generate task.",
            )


@dataclass(frozen=True)
class SubmittedTrial(Trial):
    """A trial that was submitted.

    :param attempt: number of the attempt, from 1.
    :param app_handle: TorchX app handle, ``scheduler://session/app_id``.
    :param tracker_base: where this attempt's app reports its results.
    """

    attempt: int
    app_handle: str
    tracker_base: str

    @classmethod
    def _made_by(cls) -> str:
        return "TorchXSubmitTrialOperator"


@dataclass(frozen=True)
class TrialOutcome(SubmittedTrial):
    """A run whose app has ended.

    :param trial_status: the terminal Ax ``TrialStatus`` name.
    :param app_state: the TorchX ``AppState`` name that it was mapped from.
    :param message: what the scheduler said, or why it was cancelled; may be empty.
    """

    trial_status: str
    app_state: str
    message: str

    @classmethod
    def _made_by(cls) -> str:
        return "TorchXTrialSensor or TorchXRunTrialOperator"

    def _check(self) -> None:
        super()._check()
        if self.trial_status not in TRIAL_STATUSES:
            raise InvalidInputError(
                f"trial_status {self.trial_status!r} is not an Ax TrialStatus.",
                fix=f"one of {', '.join(sorted(TRIAL_STATUSES))}.",
            )


def finite(value: object) -> float | None:
    """Return ``value`` as a float when it is a finite real number (booleans are not), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
