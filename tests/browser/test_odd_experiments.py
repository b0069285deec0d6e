"""Experiments that charts and tables are not made for, in a browser, with the page served without an Airflow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser

from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.browser.served import Served, served_page
from tests.plugin.material import SINGLE, fill

pytestmark = pytest.mark.browser

FLOAT: dict[str, Any] = {"type": "range", "parameter_type": "float", "bounds": [0.0, 1.0], "scaling": "linear"}
CHOICES = {"type": "choice", "name": "many", "parameter_type": "str", "values": [f"v{i}" for i in range(50)]}
LONG = "l" * 100


def experiment(
    store: ExperimentStore,
    name: str,
    parameters: list[dict[str, Any]],
    values: list[float | None],
    metric: str = "loss",
) -> None:
    """Make an experiment with a trial for each value; None is a failed trial."""
    spec = {"name": name, "parameters": parameters, "objective": f"-{metric}"}
    store.create(name, spec)
    task = TaskIdentity("dag", "run", "tune.round_0.submit", 0)
    trials = tuple(
        ProposedTrial(f"{i}_0", {p["name"]: _value(p, i, len(values)) for p in parameters}, "Sobol", {})
        for i in range(len(values))
    )
    store.add_trials(name, Proposal(trials, None), task_key="k", first_slot=0, expected_version=0)
    for index, value in enumerate(values):
        attempt = store.begin_attempt(name, index, scheduler="s", identity=task, tracker_root="/r")
        store.finish_attempt(
            store.record_handle(attempt, f"s://x/{name}{index}"), "FAILED" if value is None else "SUCCEEDED", ""
        )
        seen = [] if value is None else [Observation(index, metric, value)]
        status = "FAILED" if value is None else "COMPLETED"
        store.complete(name, index, status=status, observations=seen, reason="x" if value is None else None)


def _value(parameter: dict[str, Any], index: int, total: int) -> Any:
    return f"v{index % 50}" if parameter["type"] == "choice" else index / (total - 1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_page(tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.fixture(scope="module")
def store(served: Served) -> ExperimentStore:
    return served.store


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Browser]:
    with Browser(served.url) as opened:
        yield opened


def show(browser: Browser, name: str) -> None:
    """Open an experiment, and wait until its charts are drawn."""
    browser.open(f"/axtx/?experiment={name}")
    browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts", 60)
    assert browser.console() == []


def texts(browser: Browser, css: str) -> list[str]:
    """Return the text of each element."""
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    found: list[str] = browser.js(script, css)
    return found


def choose(browser: Browser, css: str, option: str) -> None:
    """Choose an option of a chart's field."""
    script = (
        "const f = document.querySelector(arguments[0]); f.value = arguments[1]; f.dispatchEvent(new Event('change'))"
    )
    browser.js(script, css, option)


def test_an_empty_list_offers_the_next_step(browser: Browser) -> None:
    browser.open("/axtx/")
    link = browser.find("a.outer")
    assert (link.text, link.get_attribute("href")) == ("tune_from_ui", f"{browser.url}/dags/tune_from_ui")
    assert browser.console() == []


def test_all_trials_have_failed(browser: Browser, store: ExperimentStore) -> None:
    experiment(store, "failed", [{**FLOAT, "name": "x"}], [None, None, None])
    store.finish("failed", "too many failures")
    show(browser, "failed")
    assert texts(browser, ".tile .badge") == ["all failed"]
    assert texts(browser, "figure h2") == ["Objective over trials", "Trials over time"]
    assert "3 without a result" in texts(browser, "figcaption")[0]


@pytest.mark.parametrize(("name", "charts"), [("no_trial", []), ("no_result", ["Trials over time"])])
def test_nothing_has_ended(browser: Browser, store: ExperimentStore, name: str, charts: list[str]) -> None:
    fill(store, {**SINGLE, "name": name}, 3 if charts else 0, open_trials=3)
    show(browser, name)
    assert texts(browser, "figure h2") == charts


def test_many_parameters(browser: Browser, store: ExperimentStore) -> None:
    parameters = [{**FLOAT, "name": f"p{i}"} for i in range(25)] + [{**CHOICES}]
    experiment(store, "many", parameters, [float(i) for i in range(300)])
    show(browser, "many")
    assert browser.js("return document.querySelector('.tiles').offsetHeight") < 320
    assert texts(browser, ".tile summary") == ["20 more"]
    assert "(at its lower bound)" in texts(browser, ".tile dd")[3]
    labels = [text for text in texts(browser, "#chart-parallel .annotation-text") if text.startswith("v")]
    assert (len(labels), labels[0], labels[-1]) == (12, "v0", "v49")
    options = texts(browser, "#choose-lines option")
    assert options == ["all", "best 100", "best 20"]
    choose(browser, "#choose-lines", "best 20")
    browser.wait(lambda: "each of 20 completed" in texts(browser, "#chart-parallel figcaption")[0], "the best 20")


def test_an_outlier_does_not_flatten_the_chart(browser: Browser, store: ExperimentStore) -> None:
    experiment(store, "outlier", [{**FLOAT, "name": "x"}], [*(math.sin(i) for i in range(30)), 1e9])
    show(browser, "outlier")
    high = "return document.querySelector('#chart-objective .plot')._fullLayout.yaxis.range[1]"
    assert browser.js(high) < 2
    assert "1 far values are outside the chart" in texts(browser, "#chart-objective figcaption")[0]
    choose(browser, "#choose-scale", "all values")
    browser.wait(lambda: browser.js(high) > 1e8, "all values")


def test_zoom_survives_a_refresh(browser: Browser, store: ExperimentStore) -> None:
    name = fill(store, {**SINGLE, "name": "zoomed"}, 20, open_trials=2)
    show(browser, name)
    low = "return document.querySelector('#chart-objective .plot')._fullLayout.xaxis.range[0]"
    browser.js("return Plotly.relayout(document.querySelector('#chart-objective .plot'), {'xaxis.range': [3.5, 6.5]})")
    drawn = browser.js("return document.querySelector('#charts').dataset.drawn")
    store.complete(name, 18, status="FAILED", reason="x")
    browser.wait(lambda: browser.js("return document.querySelector('#charts').dataset.drawn") != drawn, "a refresh", 60)
    assert browser.js(low) == 3.5


def test_a_trials_address_can_be_shared(browser: Browser, store: ExperimentStore) -> None:
    experiment(store, "addressed", [{**FLOAT, "name": "x"}], [1.0, 2.0])
    show(browser, "addressed")
    browser.find("#trial-1").click()
    browser.wait(lambda: browser.driver.current_url.endswith("?experiment=addressed&trial=1"), "the address", 10)
    assert texts(browser, "#trial a.outer") == ["DAG run", "Submit log", "App output", "Whole log"]
    run, submit, output, log = browser.js(
        "return [...document.querySelectorAll('#trial a.outer')].map((e) => e.pathname)"
    )
    assert run.endswith("/dags/dag/runs/run")
    assert submit.endswith("/tasks/tune.round_0.submit/mapped/0")
    assert output.endswith("/tasks/tune.round_0.wait/mapped/0")
    assert log == output


def test_names_that_collide_or_are_long(browser: Browser, store: ExperimentStore) -> None:
    experiment(store, LONG, [{**FLOAT, "name": "loss"}], [1.0, 2.0])
    show(browser, LONG)
    heads = texts(browser, "#trials thead th")
    assert {"loss (metric)", "loss (parameter)"} <= {head.strip(" ▾▴") for head in heads}
    browser.open("/axtx/")
    browser.find("tr[data-experiment]")
    wide = "return document.querySelector('.scroll').scrollWidth - document.querySelector('.scroll').clientWidth"
    assert browser.js(wide) <= 0
