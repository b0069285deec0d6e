"""The components that this package ships, on real processes."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core import shipped
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.components import CHECKPOINT_DIR, RESERVED, load_component
from airflow_provider_axtx.launcher.shipped import SHIPPED
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.launcher.test_launcher_local import KEY, ODD_VALUES, ended

SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get('ODD')]))"
ODD = {f"v{i}": value for i, value in enumerate(ODD_VALUES)}


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TorchXLauncher:
    monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "apps"))
    return TorchXLauncher("local_detached", scheduler_args={"max_parallel": 50})


def run(
    launcher: TorchXLauncher, component: str, parameters: dict[str, Any], component_args: dict[str, Any], base: Path
) -> list[str]:
    """Run an app to its end; return what it has printed."""
    plan = launcher.plan(
        component,
        parameters,
        component_args,
        trial_index=1,
        experiment="digits",
        tracker_base=str(base),
        submission_key=KEY,
    )
    handle = launcher.submit(plan)
    seen = ended(launcher, handle)
    output = b"".join(chunk for log in launcher.output(handle) for chunk in log.chunks(10**9)).decode()
    assert seen.app_state == "SUCCEEDED", (seen, output)
    return output.splitlines()


def test_arguments_known_to_dag_files_are_those_of_the_functions() -> None:
    assert list(SHIPPED) == list(shipped.ARGUMENTS)
    for name, function in SHIPPED.items():
        taken = [
            n for n in inspect.signature(function).parameters if n not in (*RESERVED, CHECKPOINT_DIR, "parameters")
        ]
        assert sorted(taken) == sorted(shipped.ARGUMENTS[name])


def test_a_command_gets_every_value_as_it_is(launcher: TorchXLauncher, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHOW, "$HOME", "$$", "${app_id}", "{trial_idx}", "{replica_id}", "{v0}", "{flags}"]
    args = {"command": command, "cwd": "{tracker_base}/work", "env": {"ODD": "$$ ${app_id}"}, "memMB": 64}
    (line,) = run(launcher, "axtx.command", ODD, args, tmp_path / "t")
    flags = [f"--{name}={value}" for name, value in ODD.items() if name != "v0"]
    assert json.loads(line) == [
        ["$HOME", "$$", "${app_id}", "1", "0", ODD["v0"], *flags],
        str(tmp_path / "t" / "work"),
        "$$ ${app_id}",
    ]


def test_a_shell_is_used_only_when_asked_for(launcher: TorchXLauncher, tmp_path: Path) -> None:
    text = "printf '%s|' {v3} \"{v5}\" $((1 + 1))"
    parameters = {name: ODD[name] for name in ("v3", "v5")}
    assert run(launcher, "axtx.command", parameters, {"command": text, "shell": True}, tmp_path) == [
        f"{ODD['v3']}|{ODD['v5']}|2|"
    ]
    with pytest.raises(InvalidInputError, match="single quotes"):
        load_component("axtx.command").check({"v3": "str"}, {"command": "echo '{v3}'", "shell": True})


def test_a_script_is_found_where_component_files_are(
    launcher: TorchXLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = run(launcher, "axtx.script", {"lr": 0.1, "on": True}, {"script": "show.py"}, tmp_path / "t")
    assert json.loads(line)[0] == ["--lr=0.1", "--on=true"]


def test_a_module_is_run(launcher: TorchXLauncher, tmp_path: Path) -> None:
    args = {"m": "platform", "flag": "{value}"}
    assert run(launcher, "axtx.script", {"x": "--terse"}, args, tmp_path)


def test_a_script_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"there is no file nosuch\.py"):
        load_component("axtx.script").build(
            {"x": 1}, {"script": "nosuch.py"}, trial_index=0, experiment="e", tracker_base="/t"
        )


def test_with_an_image_the_script_and_python_are_the_image_s() -> None:
    app = load_component("axtx.script").build(
        {"x": 1}, {"script": "train.py", "image": "my/image"}, trial_index=0, experiment="e", tracker_base="/t"
    )
    (role,) = app.roles
    assert (role.image, role.entrypoint, role.args) == ("my/image", "python", ["train.py", "--x=1"])


def test_resources_and_mounts() -> None:
    args = {
        "command": ["x", "{n}"],
        "cpu": 2,
        "gpu": 1,
        "memMB": 4096,
        "num_replicas": 3,
        "mounts": ["type=bind", "src=/a", "dst=/b"],
    }
    app = load_component("axtx.command").build({"n": 1}, args, trial_index=0, experiment="e", tracker_base="/t")
    (role,) = app.roles
    assert (role.resource.cpu, role.resource.gpu, role.resource.memMB, role.num_replicas) == (2, 1, 4096, 3)
    assert role.mounts[0].dst_path == "/b"
    named = load_component("axtx.command").build(
        {"n": 1},
        {"command": ["x"], "named_resource": "aws_t3.medium"},
        trial_index=0,
        experiment="e",
        tracker_base="/t",
    )
    assert named.roles[0].resource.cpu == 2


def test_ddp_runs_on_two_replicas(launcher: TorchXLauncher, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import os, sys, torch, torch.distributed as d\n"
        "d.init_process_group('gloo'); total = torch.ones(1); d.all_reduce(total)\n"
        "print(f'rank {d.get_rank()} of {d.get_world_size()} sum={total.item()} {sys.argv[1:]}')\n"
        "d.destroy_process_group()\n"
    )
    args = {"script": str(tmp_path / "train.py"), "j": "2x1", "rdzv_port": 29517}
    lines = run(launcher, "axtx.ddp", {"v3": ODD["v3"]}, args, tmp_path / "t")
    arguments = [f"--v3={ODD['v3']}"]
    shown = sorted(line.partition("rank")[2] for line in lines if "sum=" in line)
    assert shown == [f" {rank} of 2 sum=2.0 {arguments}" for rank in (0, 1)]


def test_no_wildcard_allows_what_runs_anything() -> None:
    with pytest.raises(InvalidInputError, match="has to be named in full"):
        load_component("axtx.command", ["*"])
    assert load_component("axtx.command", ["axtx.command"]).name == "axtx.command"
