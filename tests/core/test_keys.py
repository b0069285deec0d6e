from __future__ import annotations

import re

import pytest

from airflow_provider_axtx.core import keys

USABLE_EVERYWHERE = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")


@pytest.mark.parametrize(
    "experiment",
    ["digits", "Digits Tuning", "9-lives", "", "数字", "a" * 100, "x--y..z", "manual__2026-11-23T00:00:00+00:00"],
)
@pytest.mark.parametrize(("index", "attempt"), [(0, 1), (99999, 123)])
def test_submission_key_is_usable_as_an_app_name_everywhere(experiment: str, index: int, attempt: int) -> None:
    key = keys.submission_key(experiment, "uid", index, attempt)
    assert len(key) <= keys.MAX_SUBMISSION_KEY
    assert USABLE_EVERYWHERE.match(key), key
    assert key.endswith(f"-t{index}-a{attempt}")


@pytest.mark.parametrize("experiment", ["digits", "a" * 100, "数字", "x--y..z"])
@pytest.mark.parametrize("length", [24, 25, 30, 40])
def test_cut_key_stays_unique_and_usable(experiment: str, length: int) -> None:
    made = [keys.submission_key(experiment, uid, 99999, attempt) for uid in ("u", "v") for attempt in (1, 123)]
    cut = [keys.cut_submission_key(key, length) for key in made]
    assert all(len(key) <= length and USABLE_EVERYWHERE.match(key) for key in cut)
    assert len(set(cut)) == len(made)
    assert all(keys.shortest_cut(key) <= 24 for key in made)
    assert [keys.cut_submission_key(key, length) for key in cut] == cut


def test_any_other_key_can_be_cut() -> None:
    cut = {keys.cut_submission_key(f"{'some-name-' * 5}{n}", 20) for n in range(100)}
    assert len(cut) == 100
    assert all(len(key) <= 20 and USABLE_EVERYWHERE.match(key) for key in cut)


def test_submission_keys_of_two_stores_differ() -> None:
    assert keys.submission_key("digits", "uid-1", 0, 1) != keys.submission_key("digits", "uid-2", 0, 1)


def test_names_that_share_a_slug_have_different_keys() -> None:
    assert keys.submission_key("a b", "uid", 0, 1) != keys.submission_key("a-b", "uid", 0, 1)


def test_request_key_is_the_same_for_every_retry_and_differs_by_slot() -> None:
    task = keys.task_key(keys.dag_run_key("dag", "run"), "task", 3)
    assert keys.request_key(task, 0) == keys.request_key(keys.task_key(keys.dag_run_key("dag", "run"), "task", 3), 0)
    assert keys.request_key(task, 0) != keys.request_key(task, 1)


def test_a_long_request_key_fits_an_index_and_stays_unique() -> None:
    task = keys.task_key(keys.dag_run_key("d" * 250, "r" * 250), "t" * 250, 0)
    made = {keys.request_key(task, slot) for slot in range(100)}
    assert len(made) == 100
    assert max(map(len, made)) <= 200


@pytest.mark.parametrize(
    ("explicit", "shared", "base"),
    [
        (None, False, "/trackers/KEY"),
        (None, True, "/trackers/KEY"),
        ("", True, "/trackers/KEY"),
        ("s3://bucket/mine/", False, "s3://bucket/mine/KEY"),
        ("s3://bucket/mine/", True, "s3://bucket/mine/"),
    ],
)
def test_tracker_base_holds_the_key_unless_it_is_shared(explicit: str | None, shared: bool, base: str) -> None:
    assert keys.tracker_base_for("KEY", "/trackers/", explicit, shared=shared) == base


def test_every_attempt_has_a_tracker_base_of_its_own() -> None:
    bases = {keys.attempt_tracker_base("s3://bucket/root/", "e", "uid", 0, attempt) for attempt in (1, 2, 3)}
    assert len(bases) == 3
    assert all(base.startswith("s3://bucket/root/e-") for base in bases)


def test_two_installations_and_a_dag_run_that_was_created_again_have_keys_of_their_own() -> None:
    made = {
        keys.dag_run_key("dag", "run"),
        keys.dag_run_key("dag", "run", "one"),
        keys.dag_run_key("dag", "run", "other"),
        keys.dag_run_key("dag", "run", "one", 1),
        keys.dag_run_key("dag", "run", "", 1),
    }
    assert len(made) == 5
