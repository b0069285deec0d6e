"""Submitting, observing and reading apps of ``local_detached``."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torchx.runner import Runner
from torchx.schedulers.api import Stream
from torchx.specs import AppDef, AppState, Role

import airflow_provider_axtx
from airflow_provider_axtx.core.app_observation import UNSEEN
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.local_detached.scheduler import create_scheduler
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.launcher.local_detached.harness import DEADLINE, Apps, fork, processes_with, wait_until


def test_an_app_outlives_its_killed_submitter_and_any_process_may_watch_and_cancel_it(
    apps: Apps, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo waiting; while [ ! -e {go} ]; do sleep 0.05; done; echo gone on; exec sleep 1000.4711"

    def submit_and_die() -> None:
        apps.submit("app", script)
        os.kill(os.getpid(), signal.SIGKILL)

    assert fork(submit_and_die) == -signal.SIGKILL
    assert apps.until("app", "RUNNING") == "RUNNING"
    go.touch()
    wait_until(lambda: list(apps.another().log_iter("app", "trainer")) == ["waiting\n", "gone on\n"], "both lines")
    assert fork(lambda: apps.another().cancel("app")) == 0
    assert apps.until("app") == "CANCELLED"
    assert processes_with("1000.4711") == []


@pytest.mark.parametrize(
    ("script", "state", "message"),
    [
        ("exit 0", "SUCCEEDED", "<NONE>"),
        ("exit 1", "FAILED", "trainer/0: exit code 1"),
        ("exit 77", "FAILED", "trainer/0: exit code 77"),
        ("kill -9 $$$$", "FAILED", "trainer/0: killed by SIGKILL"),
        ("kill -SEGV $$$$", "FAILED", "trainer/0: killed by SIGSEGV"),
        ("kill -34 $$$$", "FAILED", "trainer/0: killed by SIGRTMIN"),
    ],
)
def test_the_end_of_an_app(apps: Apps, script: str, state: str, message: str) -> None:
    apps.submit("app", script)
    assert apps.until("app") == state
    assert apps.message("app") == message
    assert apps.scheduler.describe_many(["app"])["app"].is_infrastructure_failure is False


def test_an_app_tells_when_it_ran_without_its_time_in_the_queue(apps: Apps) -> None:
    apps.submit("first", "exec sleep 1000.4713", max_parallel=1)
    apps.until("first", "RUNNING")
    apps.submit("second", "sleep 0.2", max_parallel=1)
    assert apps.scheduler.describe_many(["second"])["second"].started_at is None
    before = time.time()
    apps.scheduler.cancel("first")
    assert apps.until("second") == "SUCCEEDED"
    seen = apps.scheduler.describe_many(["second"])["second"]
    assert seen.started_at is not None and seen.ended_at is not None
    assert before - 0.1 <= seen.started_at
    assert seen.started_at + 0.1 <= seen.ended_at <= time.time() + 0.1


def test_a_command_that_does_not_exist_fails_the_app_and_says_so_in_its_log(apps: Apps) -> None:
    role = Role(name="r", image="", entrypoint="no-such-command", args=["x"], num_replicas=1)
    apps.scheduler.submit(AppDef(name="app", roles=[role]), {"max_parallel": 100})
    assert apps.until("app") == "FAILED"
    assert apps.message("app") == "r/0: exit code 127"
    assert "no-such-command" in "".join(apps.scheduler.log_iter("app", "r"))


def test_one_failing_replica_fails_the_app_and_ends_the_others(apps: Apps) -> None:
    apps.submit("app", 'if [ "$$0" = 1 ]; then sleep 0.3; exit 5; fi; exec sleep 1000.4712', replicas=3)
    assert apps.until("app") == "FAILED"
    assert apps.message("app") == "trainer/1: exit code 5"
    assert processes_with("1000.4712") == []
    final = apps.final_json("app")
    assert final is not None
    assert final["exits"] == {"trainer/0": -15, "trainer/1": 5, "trainer/2": -15}


def test_several_roles_succeed_when_all_replicas_did(apps: Apps) -> None:
    roles = [
        Role(name=name, image="", entrypoint="sh", args=["-c", f"echo {name} $${{0}}", "${replica_id}"], num_replicas=n)
        for name, n in (("reader", 1), ("trainer", 2))
    ]
    apps.scheduler.submit(AppDef(name="app", roles=roles), {"max_parallel": 100})
    assert apps.until("app") == "SUCCEEDED"
    described = apps.scheduler.describe("app")
    assert [(role.name, role.num_replicas) for role in described.roles] == [("reader", 1), ("trainer", 2)]
    assert list(apps.scheduler.log_iter("app", "trainer", k=1)) == ["trainer 1\n"]


def test_logs(apps: Apps, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = (
        f"printf 'out 1\\nhalf'; echo err 1 >&2; while [ ! -e {go} ]; do sleep 0.05; done; "
        r"printf ' line\n\303\244 \377\nno newline'"
    )
    apps.submit("app", script)
    lines = iter(apps.scheduler.log_iter("app", "trainer", should_tail=True))
    assert next(lines) == "out 1\n"
    go.touch()
    # As they were written: both streams end in one log.
    assert list(lines) == ["halferr 1\n", " line\n", "ä \ufffd\n", "no newline"]

    def read(**how: object) -> list[str]:
        return list(apps.scheduler.log_iter("app", "trainer", **how))

    assert apps.until("app") == "SUCCEEDED"
    assert read() == ["out 1\n", "halferr 1\n", " line\n", "ä \ufffd\n", "no newline"]
    assert read() == read(streams=Stream.COMBINED)
    with pytest.raises(InvalidInputError, match="kept together"):
        read(streams=Stream.STDERR)
    assert read(regex="^out 1") == ["out 1\n"]
    with pytest.warns(UserWarning, match="since and until"):
        assert len(read(since=object())) == 5


@pytest.mark.parametrize(("app_id", "role", "k"), [("none", "trainer", 0), ("app", "none", 0), ("app", "trainer", 1)])
def test_the_log_of_what_does_not_exist(apps: Apps, app_id: str, role: str, k: int) -> None:
    apps.submit("app", "exit 0")
    with pytest.raises(InvalidInputError, match=f"replica {k} of role '{role}' of app '{app_id}'"):
        apps.scheduler.log_iter(app_id, role, k)


def test_environment_and_working_directory(apps: Apps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {"AIRFLOW_HOME": "/h", "AIRFLOW_CTX_DAG_ID": "d", "MINE": "a 'quoted'\nvalue, with $x", "BYTES": "\udcff"}
    withheld = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "airflow-db-not-allowed:///",
        "AIRFLOW__CORE__FERNET_KEY": "secret",
        "AIRFLOW_CONN_DB": "postgres://u:secret@h/db",
        "AIRFLOW_VAR_X": "secret",
        "__AIRFLOW_SUPERVISOR_FD": "7",
        "_AIRFLOW__STARTUP_MSG": "secret",
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "AXTX_CRASH_POINT": "nowhere",
    }
    for name, value in {**kept, **withheld}.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    code = f"import os, json; json.dump([os.getcwd(), dict(os.environ)], open({str(out)!r}, 'w'))"
    role = Role(name="r", image="", entrypoint=sys.executable, args=["-c", code], env={"OWN": "1"}, num_replicas=1)
    apps.scheduler.submit(AppDef(name="app", roles=[role]), {"max_parallel": 100})
    assert apps.until("app") == "SUCCEEDED"
    cwd, environment = json.loads(out.read_text())
    assert cwd == str(tmp_path)
    assert {name: environment.get(name) for name in kept} == kept
    assert environment["OWN"] == "1"
    assert environment["TORCHX_RANK0_HOST"] == "localhost"
    assert not withheld.keys() & environment.keys()


def test_nothing_of_the_submitter_is_inherited_and_the_request_is_private(apps: Apps) -> None:
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    apps.submit("app", "exec sleep 1000.4713")
    apps.until("app", "RUNNING")
    replica = wait_until(lambda: processes_with("1000.4713"), "the replica")[0]
    for pid in (replica, apps.supervisor("app").pid):
        links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert links[0] and not [link for link in links if link.startswith("socket:")]
    assert len(list(Path(f"/proc/{replica}/fd").iterdir())) == 3
    theirs.close()
    assert ours.recv(1) == b""  # Nobody else holds the other end open.
    assert os.getsid(apps.supervisor("app").pid) != os.getsid(0)
    assert apps.supervisor("app").cwd() == "/"
    assert stat.S_IMODE((apps.root / "app" / "request.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((apps.root / "app").stat().st_mode) == 0o700


def test_a_structured_error_is_reported(apps: Apps) -> None:
    apps.submit("app", """printf '{"message": {"a": 1}}' > $$TORCHELASTIC_ERROR_FILE; exit 1""")
    assert apps.until("app") == "FAILED"
    assert apps.scheduler.describe("app").structured_error_msg == '{"message": {"a": 1}}'
    apps.submit("half", """printf '{"mess' > $$TORCHELASTIC_ERROR_FILE; exit 1""")
    assert apps.until("half") == "FAILED"
    assert apps.scheduler.describe("half").structured_error_msg == '{"message": "{\\"mess"}'


def test_signal_handlers_stay_and_closing_ends_no_app(apps: Apps) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    scheduler = create_scheduler("s", local_root=str(apps.root), cache_size="3", log_di="x", anything=object())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    apps.submit("app", "exec sleep 1000")
    scheduler.close()
    apps.scheduler.close()
    del scheduler
    assert apps.until("app", "RUNNING") == "RUNNING"


def test_through_a_torchx_runner(apps: Apps) -> None:
    def runner() -> Runner:
        return Runner("torchx", {"local_detached": create_scheduler}, scheduler_params={"local_root": str(apps.root)})

    role = Role(name="r", image="", entrypoint="sh", args=["-c", "echo ${app_id}; exec sleep 1000"], num_replicas=1)
    handle = runner().run(AppDef(name="app", roles=[role]), "local_detached", {"max_parallel": 100})
    assert handle == "local_detached://torchx/app"
    wait_until(lambda: runner().status(handle).state == AppState.RUNNING, "RUNNING")
    assert runner().describe(handle).roles[0].name == "r"
    wait_until(lambda: list(runner().log_lines(handle, "r")) == ["app\n"], "the app's line")
    assert [app.app_handle for app in runner().list("local_detached")] == [handle]
    runner().cancel(handle)
    assert apps.until("app") == "CANCELLED"
    assert runner().status(handle).ui_url == f"file://{apps.root}/app"
    assert runner().status("local_detached://torchx/none") is None


def test_what_was_never_submitted(apps: Apps) -> None:
    assert apps.scheduler.list() == []
    for app_id in ("none", "", ".", "..", ".queue", "../apps", "a/b", "/etc", "x" * 129):
        assert apps.scheduler.describe(app_id) is None
        assert not apps.scheduler.find(app_id)
        assert apps.scheduler.describe_many([app_id]) == {app_id: UNSEEN}
        apps.scheduler.cancel(app_id)
    assert not apps.root.exists()


def test_list_and_describe_many(apps: Apps) -> None:
    apps.submit("b", "exit 0")
    apps.submit("a", "exit 3")
    apps.submit("c", "exec sleep 1000")
    for name, state in (("a", "FAILED"), ("b", "SUCCEEDED"), ("c", "RUNNING")):
        apps.until(name, state)
    listed = [(app.app_id, app.state.name) for app in apps.scheduler.list()]
    assert listed == [("a", "FAILED"), ("b", "SUCCEEDED"), ("c", "RUNNING")]
    seen = apps.another().describe_many(["c", "none", "a"])
    assert {name: (s.app_state, s.message) for name, s in seen.items()} == {
        "c": ("RUNNING", ""),
        "none": (UNSEEN.app_state, UNSEEN.message),
        "a": ("FAILED", "trainer/0: exit code 3"),
    }
    assert all(apps.scheduler.find(name) for name in ("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "role", "options", "field"),
    [
        ("../x", "r", {}, "AppDef.name '../x'"),
        (".x", "r", {}, "AppDef.name '.x'"),
        ("", "r", {}, "AppDef.name ''"),
        ("x" * 129, "r", {}, "AppDef.name 'xxx"),
        ("app\n", "r", {}, "AppDef.name"),
        ("app", "a/b", {}, "Role.name 'a/b'"),
        ("app", "..", {}, "Role.name '..'"),
        ("app", "r", {"log_dir": "/somewhere"}, "log_dir='/somewhere'"),
        ("app", "r", {"max_parallel": 0}, "max_parallel=0"),
        ("app", "r", {"term_grace": -1}, "term_grace=-1"),
        ("app", "r", {"log_limit_mb": 0}, "log_limit_mb=0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    apps: Apps, name: str, role: str, options: dict[str, object], field: str
) -> None:
    app = AppDef(name=name, roles=[Role(name=role, image="", entrypoint="true", num_replicas=1)])
    with pytest.raises(InvalidInputError) as refused:
        apps.scheduler.submit_dryrun(app, options)
    assert field in str(refused.value)
    assert "Fix: " in str(refused.value)
    assert not apps.root.exists()


@pytest.mark.parametrize("replicas", [[], [0], [1, 1]])
def test_roles_that_cannot_run_are_refused(apps: Apps, replicas: list[int]) -> None:
    roles = [Role(name="r", image="", entrypoint="true", num_replicas=n) for n in replicas]
    with pytest.raises(InvalidInputError, match=r"AppDef\.roles of 'app' cannot run"):
        apps.scheduler.submit_dryrun(AppDef(name="app", roles=roles), {})


def test_the_dry_run_is_the_plan_under_the_apps_own_name(apps: Apps) -> None:
    role = Role(name="r", image="", entrypoint="echo", args=["${app_id}", "$$x"], num_replicas=2)
    info = apps.scheduler.submit_dryrun(AppDef(name="app", roles=[role]), {"term_grace": 0})
    request = info.request
    assert (request.app_id, request.log_dir) == ("app", f"{apps.root}/app/logs")
    assert (request.max_parallel, request.term_grace) == (len(os.sched_getaffinity(0)), 0)
    second = request.role_params["r"][1]
    assert second.args == ["echo", "app", "$x"]
    assert second.stdout == f"{apps.root}/app/logs/r/1/stdout.log"
    assert second.env["TORCHELASTIC_ERROR_FILE"] == f"{apps.root}/app/logs/r/1/error.json"
    assert "app/logs/r/1" in str(info)


def test_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AXTX_LOCAL_ROOT", raising=False)
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)
    assert create_scheduler("s").root == Path.home() / "airflow/axtx/apps"
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert create_scheduler("s").root == tmp_path / "axtx/apps"
    monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "r"))
    assert create_scheduler("s").root == tmp_path / "r"
    assert create_scheduler("s", local_root=str(tmp_path / "q")).root == tmp_path / "q"


def test_files_of_an_app_are_removed_when_it_has_ended(apps: Apps) -> None:
    launcher = TorchXLauncher.for_attempt("local_detached", {"local_root": str(apps.root)})
    apps.submit("app", "exec sleep 1000")
    apps.submit("other", "exit 0")
    apps.until("app", "RUNNING")
    assert not launcher.remove_files("app")
    assert apps.state("app") == "RUNNING"
    launcher.cancel("local_detached://torchx/app")
    for name in ("app", "other"):
        apps.until(name)
    assert launcher.remove_files("app")
    assert not (apps.root / "app").exists()
    assert launcher.remove_files("app")
    assert apps.state("other") == "SUCCEEDED"


def test_an_app_whose_supervisor_was_killed_is_ended_before_its_files_are_removed(apps: Apps) -> None:
    launcher = TorchXLauncher.for_attempt("local_detached", {"local_root": str(apps.root)})
    apps.submit("app", "trap '' TERM; sleep 1000.4714; sleep 1000.4714")
    apps.until("app", "RUNNING")
    apps.kill_supervisor("app")
    assert launcher.remove_files("app")
    assert not (apps.root / "app").exists()
    assert processes_with("1000.4714") == []


def test_the_supervisor_needs_the_standard_library_only_and_is_small(apps: Apps) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    supervisor = apps.supervisor("app")
    assert supervisor.memory_info().rss < 20 * 2**20
    assert not [m.path for m in supervisor.memory_maps() if "site-packages" in m.path]


def test_the_supervisor_loads_no_costly_module() -> None:
    code = (
        f"import sys; sys.path.append({str(Path(airflow_provider_axtx.__file__).parents[1])!r}); "
        "import airflow_provider_axtx.launcher.local_detached.supervisor; print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout.split()
    assert "airflow_provider_axtx.launcher.local_detached.host_queue" in loaded
    # Each costs 0.7 to 1.6 MB, for every app that runs or waits.
    assert not {"dataclasses", "pathlib", "typing", "subprocess"} & set(loaded)
