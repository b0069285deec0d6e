"""The page's views in a browser: table, one trial with its log, comparison, a long experiment; what axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from fastapi import FastAPI, Request
from selenium.webdriver.common.keys import Keys

from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews
from tests.browser.served import Served, served_page
from tests.plugin.material import DAG, SEVERAL, SINGLE, fill

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
#: Installed by ``make node_modules/.installed``; MPL-2.0, not shipped.
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PHONE, DESKTOP = 400, 1280


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_page(tmp_path_factory.mktemp("page"), airflow_api) as page:
        fill(page.store, {**SINGLE, "name": "digits"}, 40, open_trials=2, steps=5)
        fill(page.store, {**SINGLE, "name": "again"}, 10, seed=2)
        fill(page.store, SEVERAL, 20)
        plan(page.store, "long", 1700)
        yield page


def plan(store: ExperimentStore, name: str, n: int) -> None:
    """Create an experiment with so many trials that have not begun."""
    store.create(name, {**SINGLE, "name": name})
    parameters = {"c": 1.0, "pixels": 3, "kernel": "rbf"}
    trials = tuple(ProposedTrial(f"{i}_0", parameters, "Sobol", {"type": "RUN"}) for i in range(n))
    store.add_trials(name, Proposal(trials, {}), task_key="task", first_slot=0, expected_version=0)


def airflow_api(root: FastAPI) -> None:
    """Stand in for the part of Airflow's API that has a task's log: it grows by two lines at each reading."""

    @root.get("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/{index}")
    def task_instance(task: str) -> dict[str, Any]:
        return {"try_number": 1}

    @root.get("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}")
    def log(request: Request, task: str, token: str = "0") -> dict[str, Any]:
        lines = [{"event": f"line {int(token) + i} of {task} <b>", "level": "info"} for i in range(2)]
        return {"content": lines, "continuation_token": str(int(token) + 2)}


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Browser]:
    with Browser(served.url, width=DESKTOP) as opened:
        yield opened


def show(browser: Browser, query: str) -> None:
    browser.open(f"/axtx/?{query}")
    browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts", 90)


def rows(browser: Browser) -> list[int]:
    """Return the indexes of the trials in the table."""
    found: list[str] = browser.js("return [...document.querySelectorAll('tr[data-trial]')].map((e) => e.dataset.trial)")
    return [int(index) for index in found]


def test_the_table_is_filtered_marked_and_saved(browser: Browser, served: Served) -> None:
    show(browser, "experiment=digits")
    browser.find("#table-filter").click()
    browser.find("#filter-m\\:accuracy").send_keys("0.7..0.8")
    browser.find("#filter-p\\:kernel").send_keys("rbf")
    values = {trial.record.index: trial for trial in ExperimentViews(served.store_url).experiment("digits").trials}
    expected = {
        index
        for index, trial in values.items()
        if trial.record.parameters["kernel"] == "rbf"
        and any(one.metric == "accuracy" and 0.7 <= one.mean <= 0.8 for one in trial.observations)
    }
    assert expected
    browser.wait(lambda: set(rows(browser)) == expected, "the filtered trials", 30)
    browser.find("#table-mark").click()
    marked = "return document.querySelector('#chart-objective .plot').data.find((one) => one.name === 'marked')?.x"
    browser.wait(lambda: set(browser.js(marked) or ()) == expected, "the marks in the chart", 60)
    browser.js(
        "HTMLAnchorElement.prototype.click = () => {};"
        "URL.createObjectURL = (blob) => { window.saved = blob.text(); return '#'; }"
    )
    browser.find("#table-csv").click()
    lines = browser.js("return window.saved").splitlines()
    assert lines[0].startswith("Trial,Status,accuracy,seconds,c,pixels,kernel,Attempts,Duration,App,Airflow")
    assert {int(line.split(",")[0]) for line in lines[1:]} == expected
    browser.find("#table-unmark").click()
    browser.wait(lambda: browser.js(marked) is None, "no marks", 60)
    browser.find(".menu summary").click()
    browser.find("#column-p\\:c").click()
    assert "c" not in browser.js("return [...document.querySelectorAll('#trials thead th')].map((e) => e.textContent)")
    assert browser.console() == []


def test_a_trial_is_shown_beside_the_best_with_its_log(browser: Browser) -> None:
    show(browser, "experiment=digits&trial=38")
    best = browser.js("return document.querySelector('#best-value + div').textContent")
    heads = browser.js("return [...document.querySelectorAll('#trial thead th')].map((e) => e.textContent)")
    assert f"Best ({best})" in heads
    assert browser.js("return document.querySelectorAll('#trial .position').length") == 2
    browser.find("#trial-log summary").click()
    log = "return document.querySelector('#trial-log pre').textContent"
    browser.wait(lambda: browser.js(log).startswith("line 0 of tune.round_0.wait <b>\nline 1"), "the log", 30)
    browser.wait(lambda: "line 5" in browser.js(log), "the log that grows", 30)
    browser.find("#close-trial").click()
    assert "trial=" not in browser.driver.current_url
    browser.find("#trial-3").click()
    browser.wait(lambda: browser.js("return document.querySelector('#chart-trial-curve .plot')?.data"), "curves", 60)
    assert browser.console() == []


def test_the_field_of_the_learning_curves_names_the_metric_that_is_drawn(browser: Browser, served: Served) -> None:
    name = fill(served.store, {**SINGLE, "name": "curves"}, 18, open_trials=1, steps=5)
    served.store.record_progress(name, 17, [Observation(17, "a_first", 1.0, None, step) for step in (1.0, 2.0)])
    show(browser, f"experiment={name}")
    browser.js("document.querySelector('#chart-curves').scrollIntoView()")
    drawn = "return document.querySelector('#chart-curves .plot')?.layout?.yaxis.title.text"
    field = "return document.querySelector('#choose-curve')?.value"
    browser.wait(lambda: browser.js(drawn) == "accuracy", "the curves", 60)
    assert browser.js(field) == "accuracy"
    browser.find("#trial-16").click()  # has no curves
    asked = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('trial=16')).length"
    browser.wait(lambda: browser.js(asked), "its curves", 60)
    browser.js("document.querySelector('#charts').dataset.drawn = ''")
    browser.find("#close-trial").click()
    browser.wait(lambda: browser.js("return document.querySelector('#charts').dataset.drawn"), "the charts", 60)
    assert (browser.js(field), browser.js(drawn)) == ("accuracy", "accuracy")


def test_experiments_are_compared(browser: Browser) -> None:
    browser.open("/axtx/")
    for name in ("digits", "again"):
        browser.find(f"tr[data-experiment='{name}'] input").click()
    browser.find("#compare").click()
    browser.wait(lambda: browser.js("return document.querySelector('#chart-best-so-far .plot')?.data"), "lines", 90)
    across = "return [...document.querySelectorAll('#choose-across option')].map((e) => e.value)"
    assert browser.js(across) == ["trials", "hours", "core-hours"]
    captions = browser.js("return [...document.querySelectorAll('#comparison caption')].map((e) => e.textContent)")
    assert captions == ["Overview", "Best parameters"]
    assert "Their definitions are the same" in browser.find("#comparison").text
    show(browser, "experiment=digits")
    browser.find("#compare-dag").click()
    browser.wait(lambda: browser.js("return document.querySelectorAll('#comparison h2').length") == 3, "tables", 60)
    assert f"The latest experiments of {DAG}" in browser.find("h1").text
    assert "objective" in browser.find("#comparison section:last-child").text
    assert browser.console() == []


def test_a_long_experiment_is_shown_before_it_is_complete(browser: Browser) -> None:
    browser.open("/axtx/?experiment=long")
    browser.wait(lambda: rows(browser), "the first trials", 90)
    browser.wait(lambda: "1700 trials" in browser.find("#trials .pager").text, "all trials", 90)
    asked = "return performance.getEntriesByType('resource').filter((e) => e.name.includes('/api/trials')).length"
    assert browser.js(asked) == 2  # 500 with the experiment, then 1000 and 200
    assert browser.console() == []


def test_a_hidden_tab_asks_for_nothing(browser: Browser) -> None:
    show(browser, "experiment=digits")
    browser.js(
        "window.asked = 0; const fetched = window.fetch;"
        "window.fetch = (...all) => { window.asked += 1; return fetched(...all); };"
        "window.hides = true; Object.defineProperty(document, 'hidden', {get: () => window.hides});"
        "document.dispatchEvent(new Event('visibilitychange')); window.dispatchEvent(new Event('refresh'));"
    )
    assert browser.js("return window.asked") == 0
    browser.js("window.hides = false; document.dispatchEvent(new Event('visibilitychange'))")
    browser.wait(lambda: browser.js("return window.asked") == 1, "the request of a visible tab", 30)


PAGES = {
    "list": "",
    "experiment": "experiment=digits&trial=16",
    "several": "experiment=tradeoff",
    "comparison": "compare=digits&compare=again",
    "empty": "conn_id=nothing",
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser: Browser, name: str, dark: bool) -> None:
    browser.theme(dark)
    browser.open(f"/axtx/?{PAGES[name]}")
    done = "return document.querySelector('main').getAttribute('aria-busy') === 'false'"
    browser.wait(lambda: browser.js(done), name, 90)
    if "experiment" in PAGES[name]:
        browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts", 90)
        browser.find("#table-filter").click()
    browser.js(AXE.read_text())
    found = browser.js("return axe.run(document).then((found) => found.violations)")
    serious = {
        one["id"]: [node["html"][:200] for node in one["nodes"][:3]]
        for one in found
        if one["impact"] in ("serious", "critical")
    }
    browser.theme(dark=False)
    assert serious == {}


@pytest.mark.parametrize("query", ["", "experiment=digits&trial=16", "compare=digits&compare=again"])
def test_a_narrow_window_does_not_scroll_sideways(served: Served, query: str) -> None:
    with Browser(served.url, width=PHONE) as phone:
        phone.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": PHONE, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        phone.open(f"/axtx/?{query}")
        done = "return document.querySelector('main').getAttribute('aria-busy') === 'false'"
        phone.wait(lambda: phone.js(done), "the page", 90)
        if query:
            phone.wait(lambda: phone.js("return document.querySelector('#charts')?.dataset.drawn"), "charts", 90)
        assert phone.js("return document.documentElement.scrollWidth") <= PHONE


def test_the_keyboard_reaches_a_trial(browser: Browser) -> None:
    show(browser, "experiment=again")
    browser.find("#trial-7").send_keys(Keys.ENTER)
    browser.wait(lambda: browser.js("return document.activeElement.textContent").startswith("Trial 7"), "the focus", 30)
