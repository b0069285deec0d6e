"""Airflow below the path ``/airflow`` of an nginx that is configured as ``docs/howto/production.md`` says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from browser import LONG, Browser
from realairflow import AirflowEnv, poll

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.browser.test_steering import act
from tests.engines.nginx import nginx, requests
from tests.engines.postgres import free_port
from tests.plugin.material import SINGLE, fill

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


def location_of_the_page(port: int) -> str:
    """Return the location from the documentation, for an API server on another port."""
    block = re.search(r"```nginx\n(.+?)```", (ROOT / "docs/howto/production.md").read_text(), re.DOTALL)
    assert block is not None
    assert block[1].count("127.0.0.1:8080") == 1
    return block[1].replace("127.0.0.1:8080", f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, folder: Path, port: int) -> Iterator[AirflowEnv]:
    options = {"api.base_url": f"http://127.0.0.1:{port}/airflow"}
    home = tmp_path_factory.mktemp("airflow")
    with (
        AirflowEnv(home, ROOT / "dags", options=options) as started,
        nginx(folder, port, location_of_the_page(started.port)),
    ):
        yield started


@pytest.fixture
def browser(env: AirflowEnv, port: int) -> Iterator[Browser]:
    with Browser(f"http://127.0.0.1:{port}/airflow") as opened:
        opened.login(env.username, env.password)
        yield opened


def store_of(env: AirflowEnv) -> ExperimentStore:
    """Return the experiment store of this Airflow."""
    folder = env.paths.home / "axtx"
    folder.mkdir(exist_ok=True)
    return ExperimentStore(f"sqlite:///{folder / 'experiments.db'}")


def test_the_data_through_the_proxy(env: AirflowEnv, port: int) -> None:
    store = store_of(env)
    fill(store, {**SINGLE, "name": "of-the-api"}, 3)
    credentials = {"username": env.username, "password": env.password}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/airflow", trust_env=False) as client:
        assert client.get("/axtx/v1/experiments").status_code == 401
        token = client.post("/auth/token", json=credentials).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        lines = client.get("/axtx/v1/experiments").json()["experiments"]
        assert [line["name"] for line in lines] == ["of-the-api"]
        document = client.get("/axtx/v1/openapi.json").json()
        assert document["servers"] == [{"url": "/airflow/axtx"}]
        found = client.get("/axtx/v1/experiments/of-the-api").json()
        assert len(found["trial_list"]) == 3
        wanted = {"state": "pause", "reason": "a look"}
        asked = client.patch("/axtx/v1/experiments/of-the-api", json=wanted, headers={"Idempotency-Key": "one"})
        assert asked.status_code == 202, asked.text
    assert [change.action for change in store.changes("of-the-api")] == ["pause"]


def test_the_page_its_scripts_and_the_links_of_a_task(
    env: AirflowEnv, browser: Browser, folder: Path, port: int
) -> None:
    run = env.api.trigger("tune_from_ui", {"experiment_name": "proxied", "rounds": 1})
    env.api.wait_for_run("tune_from_ui", run, 3 * LONG)

    # The list within Airflow's navigation, the experiment and its charts.
    browser.open("/plugin/experiments")
    with browser.frame():
        browser.find("tr[data-experiment='proxied'] a").click()
        browser.wait(lambda: browser.js("return document.querySelectorAll('#charts .main-svg').length >= 3"), "charts")
        browser.find("#trial-0").click()
        browser.find("#trial h2")
        # The address of Airflow's own window follows, so that it can be passed on.
        assert browser.js("return window.parent.location.pathname") == "/airflow/plugin/experiments/airflow/axtx/"
        assert "&trial=0" in browser.js("return window.parent.location.search")
        browser.find("#trial a.outer[href*='.run']").click()
    browser.wait(lambda: "/airflow/dags/tune_from_ui/runs/" in browser.driver.current_url, "the task's page")
    browser.wait(lambda: "local_detached://" in browser.find("body").text, "the app handle in the log")

    # A link on a task's page leads to the trial, below the proxy's address.
    path = f"/dags/tune_from_ui/dagRuns/{quote(run)}/taskInstances/tune.round_0.run/links"
    link = poll(lambda: trial_link(env, path), LONG, "the link of the task")
    assert link.startswith(f"http://127.0.0.1:{port}/airflow/plugin/experiments/airflow/axtx/?experiment=proxied")
    browser.driver.get(link)
    with browser.frame():
        assert browser.wait(lambda: browser.find("#trial h2").text, "the trial").startswith("Trial 1 ")
        # A request of the page that changes something.
        act(browser, "do-archive")
    assert [change.action for change in store_of(env).changes("proxied")] == ["archive"]

    # The tab of the DAG run.
    browser.open(f"/dags/tune_from_ui/runs/{run}")
    browser.button("Experiments", last=True).click()
    with browser.frame():
        assert browser.find("h1").text == "proxied"

    assert not [line for line in browser.console() if "/axtx/" in line]
    answered = requests(folder)
    assert [one for one in answered if "/axtx/" in one[0] and one[1] >= 400 and one[1] != 401] == []
    assert [one for one, _ in answered if not one.startswith("/airflow/")] == []


def trial_link(env: AirflowEnv, path: str) -> str | None:
    """Return the link to the trial of a task once the task has pushed it."""
    found: str | None = env.api.request("GET", path, params={"map_index": 1})["extra_links"].get("Trial")
    return found or None
