"""A program that only prints, on each scheduler: every value arrives, and its metrics are read from its output."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from airflow_provider_axtx.core.function_source import packed, source_of
from airflow_provider_axtx.core.metric_sources import load_metrics
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.launcher.metric_reader import MeasuredApp, read_metrics
from tests.contracts.rig import Rig
from tests.contracts.rigs import rig_parameters

NAMES = ("local_detached", "slurm", "local_docker")
pytestmark = pytest.mark.parametrize("rig", [one for one in rig_parameters() if one.values[0] in NAMES], indirect=True)

ODD = "a,b 'c' \"d\" $HOME ${img_root} $$ {x}\nnext"
#: Prints each argument, a curve on standard error, and progress with carriage returns.
PRINT = (
    "printf 'got=%s|' \"$@\"; echo; echo 'epoch 1 acc=0.5' >&2; echo 'epoch 2 acc=0.75' >&2; "
    "printf 'step 1 loss=3\\rstep 2 loss=2\\r'; echo 'acc=none'"
)
METRICS = {
    "acc": {"regex": r"epoch (?P<step>\d+) acc=(?P<value>[0-9.]+)", "take": "max"},
    "loss": {"regex": r"loss=(\d)"},
    "missing": {"regex": r"nosuch=(\d)"},
}


def _arguments(rig: Rig) -> dict[str, Any]:
    """Return what the scheduler needs: Docker an image, and the folders of the host that it runs from."""
    if rig.name != "local_docker":
        return {}
    mounts = []
    for folder in filter(None, rig.component_args["mounts"].split(":")):
        mounts += ["type=bind", f"src={folder}", f"dst={folder}"]
        mounts += [] if folder == str(rig.folder) else ["readonly"]
    return {"image": rig.component_args["image"], "mounts": mounts}


def test_a_program_that_prints(rig: Rig) -> None:
    arguments = {"command": ["/bin/sh", "-c", PRINT, "sh", "{flags}"], **_arguments(rig)}
    plan = rig.launcher.plan(
        "axtx.command",
        {"odd": ODD, "x": 0.1, "on": True},
        arguments,
        trial_index=3,
        experiment="contract",
        tracker_base=str(rig.folder),
        submission_key=rig.key,
    )
    handle = rig.launcher.submit(plan)
    rig.await_state(handle, "SUCCEEDED")
    app = MeasuredApp("contract", 3, str(rig.folder), rig.name, rig.launcher.lookup_options(), handle)
    measured = read_metrics(app, load_metrics(METRICS), may_be_cut=False)
    assert measured.values == {"acc": 0.75, "loss": 2.0}
    assert measured.steps == {1.0: {"acc": 0.5}, 2.0: {"acc": 0.75}}
    assert "no line of the output" in measured.missing["missing"]
    output = b"".join(chunk for log in rig.launcher.output(handle) for chunk in log.chunks(10**6)).decode()
    # Docker keeps the order of lines within a stream, but not between standard output and standard error.
    printed = "\n".join(line for line in output.replace("\r\n", "\n").split("\n") if not line.startswith("epoch"))
    assert f"got=--odd={ODD}|got=--x=0.1|got=--on=true|" in printed


def _train(x, odd, report):  # type: ignore[no-untyped-def]
    import hashlib

    report(step=1, loss=2 * x)
    return {"loss": x, "odd": int(hashlib.sha256(odd.encode()).hexdigest()[:8], 16)}


def test_a_function(rig: Rig) -> None:
    """Its source travels as an argument, and it needs nothing of this package where it runs."""
    arguments = {
        "function": packed(source_of(_train)),
        "report": "report",
        **({"python": "/usr/bin/python3"} if rig.name == "local_docker" else {}),
        **_arguments(rig),
    }
    base = rig.folder / "tracker"
    plan = rig.launcher.plan(
        "axtx.function",
        {"odd": ODD, "x": 0.1},
        arguments,
        trial_index=3,
        experiment="contract",
        tracker_base=str(base),
        submission_key=rig.key,
    )
    handle = rig.launcher.submit(plan)
    rig.await_state(handle, "SUCCEEDED")
    expected = int(hashlib.sha256(ODD.encode()).hexdigest()[:8], 16)
    assert tracker.read_results(str(base), 3) == {"loss": 0.1, "odd": expected}
    assert tracker.read_progress(str(base), 3) == {1.0: {"loss": 0.2}}
