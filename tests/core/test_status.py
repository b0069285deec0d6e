"""Statuses are enums that equal the strings in rows and JSON."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_axtx.core.status import (
    APP_STATE_TO_TRIAL_STATUS,
    AppState,
    TrialStatus,
    moves_forward,
)


def test_members_are_the_names_of_the_libraries() -> None:
    import torchx.specs
    from ax.core.trial_status import TrialStatus as AxTrialStatus

    assert {state.name for state in torchx.specs.AppState} == set(AppState)
    # Ax keeps more names for old databases; its client gives none of them.
    assert {status.name for status in AxTrialStatus} >= set(TrialStatus)


def test_terminal_members_are_those_of_the_libraries() -> None:
    import torchx.specs
    from ax.core.trial_status import TrialStatus as AxTrialStatus

    assert {s.name for s in torchx.specs.AppState if torchx.specs.is_terminal(s)} == {
        s for s in AppState if s.is_terminal
    }
    assert {s for s in TrialStatus if AxTrialStatus[s].is_terminal} == {s for s in TrialStatus if s.is_terminal}


@pytest.mark.parametrize("member", [*AppState, *TrialStatus])
def test_a_member_is_stored_and_shown_as_its_plain_string(member: AppState | TrialStatus) -> None:
    plain = member.value
    assert member == plain and hash(member) == hash(plain)
    assert json.dumps({member: member}) == json.dumps({plain: plain})
    assert f"{member} {member!r}" == f"{plain} {plain!r}"
    assert pickle.loads(pickle.dumps(member)) == plain


def test_the_mapping_reads_plain_strings() -> None:
    assert APP_STATE_TO_TRIAL_STATUS["SUCCEEDED"] is TrialStatus.COMPLETED
    assert moves_forward("STAGED", TrialStatus.RUNNING) and not moves_forward("COMPLETED", "FAILED")
