"""The JSON answers of the page's routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.records import AIRFLOW, Observation, TaskIdentity
from airflow_provider_axtx.plugin import page_data
from airflow_provider_axtx.plugin.answers import NOT_FOUND
from airflow_provider_axtx.plugin.files import STATIC
from airflow_provider_axtx.plugin.ranked import UNREADABLE
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import experiments
from tests.plugin.material import DAG, RUN, SEVERAL, SINGLE, fill


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"/axtx/api/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_line_of_the_list(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 20, open_trials=2)
    store.plan("digits", 30)
    (line,) = get(client, "experiments")["experiments"]
    completed = get(client, "experiment", name="digits")
    assert line["trial_counts"] == {"COMPLETED": 17, "FAILED": 1, "RUNNING": 2}
    assert (line["status"], line["ended"], line["trials"], line["planned_trials"]) == ("running", 18, 20, 30)
    assert line["objective"] == [{"label": "accuracy", "minimize": False}]
    best = completed["trial_list"][line["best"]["trial_index"]]
    assert line["best"]["value"] == best["metrics"]["accuracy"][0]
    assert line["last_activity_at"] >= line["created_at"]


def test_a_line_follows_its_experiment(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 4, open_trials=2)
    assert get(client, "experiments")["experiments"][0]["best"]["trial_index"] == 1
    better = [Observation(2, "accuracy", 0.999), Observation(2, "seconds", 1.0)]
    store.complete("digits", 2, status="COMPLETED", observations=better)
    assert get(client, "experiments")["experiments"][0]["best"] == {"trial_index": 2, "value": 0.999}


@pytest.mark.parametrize(
    ("ended", "planned", "stop_reason", "status"),
    [
        (0, None, None, "new"),
        (2, None, None, "idle"),
        (2, 2, None, "finished"),
        (2, 5, None, "idle"),
        (2, 5, "search space exhausted", "finished"),
    ],
)
def test_the_status_of_an_experiment_at_rest(
    client_of: Callable[[str], TestClient],
    store: ExperimentStore,
    ended: int,
    planned: int | None,
    stop_reason: str | None,
    status: str,
) -> None:
    if ended:
        fill(store, SINGLE, ended)
    else:
        store.create("digits", SINGLE)
    if planned:
        store.plan("digits", planned)
    if stop_reason:
        store.finish("digits", stop_reason)
    assert get(client_of("op"), "experiments")["experiments"][0]["status"] == status


def test_an_experiment_whose_trials_have_all_failed_is_not_just_finished(
    client: TestClient, store: ExperimentStore
) -> None:
    fill(store, SINGLE, 2, open_trials=2)
    store.finish("digits", "too many failures")
    assert get(client, "experiments")["experiments"][0]["status"] == "finished"
    for index in range(2):
        store.complete("digits", index, status="FAILED", reason="x")
    assert get(client, "experiments")["experiments"][0]["status"] == "all_failed"


def test_the_list_is_searched_and_paged(client: TestClient, store: ExperimentStore) -> None:
    for name in (*(f"Exp-{number}" for number in range(5)), "other"):
        fill(store, {**SINGLE, "name": name}, 1)
    page = get(client, "experiments", search="exp", limit=2, offset=1)
    assert (len(page["experiments"]), page["total"]) == (2, 5)
    assert client.get("/axtx/api/experiments", params={"limit": 100000}).status_code == 422


def test_a_trial_that_tasks_do_leads_to_the_first_of_them(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 17)
    identity = TaskIdentity(DAG, RUN, "tune.round_0.start", 0, 2)
    body = store.begin_attempt(
        "digits", 16, scheduler=AIRFLOW, identity=identity, tracker_root="/r", reopen_reason="again"
    )
    store.record_handle(body, f"airflow://{DAG}/tune.round_0.body.train")
    trial = get(client, "experiment", name="digits")["trial_list"][16]
    # The number of its try is not known: the page asks Airflow for the latest one.
    assert trial["attempts"][-1]["task"] == [DAG, RUN, "tune.round_0.body.train", 0, None]


def test_an_experiment_with_everything(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 18, steps=3)
    found = get(client, "experiment", name="digits")
    failed, first = found["trial_list"][16], found["trial_list"][0]
    assert (failed["status"], failed["metrics"], failed["values"]) == ("FAILED", {}, [None])
    assert failed["reason"] == "exit code 1: <b>out of memory</b>"
    assert set(first["metrics"]) == {"accuracy", "seconds"}
    assert first["metrics"]["accuracy"][1] == 0.004
    (attempt,) = first["attempts"]
    assert (attempt["number"], attempt["app_state"]) == (1, "SUCCEEDED")
    assert attempt["app_handle"].startswith("local_detached://torchx/digits-")
    assert attempt["task"] == [DAG, RUN, "tune.round_0.submit", 0, 1]
    assert found["spec"] == SINGLE
    assert found["has_curves"] is True
    values = [pair[1] for pair in found["best_so_far"] if pair[1] is not None]
    assert values[:-1] == sorted(set(values))
    assert found["best_so_far"][-1] == [17, values[-2]]
    assert all(found["trial_list"][i]["metrics"]["seconds"][0] > 50 for i in found["infeasible"])


def test_learning_curves(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 2, steps=3)
    expected = {"0": [0.0, 1.0, 2.0], "1": [0.0, 1.0, 2.0]}

    def steps(curves: dict[str, Any]) -> dict[str, list[float]]:
        return {index: [step for step, _ in points] for index, points in curves.items()}

    found = get(client, "curves", name="digits")
    assert (found["metric"], found["metrics"], steps(found["curves"])) == ("accuracy", ["accuracy"], expected)
    assert steps(get(client, "curves", name="digits", trial=1)["curves"]) == {"1": [0.0, 1.0, 2.0]}
    assert get(client, "curves", name="digits", metric="seconds")["curves"] == {}
    of_v1 = client.get("/axtx/v1/experiments/digits/curves").json()["curves"]
    assert {metric: steps(curves) for metric, curves in of_v1.items()} == {"accuracy": expected}


def test_a_long_curve_is_thinned_by_the_server(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 2, open_trials=1, steps=3)
    store.record_progress("digits", 1, [Observation(1, "accuracy", i / 1000, None, float(i)) for i in range(1000)])
    points = get(client, "experiment", name="digits", since=0, curves="accuracy")["curves"]
    assert [step for step, _ in points["0"]] == [0.0, 1.0, 2.0]
    steps = [step for step, _ in points["1"]]
    assert (steps[0], steps[-1]) == (0.0, 999.0)
    assert 190 <= len(steps) <= 202
    assert max(later - earlier for earlier, later in pairwise(steps)) <= 6


def test_a_long_experiment_comes_in_pieces(
    client: TestClient, store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer has the latest trials and waits for no judgement; the size of an answer has a bound."""
    monkeypatch.setattr(page_data, "_RANKED_AT_ONCE", 100)
    fill(store, SINGLE, 300)
    first = get(client, "experiment", name="digits", limit=50)
    assert [trial["index"] for trial in first["trial_list"]] == list(range(250, 300))
    assert (first["trials"], first["is_ranked"], first["best"], first["spec"]) == (300, False, None, SINGLE)
    assert first["trial_list"][0]["values"] == [first["trial_list"][0]["metrics"]["accuracy"][0]]
    older = get(client, "trials", name="digits", before=250, limit=200)["trial_list"]
    assert [trial["index"] for trial in older] == list(range(50, 250))
    # The next request judges all trials, and brings no more than those that may have changed.
    after = first["last_activity_at"] + 1
    refreshed = get(client, "experiment", name="digits", since=after)
    whole = get(client, "experiment", name="digits")
    assert (refreshed["is_ranked"], refreshed["best"], refreshed["trial_list"]) == (True, whole["best"], [])
    assert get(client, "experiment", name="digits", limit=50)["best"] == whole["best"]


def test_several_objectives_have_a_frontier(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SEVERAL, 16)
    found = get(client, "experiment", name="tradeoff")
    assert found["objective"] == [{"label": "accuracy", "minimize": False}, {"label": "seconds", "minimize": True}]
    assert found["best"] is None
    points = [tuple(trial["values"]) for trial in found["trial_list"]]
    expected = [
        i for i, (a, s) in enumerate(points) if not any(o != (a, s) and o[0] >= a and o[1] <= s for o in points)
    ]
    assert found["frontier"] == expected
    assert get(client, "experiments")["experiments"][0]["frontier"] == len(expected)


def test_a_refresh_brings_what_is_open_or_has_changed(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 10, open_trials=2)
    cursor = get(client, "experiment", name="digits")["last_activity_at"] + 0.001
    refreshed = get(client, "experiment", name="digits", since=cursor)
    assert [trial["index"] for trial in refreshed["trial_list"]] == [8, 9]
    observed = [Observation(8, "accuracy", 0.5), Observation(8, "seconds", 1.0)]
    store.complete("digits", 8, status="COMPLETED", observations=observed)
    refreshed = get(client, "experiment", name="digits", since=cursor)
    assert [(t["index"], t["status"]) for t in refreshed["trial_list"]] == [(8, "COMPLETED"), (9, "RUNNING")]
    assert refreshed["best_so_far"][-1][0] == 8  # of all trials, not only of those that are sent again
    assert "spec" not in refreshed
    assert refreshed["cursor"] < refreshed["last_activity_at"]


def test_the_experiments_of_a_dag_run(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 2)
    fill(store, SEVERAL, 2, dag_id="another")
    assert [line["name"] for line in get(client, "dag-runs", dag_id=DAG, run_id=RUN)["experiments"]] == ["digits"]
    assert get(client, "dag-runs", dag_id=DAG, run_id="another run") == {
        "experiments": [],
        "total": 0,
        "unreadable": {},
    }


def test_analysis_cards_are_shown_in_an_origin_of_their_own(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 1)
    assert get(client, "experiment", name="digits")["analysed_at"] is None
    cards = [
        AnalysisCard("Summary", "Summary </title>", "All", ("Overview",), "table", "<table>1</table>", {}),
        AnalysisCard("Scatter", "Scatter", "", (), "plotly", "<div>plot</div>", {}),
    ]
    store.record_analyses("digits", cards)
    assert get(client, "experiment", name="digits")["analysed_at"] is not None
    heading = {"title": "Summary </title>", "subtitle": "All", "section": ["Overview"], "kind": "table"}
    assert get(client, "analyses", name="digits")["cards"][0] == heading
    table, plot = (client.get("/axtx/card", params={"name": "digits", "position": i}) for i in range(2))
    assert "<body><table>1</table></body>" in table.text
    assert "<title>Summary &lt;/title&gt;</title>" in table.text
    assert "plotly.js v" in plot.text
    for answer in (table, plot):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts; default-src 'none';")
        assert "allow-same-origin" not in policy
    assert client.get("/axtx/card", params={"name": "digits", "position": 2}).status_code == 404


def test_an_unknown_experiment_is_answered_with_404(client: TestClient) -> None:
    answer = client.get("/axtx/api/experiment", params={"name": "<script>"})
    assert (answer.status_code, answer.json()) == (404, {"detail": NOT_FOUND})
    assert answer.headers["content-type"] == "application/json"


def test_a_store_that_cannot_be_opened_is_answered_without_details(
    client: TestClient, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path(url.removeprefix("sqlite:///")).write_bytes(b"no database" * 1000)
    answer = client.get("/axtx/api/experiments")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The experiment store cannot be read. The log of the API server says why."}
    assert f"The experiment store {url} said: file is not a database" in caplog.text


def test_a_store_that_does_not_exist_is_empty_and_is_not_created(client: TestClient, url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    for exists in (False, True):
        if exists:
            path.touch()
        assert get(client, "experiments") == {"experiments": [], "total": 0}
        assert get(client, "dag-runs", dag_id=DAG, run_id=RUN)["unreadable"] == {}
        assert client.get("/axtx/api/experiment", params={"name": "digits"}).status_code == 404
        assert path.exists() is exists
    assert path.stat().st_size == 0


def change_definition(store: ExperimentStore, name: str, text: str) -> None:
    """Write a definition as another version, or a text editor, might leave it."""
    statement = sa.update(experiments).where(experiments.c.name == name)
    store._db.write("test", lambda c: c.execute(statement.values(spec=sa.type_coerce(text, sa.Text()))))


UNREADABLE_DEFINITIONS = {
    "not JSON": "{",
    "not an object": "[1]",
    "a parameter of a newer version": json.dumps({**SINGLE, "parameters": [{"type": "quantum", "name": "q"}]}),
    "no objective": json.dumps({**SINGLE, "objective": "()"}),
    "a number too large": json.dumps({**SINGLE, "objective": f"{10**400}*accuracy"}),
}


@pytest.mark.parametrize("text", UNREADABLE_DEFINITIONS.values(), ids=UNREADABLE_DEFINITIONS)
def test_an_experiment_that_cannot_be_read_does_not_hide_the_others(
    client: TestClient, store: ExperimentStore, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, SINGLE, 3)
    fill(store, {**SINGLE, "name": "healthy", "outcome_constraints": []}, 1)
    change_definition(store, "digits", text)
    for _ in range(2):
        healthy, broken = get(client, "experiments")["experiments"]
        assert (healthy["problem"], healthy["best"]["trial_index"]) == (None, 0)
        assert (broken["name"], broken["problem"], broken["best"]) == ("digits", UNREADABLE, None)
        assert broken["trial_counts"] == {"COMPLETED": 3}
    assert len(get(client, "dag-runs", dag_id=DAG, run_id=RUN)["experiments"]) == 2
    found = get(client, "experiment", name="digits")
    assert (found["problem"], len(found["trial_list"])) == (UNREADABLE, 3)
    assert caplog.text.count("The experiment 'digits' cannot be shown.") == 1


def test_a_definition_of_a_newer_version_is_shown_without_what_is_not_known(
    client: TestClient, store: ExperimentStore
) -> None:
    fill(store, SINGLE, 3)
    parameters = [{**SINGLE["parameters"][0], "unit": "kg"}, *SINGLE["parameters"][1:]]
    newer = {**SINGLE, "quantum": True, "parameters": parameters, "generation": {"method": "fast", "qubits": 3}}
    change_definition(store, "digits", json.dumps(newer))
    (line,) = get(client, "experiments")["experiments"]
    assert (line["problem"], line["best"]["trial_index"]) == (None, 2)
    assert get(client, "experiment", name="digits")["problem"] is None


def test_numbers_that_json_does_not_have_become_null(client: TestClient, store: ExperimentStore) -> None:
    name = fill(store, {**SINGLE, "name": "huge", "objective": "10*accuracy", "outcome_constraints": []}, 1)
    store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "accuracy", 1e308)], overwrite=True)
    (line,) = get(client, "experiments")["experiments"]
    assert line["best"] == {"trial_index": 0, "value": None}
    found = get(client, "experiment", name=name)
    assert (found["trial_list"][0]["values"], found["best_so_far"]) == ([None], [[0, None]])


def test_an_answer_that_has_not_changed_is_not_sent_again(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 4, open_trials=2)
    for path in ("experiments", "experiment?name=digits", "curves?name=digits", "stores"):
        first = client.get(f"/axtx/api/{path}")
        headers = {"If-None-Match": first.headers["etag"]}
        again = client.get(f"/axtx/api/{path}", headers=headers)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    store.complete("digits", 2, status="FAILED", reason="x")
    headers = {"If-None-Match": client.get("/axtx/api/experiments").headers["etag"]}
    store.complete("digits", 3, status="FAILED", reason="x")
    assert client.get("/axtx/api/experiments", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("experiment", {"name": "digits", "since": "nan"}),
        ("experiment", {"name": "digits", "since": "inf"}),
        ("experiments", {"offset": 10**30}),
        ("experiments", {"limit": 0}),
        ("experiments", {"search": "x" * 501}),
    ],
)
def test_odd_queries_are_refused(client: TestClient, store: ExperimentStore, path: str, query: dict[str, Any]) -> None:
    fill(store, SINGLE, 1)
    assert client.get(f"/axtx/api/{path}", params=query).status_code == 422


@pytest.mark.parametrize("text", ["\x00", "\ud800", "%", "'", "_", "\U0001f600"])
def test_odd_names_are_not_found(client: TestClient, store: ExperimentStore, text: str) -> None:
    fill(store, SINGLE, 1)
    quoted = quote(text.encode("utf-8", "surrogatepass"))
    assert client.get(f"/axtx/api/experiment?name={quoted}").status_code == 404
    assert client.get(f"/axtx/api/dag-runs?dag_id={quoted}&run_id={quoted}").json()["experiments"] == []
    assert client.get(f"/axtx/api/experiments?search={quoted}z").json()["total"] == 0


@pytest.mark.parametrize("path", ["/axtx/", "/axtx/static/app.js", "/axtx/api/experiments"])
def test_every_answer_forbids_foreign_code(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_plotly_comes_from_here_and_is_kept_by_the_browser(client: TestClient) -> None:
    answer = client.get("/axtx/static/plotly-basic.min.js")
    assert answer.status_code == 200
    assert b"plotly.js (basic - minified) v" in answer.content[:100]
    assert "max-age=604800" in answer.headers["cache-control"]


def test_a_file_is_sent_again_only_when_it_has_changed(client: TestClient) -> None:
    first = client.get("/axtx/static/app.js")
    again = client.get("/axtx/static/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = client.get("/axtx/static/app.js", headers={"If-None-Match": '"of another version"'})
    assert (changed.status_code, changed.content) == (200, first.content)


@pytest.mark.parametrize(("query", "expected"), [({"experiment": "digits"}, True), ({}, False)])
def test_the_browser_requests_plotly_before_the_page_does(
    client: TestClient, query: dict[str, str], expected: bool
) -> None:
    link = client.get("/axtx/", params=query).headers.get("link", "")
    assert (link == "<static/plotly-basic.min.js>; rel=preload; as=script") is expected


@pytest.mark.parametrize("name", ["..%2fapp.py", "%2e%2e%2f__init__.py", "nothing.js", "plotly.js"])
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/axtx/static/{name}").status_code == 404


def luminance(color: str) -> float:
    """Return the relative luminance of a colour as WCAG defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", ["text", "muted", "accent", "best", "completed", "running", "failed", "abandoned"])
@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_texts_have_enough_contrast(theme: str, name: str) -> None:
    rules = (STATIC / "style.css").read_text().partition(theme)[2].partition("}")[0]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rules))
    dark, light = sorted((luminance(colors[name]), luminance(colors["page"])))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_page_does_not_name_another_host_or_write_markup() -> None:
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path.name


@pytest.mark.parametrize(
    "created_by", ["[1]", '"text"', "0", '{"dag_id": ["x"], "installation": {}, "map_index": "1"}']
)
def test_a_creator_that_cannot_be_read_does_not_hide_the_other_experiments(
    client: TestClient, store: ExperimentStore, created_by: str
) -> None:
    fill(store, SINGLE, 1)
    fill(store, {**SINGLE, "name": "other"}, 1)
    statement = sa.update(experiments).where(experiments.c.name == "digits")
    text = sa.type_coerce(created_by, sa.Text())
    store._db.write("test", lambda c: c.execute(statement.values(created_by=text)))
    assert {line["name"] for line in get(client, "experiments")["experiments"]} == {"digits", "other"}
    assert get(client, "experiment", name="digits")["problem"] is None
