from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.xcom import SubmittedTrial, Trial, TrialOutcome

TRIAL = {"experiment": "e", "trial_index": 3, "arm_name": "3_0", "parameters": {"x": 0.1, "k": "a", "n": 4, "b": True}}
RUN = {**TRIAL, "attempt": 1, "app_handle": "local_detached://torchx/e-t3-a1", "tracker_base": "/t"}
OUTCOME = {**RUN, "trial_status": "COMPLETED", "app_state": "SUCCEEDED", "message": ""}


@pytest.mark.parametrize(("kind", "value"), [(Trial, TRIAL), (SubmittedTrial, RUN), (TrialOutcome, OUTCOME)])
def test_what_travels_in_xcom_comes_back_equal(kind: type[Trial], value: dict[str, object]) -> None:
    assert kind.from_json(json.loads(json.dumps(value))).to_json() == value


def test_a_later_stage_is_also_an_earlier_one() -> None:
    assert Trial.from_json(OUTCOME).to_json() == TRIAL
    assert SubmittedTrial.from_json({**OUTCOME, "metrics": {}}).to_json() == RUN


@pytest.mark.parametrize(
    ("kind", "value", "named"),
    [
        (Trial, None, "NoneType"),
        (Trial, "text", "str"),
        (Trial, [TRIAL], "list"),
        (Trial, {}, "experiment"),
        (Trial, {**TRIAL, "trial_index": "3"}, "trial_index"),
        (Trial, {**TRIAL, "trial_index": -1}, "trial_index"),
        (Trial, {**TRIAL, "trial_index": True}, "trial_index"),
        (Trial, {**TRIAL, "parameters": [1]}, "parameters"),
        (SubmittedTrial, TRIAL, "app_handle"),
        (TrialOutcome, RUN, "trial_status"),
        (TrialOutcome, {**OUTCOME, "trial_status": "DONE"}, "DONE"),
    ],
)
def test_a_malformed_trial_is_refused_by_name(kind: type[Trial], value: object, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named) as caught:
        kind.from_json(value)
    assert "Fix:" in str(caught.value)


def test_an_error_survives_pickling_between_processes() -> None:
    error = pickle.loads(pickle.dumps(InvalidInputError("what", fix="how")))
    assert (type(error), error.message, error.fix) == (InvalidInputError, "what", "how")
