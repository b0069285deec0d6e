"""The arithmetic of the benchmarks, and the guard's comparison with the baseline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import benchmarks.__main__ as runner
from benchmarks import guard, store
from benchmarks.harness import Check, Report, Samples, Table, interleaved


def test_sides_take_turns_and_each_turn_begins_with_another() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: float(len(order.append(name) or order)) for name in "ab"}
    found = interleaved(sides, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found["a"].values == (1.0, 4.0, 5.0)
    assert (found["a"].median, found["a"].shown("s")) == (4.0, "4.000 s (1.000 to 5.000)")


@pytest.mark.parametrize(
    ("value", "at_least", "kept"), [(5, False, True), (6, False, False), (5, True, True), (4, True, False)]
)
def test_a_promise_is_kept_at_its_limit(value: float, at_least: bool, kept: bool) -> None:
    check = Check("trials", value, 5, at_least)
    assert check.kept is kept
    assert check.line().startswith("kept" if kept else "MISSED")


def test_a_report_keeps_every_measurement_and_the_machine(tmp_path: Path) -> None:
    report = Report("store", checks=[Check("ratio", 2.0, 1.0)], tables=[Table("t", ["a", "b"], [["1", "2"]])])
    report.add("side", Samples((0.3, 0.1, 0.2)))
    report.save(tmp_path)
    saved = json.loads((tmp_path / "store.json").read_text())
    assert saved["figures"] == {"side": [0.3, 0.1, 0.2]}
    assert saved["checks"][0]["kept"] is False
    assert saved["machine"]["cores"] >= 1
    assert "| 1 | 2 |" in saved["text"]


def test_the_page_keeps_the_results_of_benchmarks_that_were_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text("Before\n\n<!-- results -->\n\n### parse (quick), 5 s\n\nold\n\n<!-- end of results -->\n\nAfter\n")
    monkeypatch.setattr(runner, "DOCS", page)
    monkeypatch.setattr(runner, "RESULTS", tmp_path)
    for times in (1, 2):
        Report("store", seconds=7, tables=[Table("t", ["a"], [[str(times)]])]).save(tmp_path)
        assert runner.main(["--docs"]) == 0
    before, store_section, parse_section = re.split(r"^### ", page.read_text(), flags=re.MULTILINE)
    assert before == "Before\n\n<!-- results -->\n\n"
    assert re.match(r"store, 7 s\n\nMeasured on \d{4}-\d\d-\d\d: .*\n\n\*\*t\*\*\n\n(.*\n)*\| 2 \|\n\n$", store_section)
    assert parse_section == "parse (quick), 5 s\n\nold\n\n<!-- end of results -->\n\nAfter\n"


BASELINE = {"counts": {"queries of facts": 4, "modules loaded by wait": 100}, "ratios": {"store": 3.0}}


@pytest.mark.parametrize(
    ("kind", "name", "now", "worse"),
    [
        ("counts", "queries of facts", 4, False),
        ("counts", "queries of facts", 5, True),
        ("counts", "modules loaded by wait", 110, False),
        ("counts", "modules loaded by wait", 120, True),
        ("ratios", "store", 5.9, False),
        ("ratios", "store", 6.1, True),
    ],
)
def test_the_guard_fails_when_a_figure_is_worse(
    kind: str, name: str, now: float, worse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "baseline.json").write_text(json.dumps(BASELINE))
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "baseline.json")
    found = {**BASELINE, kind: {**BASELINE[kind], name: now}}
    monkeypatch.setattr(guard, "measure", lambda: found)
    monkeypatch.setattr(guard, "in_memory_ratios", lambda: found["ratios"])
    assert guard.main([]) == int(worse)


def test_the_guard_measures_a_ratio_again_that_is_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "baseline.json").write_text(json.dumps(BASELINE))
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(guard, "measure", lambda: {**BASELINE, "ratios": {"store": 7.0}})
    monkeypatch.setattr(guard, "in_memory_ratios", lambda: {"store": 5.0})
    assert guard.main([]) == 0


@pytest.mark.filterwarnings("ignore")
def test_every_side_of_the_store_benchmark_adds_a_trial(tmp_path: Path) -> None:
    ours = store.filled(f"sqlite:///{tmp_path / 'ours.db'}", 3)
    from_json = store.json_step(ours, tmp_path / "ax.json")()
    from_sql = store.sql_step(ours, f"sqlite:///{tmp_path / 'ax.db'}")()
    rebuilt = store.our_step(ours)()
    assert [len(client.summarize()) for client in (from_json, from_sql)] == [4, 4]
    assert len(rebuilt.experiment.trials) == 4


def test_queries_do_not_grow_with_the_number_of_trials() -> None:
    counts = json.loads(guard.BASELINE.read_text())["counts"]
    at_ten = {name.split(" at ")[0]: value for name, value in counts.items() if name.endswith(" at 10 trials")}
    at_thousand = {name.split(" at ")[0]: value for name, value in counts.items() if name.endswith(" at 1000 trials")}
    assert at_ten == at_thousand
    assert len(at_ten) == 9
