"""A user steers an experiment on its page: what the dialogs say, what is recorded, and who sees no button."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from browser import Browser
from realairflow import AirflowEnv
from selenium.webdriver.common.keys import Keys

from airflow_provider_axtx.core.steering import Action, Change
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.browser.served import Served, served_page
from tests.browser.users import token
from tests.plugin.material import SINGLE, fill

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_page(tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.fixture(scope="module")
def browser_of_page(served: Served) -> Iterator[Browser]:
    with Browser(served.url) as opened:
        yield opened


@pytest.fixture
def page(served: Served, browser_of_page: Browser, request: pytest.FixtureRequest) -> Browser:
    """The page of an experiment with 18 trials, of which 16 failed and 17 runs, named after the test."""
    served.role = "admin"
    fill(served.store, {**SINGLE, "name": request.node.name}, 18, open_trials=1)
    show(browser_of_page, request.node.name)
    return browser_of_page


def show(browser: Browser, name: str) -> None:
    browser.open(f"/axtx/?experiment={name}")
    browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts", 60)


def act(browser: Browser, button: str, **fields: str) -> str:
    """Press a button, fill in its dialog and confirm it; return what the dialog has said."""
    browser.find(f"#{button}").click()
    said = browser.find("#dialog-text").text
    for name, value in fields.items():
        field = browser.find(f"dialog [name='{name}']")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(value or Keys.DELETE)
    browser.find("dialog button[type=submit]").click()
    browser.wait(lambda: not browser.js("return document.querySelector('dialog') !== null"), "the dialog to close", 30)
    return said


def last(store: ExperimentStore, name: str) -> Change:
    return store.changes(name)[-1]


def test_pause_resume_extend_drain_and_stop(page: Browser, served: Served, request: pytest.FixtureRequest) -> None:
    store, name = served.store, request.node.name
    said = act(page, "do-pause", reason="the cluster is needed")
    assert said == "1 app is live now. It goes on to its end. No other app is started until you resume the experiment."
    asked = last(store, name)
    assert (asked.action, asked.reason, asked.requested_by, asked.via) == (
        "pause",
        "the cluster is needed",
        "vera",
        "page",
    )
    page.wait(lambda: "Paused by vera" in page.find("#wanted").text, "what is wanted", 30)
    assert page.find("#wanted .badge").text == "pausing"
    act(page, "do-resume")
    assert last(store, name).action == "run"
    act(page, "do-extend", max_trials="60", deadline="2040-01-01T00:00:00+00:00")
    assert last(store, name).arguments["limits"] == {"max_trials": 60, "deadline": 2208988800.0}
    page.wait(lambda: "of 60" in page.find("#overview").text, "the new plan", 30)
    act(page, "do-extend", max_trials="", deadline="")
    assert last(store, name).arguments["limits"] == {"max_trials": None, "deadline": None}
    store.plan(name, 40)
    page.wait(lambda: "of 40" in page.find("#overview").text, "the plan of the DAG", 30)
    act(page, "do-extend", max_seconds="3600")
    assert last(store, name).arguments["limits"] == {"max_seconds": 3600}
    act(page, "do-drain")
    assert last(store, name).action == "drain"
    said = act(page, "do-stop")
    assert said == "1 app is live now. It is cancelled, and its trial is abandoned. The experiment ends."
    assert last(store, name).action == "stop"
    page.wait(lambda: page.find("#wanted .badge").text == "stopping", "the new status", 30)
    assert [line for line in page.console() if "/axtx/" in line] == []


def test_a_trial_by_hand_begins_with_the_parameters_of_a_trial(
    page: Browser, served: Served, request: pytest.FixtureRequest
) -> None:
    store, name = served.store, request.node.name
    parameters = store.trial(name, 3).parameters
    page.find("#trial-3").click()
    act(page, "trial-do-queue", **{"p:pixels": "12"})
    queued = last(store, name)
    assert queued.action == Action.QUEUE_TRIAL
    assert queued.arguments["parameters"] == {**parameters, "pixels": 12}
    # A value that does not fit stays in the dialog with the reason.
    page.find("#do-queue").click()
    field = page.find("dialog [name='p:pixels']")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("1000")
    page.find("dialog button[type=submit]").click()
    page.wait(lambda: "pixels" in page.find("dialog [role=alert]").text, "the reason", 30)
    page.find("dialog").send_keys(Keys.ESCAPE)
    page.wait(lambda: page.js("return document.activeElement.id") == "do-queue", "the focus", 30)
    assert len(store.changes(name)) == 1
    act(page, f"withdraw-{queued.position}")
    assert store.steering(name).open_requests == ()


def test_a_trial_by_hand_has_only_the_parameters_that_exist_with_its_values(
    browser_of_page: Browser, served: Served, request: pytest.FixtureRequest
) -> None:
    served.role, name = "admin", request.node.name
    model = {"type": "choice", "name": "kernel", "parameter_type": "str", "values": ["rbf", "sigmoid"]}
    dependent = {**model, "dependent_parameters": {"rbf": ["c"], "sigmoid": ["pixels"]}}
    served.store.create(name, {**SINGLE, "name": name, "parameters": [*SINGLE["parameters"][:2], dependent]})
    browser_of_page.open(f"/axtx/?experiment={name}")
    browser_of_page.find("#do-queue").click()
    shown = "return [...document.querySelectorAll('dialog .field:not([hidden])')].map((one) => one.lastChild.name)"
    assert browser_of_page.js(shown) == ["p:c", "p:kernel", "reason"]
    browser_of_page.find("dialog [name='p:kernel']").send_keys("sigmoid")
    browser_of_page.wait(lambda: browser_of_page.js(shown) == ["p:pixels", "p:kernel", "reason"], "other fields", 30)
    browser_of_page.find("dialog button[type=submit]").click()
    browser_of_page.wait(lambda: served.store.changes(name), "the change", 30)
    assert last(served.store, name).arguments["parameters"] == {"pixels": 33, "kernel": "sigmoid"}


def test_one_trial_is_stopped_and_another_runs_again(
    page: Browser, served: Served, request: pytest.FixtureRequest
) -> None:
    store, name = served.store, request.node.name
    page.find("#trial-17").click()
    assert "Its app is live and is cancelled." in act(page, "trial-do-stop", reason="diverges")
    assert (last(store, name).action, last(store, name).trial_index) == (Action.STOP_TRIAL, 17)
    page.wait(lambda: "A request for this trial is open." in page.find("#trial").text, "the open request", 30)
    page.find("#trial-16").click()
    act(page, "trial-do-retry")
    assert (last(store, name).action, last(store, name).trial_index) == (Action.RETRY_TRIAL, 16)
    assert "2 open" in page.wait(lambda: page.find("#steering summary").text, "the list of changes")


def test_notes_tags_and_the_archive(page: Browser, served: Served, request: pytest.FixtureRequest) -> None:
    store, name = served.store, request.node.name
    act(page, "do-note", text="<b>Too high</b> a rate")
    act(page, "do-tags", tags="night, gpu")
    page.wait(lambda: page.find("#steering .tag").text == "night", "the tag", 30)
    page.find("#steering summary").click()
    assert "vera wrote: <b>Too high</b> a rate" in page.find(".history").text
    act(page, "do-archive")
    assert store.steering(name).archived
    page.open("/axtx/")
    page.wait(lambda: page.js("return document.querySelector('h1')?.textContent") == "Experiments", "the list", 30)
    assert page.js(f"return document.querySelector('[data-experiment=\"{name}\"]')") is None
    page.find("#show-archived").click()
    page.find(f"[data-experiment='{name}'] .tag")


def test_a_deletion_is_asked_for_once_nothing_runs_and_can_be_withdrawn(
    page: Browser, served: Served, request: pytest.FixtureRequest
) -> None:
    store, name = served.store, request.node.name
    page.find("#do-delete").click()
    page.find("dialog button[type=submit]").click()
    page.wait(lambda: "trial 17 (RUNNING)" in page.find("dialog [role=alert]").text, "the refusal", 30)
    page.find("dialog").send_keys(Keys.ESCAPE)
    store.finish_attempt(store.attempts(name)[-1], "FAILED", "")
    store.complete(name, 17, status="FAILED")
    said = act(page, "do-delete")
    assert "removes it with its trials" in said
    assert (last(store, name).action, store.to_be_deleted()) == (Action.DELETE, {name})
    page.wait(lambda: page.js("return document.querySelector('#do-delete') === null"), "the button to go", 30)
    act(page, f"withdraw-{last(store, name).position}")
    assert store.to_be_deleted() == set()


def test_the_definition_is_changed_and_an_explanation_asked_for(
    page: Browser, served: Served, request: pytest.FixtureRequest
) -> None:
    store, name = served.store, request.node.name
    act(page, "do-define", **{"bounds:pixels": "4, 128", "frozen:kernel": '"rbf"'})
    changed = {"parameters": {"pixels": {"bounds": [4, 128]}, "kernel": {"frozen_value": "rbf"}}}
    assert (last(store, name).action, last(store, name).arguments) == (
        Action.CHANGE_DEFINITION,
        {"changes": changed},
    )
    # What Ax cannot change stays in the dialog with the reason.
    page.find("#do-define").click()
    field = page.find("dialog [name='bounds:pixels']")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("9, 2")
    page.find("dialog button[type=submit]").click()
    page.wait(lambda: "the lower bound must be below" in page.find("dialog [role=alert]").text, "the reason", 30)
    page.find("dialog").send_keys(Keys.ESCAPE)
    act(page, "do-explain", reason="why so slow?")
    assert (last(store, name).action, last(store, name).reason) == (Action.ANALYZE, "why so slow?")
    page.wait(lambda: "2 open" in page.find("#steering summary").text, "the open requests", 30)


def test_a_viewer_sees_what_is_wanted_and_no_button(
    page: Browser, served: Served, request: pytest.FixtureRequest
) -> None:
    act(page, "do-pause")
    served.role = "viewer"
    show(page, request.node.name)
    assert "Paused by vera" in page.find("#wanted").text
    page.find("#trial-17").click()
    page.find("#copy-JSON")
    assert page.js("return document.querySelectorAll('[id^=do-], [id^=trial-do-], [id^=withdraw-]').length") == 0


def test_the_keyboard_is_enough(page: Browser, served: Served, request: pytest.FixtureRequest) -> None:
    page.find("#do-pause").send_keys(Keys.ENTER)
    page.find("dialog [name=reason]").send_keys("by keyboard", Keys.ENTER)
    page.wait(lambda: page.js("return document.activeElement.id") in ("do-resume", ""), "the end of the dialog", 30)
    page.wait(lambda: served.store.steering(request.node.name).state == Action.PAUSE, "the change", 30)


def test_parameters_are_copied_as_json_flags_and_python(page: Browser, served: Served, request: Any) -> None:
    parameters = served.store.trial(request.node.name, 2).parameters
    script = "navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }"
    page.js(script)
    page.find("#trial-2").click()

    def copied(name: str) -> str:
        page.find(f"#copy-{name}").click()
        text: str = page.wait(lambda: page.js("const text = window.copied; window.copied = ''; return text"), name, 30)
        return text

    assert json.loads(copied("JSON")) == parameters
    expected = [f"--{name}={value}" for name, value in parameters.items()]
    assert copied("flags").split() == expected
    assert eval(copied("Python"), {}) == parameters


#: Each change that the page sends: method, path below the experiment, body.
ACTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{state: ("PATCH", "", {"state": state}) for state in ("pause", "run", "drain", "stop")},
    "extend": ("PATCH", "", {"limits": {"max_trials": 9}}),
    "tags": ("PATCH", "", {"tags": ["x"]}),
    "archive": ("PATCH", "", {"archived": True}),
    "note": ("POST", "/notes", {"text": "x"}),
    "queue": ("POST", "/trials", {"parameters": {"c": 1.0, "pixels": 3, "kernel": "rbf"}}),
    "stop a trial": ("POST", "/trials/4/stop", {}),
    "run a trial again": ("POST", "/trials/2/retry", {}),
    "the definition": ("PATCH", "/definition", {"parameters": {"c": {"frozen_value": 2.0}}}),
    "explain": ("POST", "/explanation", {}),
    "delete": ("DELETE", "", {}),
}


def refused(env: AirflowEnv, token: str | None) -> set[int]:
    """Return the statuses with which each change of the experiment ``steered`` is answered."""
    headers = {"Idempotency-Key": "x"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    with httpx.Client(base_url=env.url, trust_env=False, headers=headers) as client:
        return {
            client.request(method, f"/axtx/v1/experiments/steered{path}", json=body).status_code
            for method, path, body in ACTIONS.values()
        }


def test_a_user_steers_within_airflow(env: AirflowEnv, passwords: dict[str, str]) -> None:
    """The experiment of a DAG that ``olga`` may not read: each user sees and may do what Airflow says."""
    folder = env.paths.home / "axtx"
    folder.mkdir(exist_ok=True)  # no task has run yet
    store = ExperimentStore(f"sqlite:///{folder / 'experiments.db'}")
    fill(store, {**SINGLE, "name": "steered"}, 5, open_trials=2, dag_id="secret_dag")
    statuses = {user: refused(env, token(env, passwords, user)) for user in ("vera", "olga", "norman")}
    assert statuses == {"vera": {403}, "olga": {404}, "norman": {403}}
    assert refused(env, None) == {401}
    assert store.changes("steered") == []
    with Browser(env.url) as browser:
        browser.login("olga", passwords["olga"])
        browser.open("/axtx/?experiment=steered")
        browser.wait(lambda: "There is no such experiment" in browser.find("#problem").text, "the refusal", 60)
    for user in ("vera", "admin"):
        with Browser(env.url) as browser:
            browser.login(user, passwords[user])
            browser.open("/plugin/experiments")
            with browser.frame():
                browser.find("tr[data-experiment='steered'] a").click()
                browser.find("#trial-4").click()
                browser.find("#trial h2")
                steers(browser, store) if user == "admin" else sees(browser)
    asked = [(change.action, change.requested_by) for change in store.changes("steered")]
    expected = (
        *("pause", "run", "limits", "note", "queue_trial", "stop_trial", "change_definition", "analyze"),
        *("tags", "archive", "unarchive", "stop", "delete"),
    )
    assert asked == [(action, "admin") for action in expected]


def sees(browser: Browser) -> None:
    """The page of a viewer has no button that changes anything."""
    assert browser.js("return document.querySelectorAll('[id^=do-], [id^=trial-do-]').length") == 0


def steers(browser: Browser, store: ExperimentStore) -> None:
    """Carry out each action of the page."""
    assert act(browser, "do-pause").startswith("2 apps are live now. They go on to their end.")
    act(browser, "do-resume")
    act(browser, "do-extend", max_trials="9")
    act(browser, "do-note", text="looks good")
    act(browser, "do-queue")
    act(browser, "trial-do-stop")
    act(browser, "do-define", objective="-accuracy")
    act(browser, "do-explain")
    act(browser, "do-tags", tags="night")
    act(browser, "do-archive")
    browser.wait(lambda: "Take out" in browser.find("#do-archive").text, "the archive", 60)
    act(browser, "do-archive")
    act(browser, "do-stop")
    browser.wait(lambda: browser.find("#wanted .badge").text == "stopping", "the status", 60)
    for attempt in store.attempts("steered"):
        if attempt.finished_at is None:
            store.finish_attempt(attempt, "CANCELLED", "")
            store.complete("steered", attempt.trial_index, status="ABANDONED")
    act(browser, "do-delete")
