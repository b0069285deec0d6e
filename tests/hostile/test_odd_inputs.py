"""Every line of the table of odd inputs: the right value, or an error of this package that says what is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.expressions import ExpressionError, parse_objective, parse_outcome_constraint
from airflow_provider_axtx.spec.partial import check_known
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.hostile.odd_inputs import CHANGES, PAGES, TABLE, Change, OddInput, Refused, as_text_table, counts
from tests.plugin.conftest import app, application, client_of, connections, store, url  # noqa: F401 - fixtures
from tests.plugin.material import SINGLE, fill
from tests.plugin.roles import NO_SECRETS


def named(line: OddInput) -> str:
    return re.sub(r"[^\w=,.:\[\] -]", "_", f"{line.kind}: {line.given}", flags=re.ASCII)


@pytest.mark.parametrize("line", TABLE, ids=named)
def test_the_value_or_the_error(line: OddInput, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    if not isinstance(line.expected, Refused):
        assert line.use(folder) == line.expected
        return
    with pytest.raises(AxtxError) as caught:
        line.use(folder)
    told = str(caught.value)
    assert [text for text in line.expected.told if text not in told] == []
    assert caught.value.fix
    # Every reader must be able to encode it: a log, an XCom, a page.
    assert len(told) < 20_000


def test_the_addresses_of_the_page(
    client_of: Callable[[str], TestClient],  # noqa: F811
    store: ExperimentStore,  # noqa: F811
) -> None:
    fill(store, {**SINGLE, "name": "mine"}, 2, dag_id="my_dag")
    fill(store, {**SINGLE, "name": "hidden", "description": "zugunruhe"}, 2, dag_id="secret_dag")
    client = client_of(NO_SECRETS)
    answers = [(page, client.get(f"/axtx/{page.path}", params=page.query)) for page in PAGES]
    assert [(page, answer.text) for page, answer in answers if answer.status_code != page.status] == []
    assert [page for page, answer in answers if "zugunruhe" in answer.text] == []
    asked = [answer.text for page, answer in answers if page.query.get("name") != "hidden"]
    assert not any("hidden" in text for text in asked)


def test_requests_that_change_something(
    client_of: Callable[[str], TestClient],  # noqa: F811
    store: ExperimentStore,  # noqa: F811
) -> None:
    fill(store, {**SINGLE, "name": "mine"}, 2, dag_id="my_dag")
    client = client_of("admin")

    def send(change: Change, request_id: str) -> Any:
        text = change.body if isinstance(change.body, (str, bytes)) else json.dumps(change.body)
        headers = {"Idempotency-Key": request_id, "content-type": "application/json"}
        return client.request(change.method, f"/axtx/v1/experiments/mine{change.path}", content=text, headers=headers)

    answers = [(change, send(change, f"id{i}")) for i, change in enumerate(CHANGES)]
    assert [(change, answer.text) for change, answer in answers if answer.status_code != change.status] == []
    # The experiment is shown to everybody all the same, with what was recorded.
    recorded = client.get("/axtx/v1/experiments/mine/changes").json()["changes"]
    assert len(recorded) == sum(change.status == 202 for change in CHANGES)
    assert client.get("/axtx/api/experiment", params={"name": "mine"}).status_code == 200
    assert client.get("/axtx/api/experiments").json()["total"] == 1


def test_text_that_cannot_be_encoded_takes_nothing_away(
    client_of: Callable[[str], TestClient],  # noqa: F811
    store: ExperimentStore,  # noqa: F811
) -> None:
    fill(store, {**SINGLE, "name": "odd", "description": "\ud800", "tracking_metrics": ["\udfff"]}, 2, dag_id="my_dag")
    fill(store, {**SINGLE, "name": "mine"}, 2, dag_id="my_dag")
    client = client_of("admin")
    assert [line["name"] for line in client.get("/axtx/api/experiments").json()["experiments"]] == ["mine", "odd"]
    assert client.get("/axtx/api/experiment", params={"name": "odd"}).json()["spec"]["description"] == "?"
    assert (
        client.get("/axtx/api/experiment", params={"name": "\ud800".encode("utf-8", "surrogatepass")}).status_code
        == 404
    )


def test_the_table_has_something_of_every_kind() -> None:
    found = counts()
    assert sum(found.values()) >= 300
    kinds = {kind.partition(":")[0] for kind in found}
    assert kinds >= {"definition", "form", "XCom", "results", "result file", "log", "address", "request"}
    text = as_text_table()
    assert f"{sum(found.values()):5} in all" in text
    assert text.isascii()


# ---- generated

TEXT = st.text(max_size=12) | st.sampled_from(["loss", "a", "b", "lr", "max", "{{ x }}", "1_0", "é", "\ud800", "\0"])
NUMBER = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, -1, 0.1, 1e308, math.nan, math.inf, True])
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
ANYTHING = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
EXPRESSION = st.lists(
    st.sampled_from(["loss", "lat-p50", "a b", "x", "y", "2", "0.5", "1e400", *"+-*/(),", "<=", ">=", "**"]) | TEXT,
    max_size=8,
).map(" ".join)  # fmt: skip


def sometimes(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy that gives what is right more often than anything else."""
    return st.one_of(good, good, good, ANYTHING)


PARAMETER = st.fixed_dictionaries(
    {"type": sometimes(st.sampled_from(["range", "choice", "derived"])), "name": sometimes(st.sampled_from("xyz"))},
    optional={
        "parameter_type": sometimes(st.sampled_from(["float", "int", "str", "bool"])),
        "bounds": sometimes(st.tuples(NUMBER, NUMBER).map(list)),
        "values": sometimes(st.lists(SCALAR, max_size=4)),
        "step_size": sometimes(NUMBER),
        "scaling": sometimes(st.sampled_from(["linear", "log"])),
        "is_ordered": sometimes(st.booleans()),
        "expression_str": sometimes(EXPRESSION),
        "dependent_parameters": sometimes(st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2)),
        "log_scale": ANYTHING,
        "value_type": ANYTHING,
    },
)
DEFINITION = st.fixed_dictionaries(
    {
        "name": sometimes(st.just("e")),
        "parameters": sometimes(st.lists(PARAMETER, min_size=1, max_size=3)),
        "objective": sometimes(EXPRESSION),
    },
    optional={
        "parameter_constraints": sometimes(st.lists(EXPRESSION, max_size=2)),
        "outcome_constraints": sometimes(st.lists(EXPRESSION, max_size=2)),
        "tracking_metrics": sometimes(st.lists(TEXT, max_size=3)),
        "generation": sometimes(st.dictionaries(st.sampled_from(["method", "random_seed", "factory"]), SCALAR)),
        "baseline": sometimes(st.dictionaries(st.sampled_from("xyz"), SCALAR)),
        "pruning_target_parameterization": ANYTHING,
        "early_stopping": sometimes(
            st.fixed_dictionaries({"type": st.sampled_from(["percentile", "threshold"])}, optional={"left": ANYTHING})
        ),
        "global_stopping": sometimes(st.dictionaries(st.sampled_from(["min_trials", "window_size"]), SCALAR)),
        "objectives": ANYTHING,
        "objective_name": ANYTHING,
        "surprise": ANYTHING,
    },
)  # fmt: skip

generated = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@generated
@given(DEFINITION)
def test_a_generated_definition_is_valid_or_refused(given_definition: dict[str, Any]) -> None:
    try:
        read = ExperimentSpec.load(given_definition)
    except InvalidInputError as error:
        assert error.fix
    else:
        # What is accepted survives the store, and is read by those who only read.
        stored = read.to_json()
        assert ExperimentSpec.from_store(stored).to_json() == stored
        assert read.required_metrics
    try:
        check_known(given_definition)
    except InvalidInputError as error:
        assert error.fix


@generated
@given(EXPRESSION)
def test_a_generated_expression_is_read_or_refused(text: str) -> None:
    for parse in (parse_objective, parse_outcome_constraint):
        try:
            parse(text)  # type: ignore[operator]
        except ExpressionError as error:
            assert error.text and error.fix


@generated
@given(st.dictionaries(TEXT | st.sampled_from(["loss", "loss/mean", "loss/sem"]) | st.integers(), SCALAR, max_size=5))
def test_generated_results_are_read_or_refused(reported: dict[Any, Any]) -> None:
    spec = ExperimentSpec.load({**SINGLE, "objective": "loss", "outcome_constraints": []})
    spec.unusable_results(reported)
    try:
        found = spec.check_results(reported)
    except AxtxError as error:
        assert error.fix
    else:
        assert all(math.isfinite(mean) for mean, _ in found.values())
        assert all(name.isprintable() and len(name) <= 250 for name in found)
