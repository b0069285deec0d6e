"""The argument ``metrics``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.metric_sources import MetricSource, check_metrics, load_metrics


def test_sources_are_read() -> None:
    given = {
        "acc": {"regex": r"acc=(\S+)"},
        "loss": {"json": "out/results.json", "key": "val.loss", "step": "epoch", "take": "min"},
        "f1": {"csv": "log-{trial_idx}.csv", "take": 3},
        "auc": {"tensorboard": "runs", "key": "val/auc", "take": "max"},
        "mae": {"mlflow": "val_mae", "tracking_uri": "http://mlflow:5000", "take": "min"},
    }
    assert load_metrics(given) == {
        "acc": MetricSource("regex", r"acc=(\S+)", "acc"),
        "loss": MetricSource("json", "out/results.json", "val.loss", "epoch", "min"),
        "f1": MetricSource("csv", "log-{trial_idx}.csv", "f1", take=3.0),
        "auc": MetricSource("tensorboard", "runs", "val/auc", take="max"),
        "mae": MetricSource("mlflow", "val_mae", "mae", take="min", tracking_uri="http://mlflow:5000"),
    }
    assert load_metrics(json.loads(json.dumps(check_metrics(given)))) == load_metrics(given)


@pytest.mark.parametrize("given", [None, {}])
def test_nothing_is_no_source(given: Any) -> None:
    assert check_metrics(given) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("acc", "metrics must be an object"),
        ([1], "metrics must be an object"),
        ({"acc": "acc=(.*)"}, "must name one of regex, json, csv, tensorboard, mlflow"),
        ({"acc": {"regexp": "(x)"}}, "must name one of"),
        ({"acc": {"regex": "(x)", "json": "a.json"}}, "must name one of"),
        ({"acc": {"regex": "(x"}}, "correct the pattern"),
        ({"acc": {"regex": "acc=.*"}}, "put the number in parentheses"),
        ({"acc": {"regex": r"(?P<step>\d+)"}}, "put the number in parentheses"),
        ({"acc": {"regex": "(x)", "take": "best"}}, "one of last, max, min"),
        ({"acc": {"regex": "(x)", "takes": "max"}}, "did you mean 'take'?"),
        ({"acc": {"regex": "(x)", "step": "epoch"}}, "known: regex, take"),
        ({"acc": {"json": 3}}, "write it as text"),
        ({"acc": {"json": "a.json", "key": 3}}, "write it as text"),
        *(({"acc": {"json": path}}, "tracker base") for path in ("/a", "~/a", "../a", "a/../../b", "s3://b/a", "a\0")),
        ({"acc": {"mlflow": "acc", "key": "acc"}}, "known: mlflow, tracking_uri, take"),
        ({"acc": {"mlflow": "acc", "tracking_uri": "http://me:secret@mlflow"}}, "MLFLOW_TRACKING_PASSWORD"),
        (
            {"a": {"mlflow": "a"}, "b": {"mlflow": "b", "tracking_uri": "http://mlflow"}},
            "give all metrics of kind mlflow the same one",
        ),
        ({"acc": {"csv": "{lr}.csv"}}, "known placeholders are trial_idx, experiment_name"),
    ],
)
def test_what_cannot_be_used_is_named(given: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        check_metrics(given)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("source", "has_steps"),
    [
        ({"regex": "(x)"}, False),
        ({"regex": r"(?P<step>\d+) (x)"}, True),
        ({"regex": r"(?<step>\d+) (x)"}, True),
        ({"json": "a"}, False),
        ({"json": "a", "step": "epoch"}, True),
        ({"tensorboard": "runs"}, True),
        ({"mlflow": "acc"}, True),
    ],
)
def test_which_sources_give_a_curve(source: dict[str, Any], has_steps: bool) -> None:
    assert load_metrics({"acc": source})["acc"].has_steps is has_steps
