"""A user's whole path in a browser: log in, fill in the form, watch the experiment, read a trial's log."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import httpx
import psutil
import pytest
from browser import LONG, Browser
from realairflow import AirflowEnv, poll
from selenium.webdriver.common.keys import Keys

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.browser.users import token
from tests.plugin.material import SINGLE, fill

pytestmark = pytest.mark.browser

PATHS = (
    "/axtx/",
    "/axtx/static/app.js",
    "/axtx/static/plotly-basic.min.js",
    "/axtx/api/stores",
    "/axtx/api/experiments",
    "/axtx/api/dag-runs",
    "/axtx/api/experiment",
    "/axtx/api/trials",
    "/axtx/api/curves",
    "/axtx/api/compare",
    "/axtx/api/analyses",
    "/axtx/card",
)
QUERY = {"name": "none", "dag_id": "tune_from_ui", "run_id": "none", "position": "0", "before": "9"}


def answers(env: AirflowEnv, **options: dict[str, str]) -> set[int]:
    """Return the statuses with which the page's routes answer."""
    with httpx.Client(base_url=env.url, trust_env=False, **options) as client:  # type: ignore[arg-type]
        return {client.get(path, params=QUERY).status_code for path in PATHS}


def test_the_statuses_without_a_login_and_without_the_right(env: AirflowEnv, passwords: dict[str, str]) -> None:
    assert answers(env) == {401}
    norman = token(env, passwords, "norman")
    assert answers(env, headers={"Authorization": f"Bearer {norman}"}) == {403}
    assert answers(env, cookies={"_token": norman}) == {403}
    vera = token(env, passwords, "vera")
    assert answers(env, cookies={"_token": vera}) == {200, 404}  # 404: there is no such experiment


def test_the_api_server_compresses_the_pages_files(env: AirflowEnv, passwords: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {token(env, passwords, 'vera')}"}
    for name in ("app.js", "plotly-basic.min.js"):
        answer = httpx.get(f"{env.url}/axtx/static/{name}", headers=headers, trust_env=False)
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.content) > int(answer.num_bytes_downloaded)
        again = {**headers, "If-None-Match": answer.headers["etag"]}
        assert httpx.get(f"{env.url}/axtx/static/{name}", headers=again, trust_env=False).status_code == 304


def fill_in(browser: Browser, experiment: str) -> None:
    """Open the Trigger form of ``tune_from_ui``, name the experiment and start."""
    browser.open("/dags/tune_from_ui")
    browser.button("Trigger").click()
    browser.button("What is tuned").click()
    field = browser.find("#element_experiment_name")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(experiment)
    browser.button("Trigger", last=True).click()
    browser.wait(lambda: "/runs/" in browser.driver.current_url, "the page of the new DAG run")


def statuses(browser: Browser) -> list[str]:
    """Return the status of each trial as the page shows it."""
    script = "return [...document.querySelectorAll('tr[data-trial] .badge')].map((e) => e.textContent)"
    found: list[str] = browser.js(script)
    return found


def test_from_the_form_to_a_trials_log(browser: Browser, env: AirflowEnv) -> None:
    fill_in(browser, "in-the-browser")
    run_id = browser.driver.current_url.partition("/runs/")[2].split("/")[0].split("?")[0]

    # The list shows it as soon as it exists; its name leads to its own page, within Airflow's frame.
    browser.open("/plugin/experiments")
    with browser.frame():
        browser.find("tr[data-experiment='in-the-browser'] a").click()
        browser.wait(lambda: statuses(browser), "the first trial")
        assert statuses(browser) != ["completed"] * 4
        # The page refreshes without being loaded again.
        browser.js("window.sameDocument = true")
        browser.wait(lambda: statuses(browser) == ["completed"] * 4, "four completed trials", LONG)
        assert browser.js("return window.sameDocument")
        browser.find("#best-value")
        browser.wait(lambda: browser.js("return document.querySelectorAll('#charts .main-svg').length >= 3"), "charts")
        assert browser.js("return document.querySelector('#chart-objective figcaption').textContent").startswith("4 ")
    assert "experiment=in-the-browser" in browser.driver.current_url

    # A trial's details, and the log of its task through the link there.
    with browser.frame():
        browser.find("#trial-0").click()
        browser.find("#trial h2")
        assert "&trial=0" in browser.js("return window.parent.location.search")  # Airflow's own address
        browser.find("#trial a.outer[href*='.run']").click()
    browser.wait(lambda: "/tasks/tune.round_0.run/mapped/" in browser.driver.current_url, "the task's page")
    browser.wait(lambda: "local_detached://" in browser.find("body").text, "the app handle in the log")
    assert not [line for line in browser.console() if "/axtx/" in line]

    # The tab of the DAG run shows the same experiment.
    browser.open(f"/dags/tune_from_ui/runs/{run_id}")
    browser.button("Experiments", last=True).click()
    with browser.frame():
        assert browser.find("h1").text == "in-the-browser"


def links_of(env: AirflowEnv, run: str, task: str) -> dict[str, str]:
    """Return the links on the page of a task that are not empty."""
    mapped = {"map_index": 1} if "round" in task else {}
    path = f"/dags/tune_from_ui/dagRuns/{quote(run)}/taskInstances/{task}/links"
    answer = env.api.request("GET", path, params=mapped)
    return {name: url for name, url in answer["extra_links"].items() if url}


def test_operator_links_lead_to_the_trial(env: AirflowEnv, browser: Browser) -> None:
    run = env.api.trigger("tune_from_ui", {"experiment_name": "linked", "rounds": 1})
    env.api.wait_for_run("tune_from_ui", run, LONG)
    expected = {
        "tune.create": {"Experiment"},
        "tune.generate_0": {"Experiment"},
        "tune.round_0.run": {"Experiment", "Trial"},
        "best": {"Experiment"},
    }

    def found() -> dict[str, dict[str, str]] | None:
        links = {task: links_of(env, run, task) for task in expected}
        # A task pushes its links after its end: those of the last one may come later than the run's end.
        return links if {task: set(named) for task, named in links.items()} == expected else None

    links = poll(found, LONG, lambda: f"{expected}, not {[links_of(env, run, task) for task in expected]}")
    for url in (links["tune.round_0.run"]["Trial"], links["best"]["Experiment"]):
        browser.open(url.removeprefix(env.url))
        with browser.frame():
            assert browser.find("h1").text == "linked"
            shown = browser.wait(lambda: browser.js("return document.querySelector('#trials h2') !== null"), "trials")
            assert shown
            detail = browser.js("return document.querySelector('#trial h2')?.textContent ?? ''")
        assert detail.startswith("Trial 1 ") == ("trial=1" in url)


def test_another_store_is_chosen_on_the_page(env: AirflowEnv, browser: Browser) -> None:
    path = env.paths.home / "team.db"
    fill(ExperimentStore(f"sqlite:///{path}"), {**SINGLE, "name": "of-the-team"}, 3)
    connection = {"connection_id": "team", "conn_type": "ax", "schema": str(path)}
    env.api.request("POST", "/connections", json=connection)
    browser.open("/axtx/")
    browser.find("#choose-store").send_keys("team")
    browser.find("tr[data-experiment='of-the-team'] a").click()
    browser.wait(lambda: sorted(statuses(browser)) == ["completed"] * 3, "the team's trials")
    assert "conn_id=team" in browser.driver.current_url
    assert browser.find(".crumbs").text == "Experiments / team /"
    browser.find(".crumbs a").click()
    browser.find("tr[data-experiment='of-the-team']")
    browser.open("/axtx/?conn_id=nobody")
    browser.wait(lambda: "There is no such connection of type ax" in browser.find("#problem").text, "the problem")


def test_a_thousand_trials(env: AirflowEnv, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    """Shows all of them, and prints how long that takes; a slow machine does not fail the test."""
    server = psutil.Process(env.pid("api-server"))
    before = memory(server)
    store = ExperimentStore(f"sqlite:///{env.paths.home / 'axtx' / 'experiments.db'}")
    fill(store, {**SINGLE, "name": "thousand"}, 1000)
    with httpx.Client(base_url=env.url, trust_env=False) as client:
        client.cookies.set("_token", browser.driver.get_cookie("_token")["value"])  # type: ignore[index]
        calls = [client.get("/axtx/api/experiment", params={"name": "thousand"}).elapsed for _ in range(5)]
        lists = [client.get("/axtx/api/experiments").elapsed for _ in range(5)]
    drawn = [milliseconds_until_drawn(browser) for _ in range(3)]
    assert browser.js("return document.querySelectorAll('tr[data-trial]').length") == 100
    assert browser.find("#trials .pager").text.replace("\n", " ").find("page 1 of 10, 1000 trials") >= 0
    assert not browser.console()
    sizes = [f"{size / 2**20:.0f}" for size in (before, memory(server))]
    with capsys.disabled():
        print(f"\n1,000 trials: data call {least(calls)} ms, list {least(lists)} ms, drawn after {drawn} ms;", end=" ")
        print(f"API server {' -> '.join(sizes)} MiB")


def milliseconds_until_drawn(browser: Browser) -> int:
    """Load the page anew; return the time from the start of the navigation to the last chart."""
    browser.open("/axtx/?experiment=thousand")
    script = "return Number(document.querySelector('#charts')?.dataset.drawn ?? 0)"
    return round(browser.wait(lambda: browser.js(script), "the charts"))


def least(times: list[timedelta]) -> int:
    """Return the shortest time in milliseconds."""
    return round(min(times).total_seconds() * 1000)


def memory(process: psutil.Process) -> int:
    """Return the resident memory of a process and its children, in bytes."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
