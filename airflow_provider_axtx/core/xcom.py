"""The trial as it travels through XCom: one flat JSON object that grows from generate to complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.experiment_name import is_experiment_name
from airflow_provider_axtx.core.inputs import MAX_COUNT, shorten
from airflow_provider_axtx.core.records import Parameters
from airflow_provider_axtx.core.status import TRIAL_STATUSES


def _checked_name(name: str) -> str:
    if not is_experiment_name(name):
        raise PydanticCustomError("experiment_name", "no experiment can have this name")
    return name


_ExperimentName = Annotated[str, AfterValidator(_checked_name)]


@dataclass(frozen=True)
class Trial:
    """A generated trial.

    :param experiment: name of the experiment.
    :param trial_index: index within it, from 0.
    :param arm_name: Ax's arm name.
    :param parameters: the parameterization.
    """

    #: The operators whose XCom holds such an object.
    operators: ClassVar[str] = "AxGenerateTrialOperator or AxGenerateTrialsOperator"

    experiment: _ExperimentName
    trial_index: Annotated[int, Strict(), Field(ge=0, le=MAX_COUNT)]
    arm_name: str
    parameters: Parameters

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with this object's fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the object from XCom. The fields of later stages are ignored, so that an outcome is also a trial.

        :raises InvalidInputError: when it is not an object, or a field is missing or unusable; the message names each
            such field and its value.
        """
        if not isinstance(value, Mapping):
            raise InvalidInputError(
                f"A trial must be a JSON object, not {type(value).__name__}: {shorten(value)}.",
                fix="pass the XCom of AxGenerateTrialOperator or, after submission, of TorchXSubmitTrialOperator.",
            )
        try:
            trial: Self = cls._adapter().validate_python(dict(value))
        except ValidationError as error:
            wrong = [(".".join(map(str, e["loc"])), e) for e in error.errors(include_url=False)]
            lines = [
                f"{field} is missing" if e["type"] == "missing" else f"{field}: {e['msg']} (got {shorten(e['input'])})"
                for field, e in wrong
            ]
            raise InvalidInputError(
                f"The trial is invalid: {'; '.join(lines)}. It has {', '.join(sorted(map(str, value)))}.",
                fix=f"pass the output of the task before ({cls.operators}), unchanged.",
            ) from error
        return trial

    @classmethod
    @cache
    def _adapter(cls) -> TypeAdapter[Any]:
        # Made at the first use: a DAG file does not need it.
        return TypeAdapter(cls)


@dataclass(frozen=True)
class SubmittedTrial(Trial):
    """A trial that was submitted.

    :param attempt: number of the attempt, from 1.
    :param app_handle: TorchX app handle, ``scheduler://session/app_id``.
    :param tracker_base: where this attempt's app reports its results.
    """

    operators: ClassVar[str] = "TorchXSubmitTrialOperator"

    attempt: Annotated[int, Strict(), Field(ge=1, le=MAX_COUNT)]
    app_handle: str
    tracker_base: str


@dataclass(frozen=True)
class TrialOutcome(SubmittedTrial):
    """A trial whose app has ended.

    :param trial_status: the terminal Ax ``TrialStatus`` name.
    :param app_state: the TorchX ``AppState`` name that it was mapped from.
    :param message: what the scheduler said, or why the app was cancelled; may be empty.
    """

    operators: ClassVar[str] = "TorchXTrialSensor or TorchXRunTrialOperator"

    trial_status: Annotated[str, Field(pattern=f"^({'|'.join(sorted(TRIAL_STATUSES))})$")]
    app_state: str
    message: str
