"""``airflow ax pause``, ``stop``, ``queue`` and the others: what they record, print and refuse."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.test_cli import Ax, ax, digits

__all__ = ["ax", "digits"]


@pytest.fixture
def store(digits: Path) -> ExperimentStore:
    """The store of the experiment ``digits``, with a third trial that has failed and a fourth that runs."""
    from airflow_provider_axtx.lifecycle.generate import generate_trials
    from tests.store.material import begin

    found = ExperimentStore(f"sqlite:///{digits / 'digits.db'}")
    generate_trials(found, "digits", 2, task_key="dag/run/more/-1")
    found.complete("digits", 2, status="FAILED", reason="exit code 1")
    found.record_handle(begin(found, "digits", 3), "local://s/app")
    return found


COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "pause": (("digits",), {"action": "pause"}),
    "resume": (("digits",), {"action": "run"}),
    "drain": (("digits",), {"action": "drain"}),
    "stop": (("digits",), {"action": "stop", "trial": None}),
    "extend": (
        ("digits", "--max-trials", "40", "--max-seconds", "dag"),
        {"action": "limits", "arguments": {"limits": {"max_trials": 40, "max_seconds": None}}},
    ),
    "queue": (("digits", '{"x": 0.25}'), {"action": "queue_trial", "arguments": {"parameters": {"x": 0.25}}}),
    "change": (
        ("digits", '{"parameters": {"x": {"bounds": [0, 2]}}}'),
        {"action": "change_definition"},
    ),
    "analyze": (("digits",), {"action": "analyze"}),
    "retry": (("digits", "2"), {"action": "retry_trial", "trial": 2}),
    "tag": (("digits", "night", "gpu"), {"action": "tags", "arguments": {"tags": ["night", "gpu"]}}),
    "archive": (("digits",), {"action": "archive"}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_records_and_prints_its_change(ax: Ax, store: ExperimentStore, name: str) -> None:
    arguments, expected = COMMANDS[name]
    why = [] if name == "tag" else ["--reason", "why"]
    out, _ = ax(name, *arguments, *why, "--request-id", "one", "--output", "json")
    (row,) = json.loads(out)
    assert row | expected == row
    assert (row["requested_by"], row["via"], row["reason"]) == (getpass.getuser(), "cli", "why" if why else "")
    again, _ = ax(name, *arguments, "--request-id", "one", "--output", "yaml")
    assert yaml.safe_load(again) == [row]
    assert len(store.changes("digits")) == 1
    assert row["action"] in ax("changes", "digits")[0]


@pytest.mark.usefixtures("store")
def test_a_user_without_a_name_is_recorded_by_the_uid(ax: Ax, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)
    (row,) = json.loads(ax("pause", "digits", "--output", "json")[0])
    assert row["requested_by"] == "2147483643"


def test_one_trial_is_stopped_and_what_was_asked_for_withdrawn(ax: Ax, store: ExperimentStore) -> None:
    (row,) = json.loads(ax("stop", "digits", "--trial", "3", "-o", "json")[0])
    assert (row["action"], row["trial"], row["open"]) == ("stop_trial", 3, True)
    ax("withdraw", "digits", str(row["position"]))
    assert store.steering("digits").open_requests == ()
    with pytest.raises(SystemExit, match="is not open"):
        ax("withdraw", "digits", str(row["position"]))


def test_a_trial_is_queued_like_another_one(ax: Ax, store: ExperimentStore) -> None:
    ax("queue", "digits", "--like", "1")
    assert store.changes("digits")[0].arguments == {"parameters": store.trial("digits", 1).parameters}


def test_a_repeated_command_records_nothing_more_when_the_definition_is_another_one_by_now(
    ax: Ax, store: ExperimentStore
) -> None:
    command = ("queue", "digits", '{"x": 0.25}', "--request-id", "one", "--output", "json")
    first, _ = ax(*command)
    definition = store.spec("digits")
    definition["parameters"][0]["bounds"] = [0.5, 1]
    new = NewChange(Action.CHANGE_DEFINITION, "narrower", "DAG nightly", "dag", arguments={"changes": {}})
    version = store.snapshot("digits").version
    store.change_definition("digits", new, definition, differences=["x"], expected_version=version)
    assert ax(*command)[0] == first
    with pytest.raises(SystemExit, match="was used for another change"):
        ax("queue", "digits", '{"x": 0.75}', "--request-id", "one")


def test_a_note_keeps_its_text_and_the_archive_is_left_again(ax: Ax, store: ExperimentStore) -> None:
    ax("note", "digits", "Too high a rate.")
    ax("archive", "digits")
    ax("archive", "digits", "--undo")
    assert [change.action for change in store.changes("digits")] == ["note", "archive", "unarchive"]
    assert store.changes("digits")[0].arguments == {"text": "Too high a rate."}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("queue", "digits"), "No parameters are given"),
        (("queue", "digits", "[1]"), "not an object"),
        (("queue", "digits", "{x"), "not valid JSON"),
        (("queue", "digits", '{"x": 7}'), "x"),
        (("extend", "digits"), "No limit is given"),
        (("extend", "digits", "--max-trials", "0"), "max_trials"),
        (("extend", "digits", "--deadline", "tomorrow"), "time zone"),
        (("retry", "digits", "0"), "only a FAILED one"),
        (("stop", "digits", "--trial", "0"), "cannot be stopped"),
        (("pause", "nothing"), "no experiment 'nothing'"),
        (("note", "digits", " "), "The note"),
    ],
)
@pytest.mark.usefixtures("store")
def test_what_cannot_be_done_is_an_error_with_its_fix(ax: Ax, arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(SystemExit, match=f"{text}.*Fix:"):
        ax(*arguments)
