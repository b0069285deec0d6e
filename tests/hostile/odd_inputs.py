"""A table of malformed and odd inputs: what a stranger may give to each door, and the right value or the error.

``python -m tests.hostile`` prints it. ``test_odd_inputs.py`` runs it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_axtx.assets import experiment_asset, sanitize_uri
from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.inputs import as_experiment_name, as_flag, as_int, as_object, as_seconds, as_text
from airflow_provider_axtx.core.xcom import SubmittedTrial, Trial, TrialOutcome
from airflow_provider_axtx.launcher.log_sources import FileLog
from airflow_provider_axtx.launcher.logs import last_lines
from airflow_provider_axtx.launcher.tracker import read_results
from airflow_provider_axtx.spec.attachment import read_rows, read_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.limits import Limits
from tests.spec.test_experiment import MALFORMED, spec

DEEP = 100_000
#: More digits than Python reads as a whole number.
DIGITS = "9" * 5000


@dataclass(frozen=True)
class Refused:
    """The error of this package that an input gets.

    :param told: texts that its message holds: the field, the value or the fix.
    """

    told: tuple[str, ...]


@dataclass(frozen=True)
class OddInput:
    """One line of the table.

    :param kind: the door.
    :param given: the input as it is shown.
    :param use: what the package does with it, in an empty folder.
    :param expected: the value that comes out, or ``Refused``.
    """

    kind: str
    given: str
    use: Callable[[Path], Any]
    expected: Any


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."


def refused(*told: str) -> Refused:
    return Refused(told)


def lines(kind: str, read: Callable[[Any], Any], *cases: tuple[Any, Any]) -> Iterator[OddInput]:
    """Yield a line for each input of a door that takes one value."""
    for given, expected in cases:
        yield OddInput(kind, shown(given), lambda _, given=given: read(given), expected)


# ---- definitions


def definitions() -> Iterator[OddInput]:
    for given, field, value, fix in MALFORMED:
        yield OddInput(
            "definition", f"{field}: {value}", lambda _, g=given: ExperimentSpec.load(g), refused(field, value, fix)
        )
    whole = {"type": "range", "name": "n", "bounds": [0, 10], "parameter_type": "int"}
    yield from lines(
        "definition",
        ExperimentSpec.load,
        ("[" * DEEP, refused("nested too deeply", "experiment")),
        ('{"name":' * DEEP, refused("nested too deeply")),
        (f'{{"name": "e", "objective": "a", "parameters": {DIGITS}}}', refused("experiment is not valid JSON")),
        ("\ufeff{}", refused("BOM")),
        ("null", refused("must be an object")),
        (b"{}", refused("must be an object, not bytes")),
        ([], refused("must be an object, not list")),
        (spec(name="a\nb"), refused("name")),
        (spec(name="\ud800"), refused("name")),
        (spec(name="../x"), refused("name")),
        (spec(name="e "), refused("name")),
        (spec(parameters=[{**whole, "bounds": ["0", "NaN"]}]), refused("bounds[1]", "finite")),
        (spec(parameters=[{**whole, "bounds": {"low": 0}}]), refused("bounds", "list")),
        (spec(parameters=[{"type": "choice", "name": "k", "values": ["a", "\0"], "parameter_type": "str"}]),
         refused("values[1]", "NUL")),
        (spec(parameters=[{"type": "choice", "name": "k", "values": ["a", "\ud800"], "parameter_type": "str"}]),
         refused("values[1]", "surrogates")),
        (spec(objective="a" * 251), refused("objective", "250")),
        (spec(objective="loss; import os"), refused("objective")),
        (spec(objective="__import__('os')"), refused("objective")),
        (spec(generation={"initialization_budget": 10**30}), refused("initialization_budget", "2.14748e+09")),
        (spec(generation={"factory": "os:system; x"}), refused("generation.factory", "package.module:function")),
        (spec(early_stopping={"type": "magic"}), refused("early_stopping.type", "percentile")),
        (spec(baseline={"lr": 5}), refused("baseline.lr", "out of bounds")),
    )  # fmt: skip
    number = {"type": "range", "name": "x", "parameter_type": "float"}
    for given, expected in (
        (["0", "1.5"], (0.0, 1.5)),
        (["-1e2", "1e2"], (-100.0, 100.0)),
        ([np.float32(0.5), Decimal("2")], (0.5, 2.0)),
        ([Fraction(1, 2), np.int64(3)], (0.5, 3.0)),
        ((0, 1), (0.0, 1.0)),
    ):
        read = spec(parameters=[{**number, "bounds": given}])
        yield OddInput(
            "definition",
            f"bounds={shown(given)}",
            lambda _, g=read: ExperimentSpec.load(g).parameters[0].bounds,  # type: ignore[union-attr]
            expected,
        )


# ---- forms: what a template or the Trigger form gives to an argument


def forms() -> Iterator[OddInput]:
    yield from lines(
        "form: whole number",
        lambda given: as_int("n", given, minimum=1),
        ("3.0", 3), (" 7 ", 7), ("+5", 5), ("1_0", 10), (2.0, 2), (Decimal(3), 3), (np.int64(4), 4), (Fraction(3), 3),
        ("1e3", refused("n must be a whole number", "'1e3'")),
        ("0x10", refused("'0x10'")),
        ("٣", refused("'٣'")),
        ("", refused("n must be a whole number", "''")),
        (None, refused("None")),
        ("-1", refused("at least 1")),
        ("2.5", refused("'2.5'")),
        (True, refused("True")),
        (np.bool_(True), refused("True")),
        (math.nan, refused("nan")),
        (1 + 0j, refused("(1+0j)")),
        ([1], refused("[1]")),
        (2**31, refused("at most 2147483647")),
        (10**400, refused("at most 2147483647")),
        (DIGITS, refused("whole number")),
    )  # fmt: skip
    yield from lines(
        "form: duration",
        lambda given: as_seconds("wait", given),
        ("1.5", 1.5), (" 2 ", 2.0), (timedelta(minutes=1), 60.0), (Decimal("0.5"), 0.5),
        ("1:30", refused("wait must be a number of seconds")),
        ("PT5S", refused("timedelta")),
        ("inf", refused("'inf'")),
        ("1e400", refused("'1e400'")),
        (1e308, refused("31 years")),
        (timedelta.max, refused("31 years")),
        (timedelta(0), refused("above 0")),
        (-1, refused("-1")),
        (None, refused("None")),
        (True, refused("True")),
    )  # fmt: skip
    yield from lines(
        "form: flag",
        lambda given: as_flag("on", given),
        ("true", True), ("FALSE", False), (" True ", True), (False, False),
        ("yes", refused("on must be True or False", "'yes'")),
        ("1", refused("'1'")),
        (1, refused("not 1")),
        (0, refused("not 0")),
        (None, refused("None")),
        ("", refused("''")),
        ([], refused("[]")),
    )  # fmt: skip
    yield from lines(
        "form: text",
        lambda given: as_text("reason", given),
        ("404", "404"), (404, "404"), (1.5, "1.5"), (True, "True"),
        (None, refused("reason is not given")), ("", refused("is not given")), ("None", refused("is not given")),
        ({"a": 1}, refused("must be text")), ([], refused("must be text")),
    )  # fmt: skip
    yield from lines(
        "form: experiment name",
        lambda given: as_experiment_name("experiment_name", given),
        (2026, "2026"), ("a b~c:+@=,.-x", "a b~c:+@=,.-x"), ("数字", "数字"),
        ("../../etc/passwd", refused("experiment_name cannot be")),
        ("a\0b", refused("1 to 100")), (" a", refused("1 to 100")), ("a/b", refused("1 to 100")),
        ("\ud800", refused("1 to 100")), (None, refused("is not given")), ({}, refused("must be text")),
    )  # fmt: skip
    yield from lines(
        "form: object",
        lambda given: as_object("component_args", given),
        ('{"a": 1}', {"a": 1}), (None, {}), ("", {}), ("None", {}), ("  ", {}), ('{"a": 1, "a": 2}', {"a": 2}),
        ("{'a': 1}", refused("component_args is not valid JSON", "tojson")),
        ('{"a": 1,}', refused("not valid JSON")),
        ('{"a": 1}{', refused("Extra data")),
        ("[" * DEEP, refused("nested too deeply")),
        (f'{{"a": {DIGITS}}}', refused("not valid JSON")),
        ('"x"', refused("must be an object, not str")),
        ("1", refused("must be an object, not int")),
        (object, refused("must be an object")),
    )  # fmt: skip
    yield from limits()


def limits() -> Iterator[OddInput]:
    cases: tuple[tuple[dict[str, Any], Any], ...] = (
        ({"max_trials": "7"}, 7),
        ({"parallelism": None}, 3),
        ({"max_failure_rate": "", "deadline": "None"}, 3),
        ({"max_trials": None}, refused("max_trials", "missing")),
        ({"max_trials": 10**30}, refused("max_trials", "2.14748e+09")),
        ({"max_trials": 0}, refused("at least 1")),
        ({"parallelism": "4"}, refused("parallelism", "max_trials=3")),
        ({"deadline": "tomorrow"}, refused("deadline", "time zone")),
        ({"deadline": "2026-01-01T00:00:00"}, refused("deadline", "time zone")),
        ({"deadline": datetime(2026, 1, 1)}, refused("time zone")),
        ({"max_failure_rate": "50%"}, refused("max_failure_rate", "number")),
        ({"max_failure_rate": 1}, refused("less than 1")),
        ({"max_seconds": "1h"}, refused("max_seconds", "timedelta")),
        ({"max_seconds": timedelta.max}, refused("31 years")),
        ({"max_resource_hours": math.inf}, refused("finite")),
        ({"resource": "tpu"}, refused("resource", "'cpu' or 'gpu'")),
        ({"on_stop": "kill"}, refused("on_stop", "'drain' or 'cancel'")),
        ({"max_trails": 3}, refused("max_trails", "did you mean")),
    )
    for given, expected in cases:
        yield OddInput(
            "form: limit", shown(given), lambda _, g=given: Limits.load(**{"max_trials": 3, **g}).max_trials, expected
        )


# ---- XComs, which every user who may edit one may change

TRIAL: dict[str, Any] = {"experiment": "e", "trial_index": 0, "arm_name": "0_0", "parameters": {"x": 1.0}}
SUBMITTED: dict[str, Any] = {**TRIAL, "attempt": 1, "app_handle": "s://x/y", "tracker_base": "/t"}
OUTCOME: dict[str, Any] = {**SUBMITTED, "trial_status": "COMPLETED", "app_state": "SUCCEEDED", "message": ""}


def xcoms() -> Iterator[OddInput]:
    yield from lines(
        "XCom: trial",
        lambda given: Trial.from_json(given).trial_index,
        (TRIAL, 0), ({**TRIAL, "note": 1}, 0), (OUTCOME, 0),
        (None, refused("must be a JSON object")), ([TRIAL], refused("must be a JSON object")), ({}, refused("missing")),
        ({**TRIAL, "trial_index": -1}, refused("trial_index", "-1")),
        ({**TRIAL, "trial_index": True}, refused("trial_index", "True")),
        ({**TRIAL, "trial_index": "0"}, refused("trial_index", "'0'")),
        ({**TRIAL, "trial_index": 2**70}, refused("trial_index", "2147483647")),
        ({**TRIAL, "experiment": None}, refused("experiment", "None")),
        ({**TRIAL, "experiment": "../x"}, refused("experiment", "'../x'")),
        ({**TRIAL, "experiment": "a\0b"}, refused("experiment")),
        ({**TRIAL, "experiment": "\ud800"}, refused("experiment")),
        ({**TRIAL, "experiment": "e" * 101}, refused("experiment")),
        ({**TRIAL, "parameters": [1]}, refused("parameters", "[1]")),
        ({**TRIAL, "parameters": {"x": {"y": 1}}}, refused("parameters.x")),
        ({**TRIAL, "parameters": {"x": None}}, refused("parameters.x", "None")),
        ({**TRIAL, "parameters": {1: 2}}, refused("parameters.1")),
        ({**TRIAL, "arm_name": None}, refused("arm_name")),
    )  # fmt: skip
    yield from lines(
        "XCom: submitted trial",
        lambda given: SubmittedTrial.from_json(given).attempt,
        (SUBMITTED, 1),
        (TRIAL, refused("attempt is missing", "TorchXSubmitTrialOperator")),
        ({**SUBMITTED, "attempt": 0}, refused("attempt", "0")),
        ({**SUBMITTED, "attempt": True}, refused("attempt", "True")),
        ({**SUBMITTED, "attempt": "1"}, refused("attempt", "'1'")),
        ({**SUBMITTED, "attempt": 2**70}, refused("attempt")),
        ({**SUBMITTED, "app_handle": None}, refused("app_handle")),
        ({**SUBMITTED, "tracker_base": ["/"]}, refused("tracker_base")),
    )  # fmt: skip
    yield from lines(
        "XCom: outcome",
        lambda given: TrialOutcome.from_json(given).trial_status,
        (OUTCOME, "COMPLETED"),
        (SUBMITTED, refused("trial_status is missing")),
        ({**OUTCOME, "trial_status": "completed"}, refused("trial_status", "'completed'")),
        ({**OUTCOME, "trial_status": "COMPLETED\n"}, refused("trial_status")),
        ({**OUTCOME, "message": {"a": 1}}, refused("message")),
        ({**OUTCOME, "app_state": None}, refused("app_state")),
    )  # fmt: skip


# ---- results: what an app reports, and what a user attaches

SPACE = ExperimentSpec.load(
    {
        "name": "e",
        "parameters": [
            {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"},
            {"type": "choice", "name": "k", "values": ["a", "16"], "parameter_type": "str"},
        ],
        "objective": "-loss",
    }
)


def results() -> Iterator[OddInput]:
    loss = {"loss": (1.0, None)}
    yield from lines(
        "results",
        SPACE.check_results,
        ({"loss": 1}, loss),
        ({"loss": Decimal(1)}, loss), ({"loss": np.float32(1)}, loss), ({"loss": np.array(1.0)}, loss),
        ({"loss": Fraction(1)}, loss), ({"loss": 1, "loss/mean": 2}, loss), ({1: 2, "loss": 1}, loss),
        ({"loss/mean": 1, "loss/sem": 0.5}, {"loss": (1.0, 0.5)}), ({"loss/mean": 1, "loss/sem": math.nan}, loss),
        ({"loss": 1, "note": "text"}, loss), ({"loss": 1, "note": math.inf}, loss), ({"loss": 1, "": 5}, loss),
        ({"loss": 1, "a\0b": 5}, loss), ({"loss": 1, "\ud800": 5}, loss), ({"loss": 1, "m" * 251: 5}, loss),
        ({"loss": 1, "a\nb": 5}, loss), ({"loss": 1, "a ": 5}, loss),
        ({"loss": 1, "/sem": 2}, {**loss, "/sem": (2.0, None)}),
        ({"loss": 1, "m" * 250: 2}, {**loss, "m" * 250: (2.0, None)}),
        ({}, refused("'loss'", "was not reported", "nothing")),
        ({"LOSS": 1}, refused("was not reported", "LOSS")), ({"loss ": 1}, refused("was not reported", "'loss '")),
        ({"\ud800": 1}, refused("was not reported", "\\ud800")),
        ({"loss": math.nan}, refused("not a finite number", "nan")),
        ({"loss": -math.inf}, refused("not a finite number", "-inf")),
        ({"loss": "1.0"}, refused("not a finite number", "'1.0'")),
        ({"loss": True}, refused("True")), ({"loss": np.bool_(True)}, refused("True")),
        ({"loss": None}, refused("was not reported")), ({"loss": b"1"}, refused("b'1'")),
        ({"loss": [1]}, refused("[1]")), ({"loss": {"mean": 1}}, refused("mean")), ({"loss": 1j}, refused("1j")),
        ({"loss": 10**400}, refused("not a finite number")),
        ({"loss": np.array([1.0])}, refused("not a finite number")),
        ({"loss/mean": 1, "loss/sem": -1}, refused("'loss/sem'", "standard error")),
        ({"loss/mean": 1, "loss/sem": "0.1"}, refused("standard error")),
        ({"loss/sem": 1}, refused("was not reported")),
    )  # fmt: skip
    yield OddInput(
        "results",
        "100,000 metrics",
        lambda _: len(SPACE.check_results({"loss": 1, **{f"m{i}": i for i in range(100_000)}})),
        1000,
    )
    yield from files()
    yield from attachments()


def files() -> Iterator[OddInput]:
    """Yield what an app may leave in place of its result file."""

    def read(content: bytes) -> Callable[[Path], Any]:
        def use(folder: Path) -> Any:
            (folder / "0").write_bytes(content)
            return read_results(str(folder), 0)

        return use

    for content, expected in (
        (b'{"loss": 1}', {"loss": 1}),
        (b'{"loss": 1, "loss": 2}', {"loss": 2}),
        (b'{"loss": 1e999}', {"loss": math.inf}),
        (b"", refused("is empty", "FsspecResultTracker")),
        (b"{", refused("is not JSON")),
        (b"null", refused("does not hold a JSON object")),
        (b"[1]", refused("does not hold a JSON object", "[1]")),
        (b"<html>502</html>", refused("is not JSON", "<html>")),
        (b"\xff\xfe{}", refused("is not JSON")),
        (b"\0" * 100, refused("is not JSON")),
        (b"[" * DEEP, refused("is not JSON")),
        (b'{"a":' * DEEP, refused("is not JSON")),
        (b'{"loss":' + DIGITS.encode() + b"}", refused("is not JSON")),
        (b"x" * 2_000_000, refused("has more than")),
        (b'{"loss": 1}\n{"loss": 2}', refused("Extra data")),
    ):
        yield OddInput("result file", shown(content), read(content), expected)


def attachments() -> Iterator[OddInput]:
    good = {"x": 1, "k": "a"}
    yield from lines(
        "attached trials",
        lambda given: len(read_trials(SPACE, given)),
        ([good], 1), (good, 1), ([{"parameters": good, "results": {"loss": "1.5"}}], 1), ("[]", 0),
        ("{", refused("trials is not valid JSON")), ("[" * DEEP, refused("nested too deeply")),
        ("[1]", refused("must be a list of objects")), (3, refused("must be a list of objects")),
        ([{"parameters": [1]}], refused("trials[0].parameters must be an object")),
        ([{"parameters": good, "results": [1]}], refused("trials[0].results must be an object")),
        ([{"parameters": {"x": 2, "k": "a"}}], refused("trials[0].parameters.x", "out of bounds")),
        ([{"parameters": {"x": "nan", "k": "a"}}], refused("trials[0].parameters.x")),
        ([{"parameters": {"x": 1, "k": "z"}}], refused("trials[0].parameters.k", "'16'")),
        ([{"parameters": {"x": 1}}], refused("trials[0].parameters.k", "missing")),
        ([{"parameters": good, "baseline": "yes"}], refused("trials[0].baseline")),
        ([{"parameters": good, "baseline": True}] * 2, refused("baseline")),
        ([{"parameters": good, "note": 1}], refused("trials[0].note", "unknown key")),
        ([{"parameters": good, "results": {"loss": "n/a"}}], refused("trials[0].results", "'n/a'")),
    )  # fmt: skip
    yield from lines(
        "attached table",
        lambda given: len(read_rows(SPACE, given)),
        ([{"x": "1", "k": "16", "loss": "1"}], 1), ([{"x": "0.5", "k": "a", "loss": "", "baseline": "yes"}], 1),
        ([{"x": "1,5", "k": "a"}], refused("table[0].parameters.x", "'1,5'")),
        ([{"x": "1", "k": "a", "oops": "1"}], refused("table[0]", "'oops'")),
        ([{None: ["1"]}], refused("table[0]", "'None'")),
        ([{"x": "", "k": "a"}], refused("table[0].parameters.x", "missing")),
        ([{"x": "1", "k": "a", "loss": "n/a"}], refused("table[0].results", "'n/a'")),
        ([{"x": "1", "k": "a", "baseline": "ja"}], refused("table[0].baseline", "'ja'")),
    )  # fmt: skip


# ---- logs


def logs() -> Iterator[OddInput]:
    def tail(content: bytes) -> Callable[[Path], Any]:
        def use(folder: Path) -> list[str]:
            file = folder / "combined.log"
            file.write_bytes(content)
            return last_lines(
                lambda: AppObservation("RUNNING"), lambda: [FileLog("app/0", file)], lines=3, deadline_seconds=5
            )

        return use

    for content, expected in (
        (b"", ["[the log is empty]"]),
        (b"no end", ["app/0: no end"]),
        (b"a\r\nb\r\n", ["app/0: a", "app/0: b"]),
        (b"1 %\r2 %\r3 %\n", ["app/0: 3 %"]),
        (b"\xff\xfe\n", ["app/0: \ufffd\ufffd"]),
        (b"1\n2\n3\n4\n", ["app/0: 2", "app/0: 3", "app/0: 4"]),
        ("ünïcødé 数\n".encode(), ["app/0: ünïcødé 数"]),
        (b"{{ var.value.secret }}\n", ["app/0: {{ var.value.secret }}"]),
        (b"<script>alert(1)</script>\n", ["app/0: <script>alert(1)</script>"]),
    ):
        yield OddInput("log", shown(content), tail(content), expected)

    def irregular(make: Callable[[Path], None]) -> Callable[[Path], Any]:
        def use(folder: Path) -> list[str]:
            file = folder / "combined.log"
            make(file)
            found = last_lines(
                lambda: AppObservation("RUNNING"), lambda: [FileLog("app/0", file, folder)], lines=3, deadline_seconds=5
            )
            return ["read" for line in found if "root:" in line]

        return use

    import os

    yield OddInput("log", "a link to /etc/passwd", irregular(lambda file: file.symlink_to("/etc/passwd")), [])
    yield OddInput("log", "a FIFO", irregular(lambda file: os.mkfifo(file)), [])
    yield OddInput("log", "a folder", irregular(lambda file: file.mkdir()), [])
    yield OddInput("log", "no file", irregular(lambda file: None), [])


# ---- addresses: URIs here, those of the page in ``PAGES``


def addresses() -> Iterator[OddInput]:
    from urllib.parse import urlsplit

    yield from lines(
        "address: asset",
        lambda given: sanitize_uri(urlsplit(given)).geturl(),
        ("ax://ax_default/a%20b", "ax://ax_default/a%20b"), ("ax://ax_default/a b~c", "ax://ax_default/a%20b~c"),
        ("ax://", refused("does not name an experiment")), ("ax://ax_default/", refused("does not name an experiment")),
        ("ax://ax_default/a/b", refused("does not name an experiment")),
        ("ax://ax_default/a?b=c", refused("does not name an experiment")),
        ("ax://ax_default/..%2F..%2Fetc", refused("not usable as an experiment name")),
        ("ax://ax default/a", refused("ax_conn_id")), ("ax://u:p@h/a", refused("ax_conn_id")),
        ("ax://ax_default/%00", refused("not usable")), ("ax://ax_default/{{ x }}", refused("not usable")),
    )  # fmt: skip
    yield from lines(
        "address: asset",
        lambda given: experiment_asset(given).uri,
        ("数", "ax://ax_default/%E6%95%B0"), ("{{ run_id }}", refused("without a template")),
        (3, refused("not usable")),
    )  # fmt: skip
    yield from lines(
        "address: tracker",
        lambda given: read_results(given, 0),
        ("memory://nowhere", None), ("/nowhere/at/all", None), ("/etc/passwd", None),
        ("nosuch://x", refused("'nosuch://x'", "Protocol not known")),
        ("s3://bucket", refused("s3fs")),
    )  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A request to the page by a user who may read one of two experiments.

    :param status: of the answer.
    """

    path: str
    status: int
    query: dict[str, str]


def _page(path: str, status: int, **query: str) -> Page:
    return Page(path, status, query)


PAGES = (
    _page("api/experiment", 200, name="mine"),
    _page("api/experiment", 404, name="hidden"),
    _page("api/experiment", 404, name="no such"),
    _page("api/experiment", 404, name="../../etc/passwd"),
    _page("api/experiment", 404, name="mine\0"),
    _page("api/experiment", 404, name="' OR 1=1 --"),
    _page("api/experiment", 404, name="%"),
    _page("api/experiment", 404, name="MINE"),
    _page("api/experiment", 404, name=""),
    _page("api/experiment", 422, name="x" * 10_000),
    _page("api/experiment", 422),
    _page("api/experiment", 422, name="mine", since="nan"),
    _page("api/experiment", 422, name="mine", since="1e400"),
    _page("api/experiment", 200, name="mine", since="-1e308"),
    _page("api/experiment", 404, name="mine", conn_id="'; DROP TABLE"),
    _page("api/experiment", 404, name="mine", conn_id="../x"),
    _page("api/curves", 404, name="hidden"),
    _page("api/analyses", 404, name="hidden"),
    _page("card", 404, name="hidden", position="0"),
    _page("card", 404, name="mine", position="0"),
    _page("card", 422, name="mine", position="-1"),
    _page("card", 422, name="mine", position="9" * 40),
    _page("card", 422, name="mine", position="zero"),
    _page("api/experiments", 200, search="%"),
    _page("api/experiments", 200, search="\0"),
    _page("api/experiments", 200, search="\\"),
    _page("api/experiments", 422, limit="0"),
    _page("api/experiments", 422, limit="201"),
    _page("api/experiments", 422, offset="-1"),
    _page("api/experiments", 422, offset=str(2**31)),
    _page("api/dag-runs", 200, dag_id="my_dag", run_id="\0"),
    _page("api/dag-runs", 200, dag_id="secret_dag", run_id="x"),
    _page("api/dag-runs", 422, dag_id="my_dag"),
    _page("static/../app.py", 404),
    _page("static/..%2f..%2fapp.py", 404),
    _page("static/%2e%2e%2fapp.py", 404),
    _page("static/nothing.js", 404),
    _page("api/nothing", 404),
)


@dataclass(frozen=True)
class Change:
    """A request to the REST interface by a user who may edit the experiment.

    :param body: JSON text, or what it is made from.
    :param status: of the answer.
    """

    method: str
    path: str
    body: Any
    status: int


_KNOBS = {"c": 1, "pixels": 3, "kernel": "rbf"}
CHANGES = (
    Change("PATCH", "", "[", 422),
    Change("PATCH", "", "[" * DEEP, 400),
    Change("PATCH", "", b"\xff\xfe", 422),
    Change("PATCH", "", "null", 422),
    Change("PATCH", "", {}, 422),
    Change("PATCH", "", {"\ud800": 1}, 422),
    Change("PATCH", "", {"state": "\ud800"}, 422),
    Change("PATCH", "", {"state": "kill"}, 422),
    Change("PATCH", "", {"state": "run", "reason": "\0\ud800"}, 202),
    Change("PATCH", "", {"state": "run", "reason": "x" * 1_000_000}, 422),
    Change("PATCH", "", {"limits": {"max_trials": 10**30}}, 422),
    Change("PATCH", "", '{"limits": {"max_trials": NaN}}', 422),
    Change("PATCH", "", '{"limits": {"max_seconds": 1e999}}', 422),
    Change("PATCH", "", {"limits": {"max_seconds": 1e308}}, 422),
    Change("PATCH", "", {"limits": {"deadline": "tomorrow"}}, 422),
    Change("PATCH", "", {"limits": {"\ud800": 1}}, 422),
    Change("PATCH", "", {"tags": ["x" * 100_000]}, 422),
    Change("PATCH", "", {"tags": ["\ud800"]}, 422),
    Change("POST", "/notes", {"text": ""}, 422),
    Change("POST", "/notes", {"text": "\0"}, 202),
    Change("POST", "/notes", {"text": "\ud800"}, 202),
    Change("POST", "/notes", {"text": "<script>"}, 202),
    Change("POST", "/notes", {"text": 3}, 422),
    Change("POST", "/trials", {"parameters": {}}, 422),
    Change("POST", "/trials", {"parameters": {**_KNOBS, "c": "nan"}}, 422),
    Change("POST", "/trials", {"parameters": {**_KNOBS, "kernel": "\ud800"}}, 422),
    Change("POST", "/trials", {"parameters": {**_KNOBS, "\ud800": 1}}, 422),
    Change("POST", "/trials", f'{{"parameters": {{"c": {DIGITS}}}}}', 400),
    Change("POST", "/trials", {"parameters": _KNOBS}, 202),
    Change("POST", "/trials/99/stop", {}, 404),
    Change("POST", f"/trials/{DIGITS[:40]}/retry", {}, 422),
    Change("POST", "/trials/0/retry", {}, 409),
    Change("DELETE", "/changes/-1", {}, 422),
)

TABLE: list[OddInput] = [*definitions(), *forms(), *xcoms(), *results(), *logs(), *addresses()]


def counts() -> dict[str, int]:
    """Return the number of lines by kind."""
    return {**Counter(line.kind for line in TABLE), "address: page": len(PAGES), "request": len(CHANGES)}


def as_text_table() -> str:
    """Return the table and its counts as text."""
    rows = [(line.kind, line.given, _expected(line.expected)) for line in TABLE]
    rows += [("address: page", f"{page.path} {shown(page.query)}", str(page.status)) for page in PAGES]
    rows += [("request", f"{one.method} {one.path} {shown(one.body)}", str(one.status)) for one in CHANGES]
    text = [f"{kind:24} {given[:80]:80} {expected}" for kind, given, expected in rows]
    text += ["", *(f"{number:5} {kind}" for kind, number in counts().items()), f"{sum(counts().values()):5} in all"]
    return "\n".join(text).encode("ascii", "backslashreplace").decode()


def _expected(expected: Any) -> str:
    return f"error: {', '.join(expected.told)}" if isinstance(expected, Refused) else shown(expected)
