"""The engine over real processes: ``local_detached``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torchx import specs

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import DuplicateAppError
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.launcher.tracker import read_results

KEY = "digits-0123456789-t1-a1"
WRITE_ARGUMENTS = "import json, sys; open(sys.argv[1], 'w').write(json.dumps(sys.argv[2:])); print('written')"
ODD_VALUES = [
    "a,b;c",
    'it\'s "quoted"',
    "two\nlines\ttab",
    "$HOME ${HOME} $$ $$$",
    "${img_root} ${app_id} $replica_id ${rank0_env}",
    "`id` $(id) && exit; # \\ \\n",
    "über 漢字 🚀",
    "",
    " ",
    "--x=1",
    "%s {0} {{ jinja }}",
]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TorchXLauncher:
    monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "apps"))
    return TorchXLauncher("local_detached", scheduler_args={"max_parallel": 50})


def python(code: str, *args: str) -> specs.AppDef:
    return specs.AppDef("t", [specs.Role("python", "", entrypoint=sys.executable, args=["-c", code, *args])])


def plan(launcher: TorchXLauncher, component: Any, parameters: Any, tracker_base: Path, **more: Any) -> Any:
    return launcher.plan(
        component,
        parameters,
        trial_index=1,
        experiment="digits",
        tracker_base=str(tracker_base),
        submission_key=KEY,
        **more,
    )


def ended(launcher: TorchXLauncher, handle: str) -> AppObservation:
    deadline = time.monotonic() + 120
    while not (seen := launcher.observe([handle])[handle]).is_terminal:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return seen


def test_booth_runs_and_its_result_is_read_back(launcher: TorchXLauncher, tmp_path: Path) -> None:
    base = tmp_path / "tracker"
    handle = launcher.submit(plan(launcher, "utils.booth", {"x1": 1.5, "x2": -2.0}, base))
    assert ended(launcher, handle).app_state == "SUCCEEDED", launcher.logs(handle)
    assert read_results(str(base), 1) == {"booth_eval": (1.5 - 4 - 7) ** 2 + (3 - 2 - 5) ** 2}
    assert launcher.find(KEY) == handle


def test_values_arrive_as_they_are(launcher: TorchXLauncher, tmp_path: Path) -> None:
    out = tmp_path / "arrived.json"
    odd = {f"v{i}": value for i, value in enumerate(ODD_VALUES)}

    def component(experiment_name: str, tracker_base: str, **values: str) -> specs.AppDef:
        return python(WRITE_ARGUMENTS, str(out), experiment_name, tracker_base, *values.values())

    handle = launcher.submit(plan(launcher, component, odd, tmp_path / "$base ${app_id}"))
    assert ended(launcher, handle).app_state == "SUCCEEDED", launcher.logs(handle)
    assert json.loads(out.read_text()) == ["digits", str(tmp_path / "$base ${app_id}"), *ODD_VALUES]


def test_macros_in_constants_are_replaced(launcher: TorchXLauncher, tmp_path: Path) -> None:
    out = tmp_path / "arrived.json"

    def component(text: str) -> specs.AppDef:
        return python(WRITE_ARGUMENTS, str(out), text)

    handle = launcher.submit(plan(launcher, component, {}, tmp_path, component_args={"text": "${app_id}"}))
    assert ended(launcher, handle).app_state == "SUCCEEDED", launcher.logs(handle)
    assert json.loads(out.read_text()) == [KEY]


def test_failing_app_has_its_exit_code_and_its_log(launcher: TorchXLauncher, tmp_path: Path) -> None:
    def component(x: float) -> specs.AppDef:
        return python("import sys; print('started', flush=True); sys.exit('no data')")

    handle = launcher.submit(plan(launcher, component, {"x": 1.0}, tmp_path))
    seen = ended(launcher, handle)
    assert (seen.app_state, seen.is_infrastructure_failure) == ("FAILED", False)
    assert "1" in seen.message
    assert launcher.logs(handle) == ["python/0: started", "python/0: no data"]


def test_the_same_key_is_submitted_once(launcher: TorchXLauncher, tmp_path: Path) -> None:
    first, second = (plan(launcher, "utils.booth", {"x1": 1.0, "x2": 2.0}, tmp_path) for _ in range(2))
    handle = launcher.submit(first)
    with pytest.raises(DuplicateAppError):
        launcher.submit(second)
    assert launcher.find(KEY) == handle
    assert ended(launcher, handle).app_state == "SUCCEEDED"


def test_another_process_sees_and_cancels_what_a_dead_one_submitted(launcher: TorchXLauncher, tmp_path: Path) -> None:
    file = tmp_path / "components.py"
    file.write_text(
        "from torchx import specs\n"
        "def sleeper(x: float) -> specs.AppDef:\n"
        "    return specs.AppDef('t', [specs.Role('sleeper', '', entrypoint='sleep', args=['600'])])\n"
    )
    script = (
        "from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher\n"
        "launcher = TorchXLauncher('local_detached', scheduler_args={'max_parallel': 50})\n"
        f"launcher.submit(launcher.plan({f'{file}:sleeper'!r}, {{'x': 1.0}}, trial_index=1, experiment='e',\n"
        f"    tracker_base='/t', submission_key={KEY!r}))\n"
    )
    environment = {**os.environ, "AXTX_CRASH_POINT": "torchx.after_submit"}
    submitter = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert submitter.returncode == -signal.SIGKILL, submitter.stderr
    handle = launcher.find(KEY)
    assert handle is not None
    deadline = time.monotonic() + 120
    while launcher.observe([handle])[handle].app_state != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.cancel(handle)
    launcher.cancel(handle)
    assert ended(launcher, handle).app_state == "CANCELLED"
    launcher.cancel(handle)


def test_signal_handlers_are_untouched(launcher: TorchXLauncher, tmp_path: Path) -> None:
    def handler(*_: object) -> None:
        """Stands for Airflow's."""

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        fresh = TorchXLauncher("local_detached", session=f"fresh{abs(hash(tmp_path))}")
        handle = fresh.submit(plan(fresh, "utils.booth", {"x1": 1.0, "x2": 2.0}, tmp_path))
        assert ended(fresh, handle).app_state == "SUCCEEDED"
        fresh.logs(handle)
        fresh.cancel(handle)
        assert {signal.getsignal(number) for number in before} == {handler}
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
