"""The harness itself: what it starts, what it can kill, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from realairflow import AirflowEnv, AirflowEnvError, ApiError, RunFailed, poll, processes

from tests.e2e.world import NewDatabase

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parent / "dags_harness"
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[AirflowEnv]:
    with AirflowEnv(tmp_path_factory.mktemp("harness"), DAGS, metadata_url=new_database()) as env:
        yield env


def ours(home: Path) -> list[psutil.Process]:
    return processes.find(processes.marked(str(home.resolve()), ()))


def test_mapped_tasks_their_xcom_and_their_logs_are_read(env: AirflowEnv) -> None:
    run = env.api.trigger("harness_mapped")
    env.api.wait_for_run("harness_mapped", run)
    assert [env.api.xcom("harness_mapped", run, "add", index) for index in range(3)] == [
        {"sum": 2},
        {"sum": 3},
        {"sum": 4},
    ]
    assert "{'sum': 4}" in env.api.task_log("harness_mapped", run, "add", 2)
    with pytest.raises(ApiError, match="404"):
        env.api.xcom("harness_mapped", run, "add", 7)


def test_a_failed_run_is_told_with_the_log_of_its_failed_task(env: AirflowEnv) -> None:
    run = env.api.trigger("harness_mapped", {"refuse": 2})
    with pytest.raises(RunFailed, match=r"add\[1\], try 1\n(.*\n)*.*ValueError: asked to refuse 2"):
        env.api.wait_for_run("harness_mapped", run)
    assert env.api.task_states("harness_mapped", run) == {"add[0]": "success", "add[1]": "failed", "add[2]": "success"}


def test_a_cleared_task_runs_again(env: AirflowEnv) -> None:
    run = env.api.trigger("harness_mapped")
    env.api.wait_for_run("harness_mapped", run)
    (cleared,) = env.api.clear("harness_mapped", run, [("add", 0)])
    assert (cleared["task_id"], cleared["map_index"]) == ("add", 0)
    env.api.wait_for_run("harness_mapped", run)
    tries = {ti["map_index"]: ti["try_number"] for ti in env.api.task_instances("harness_mapped", run, "add")}
    assert tries == {0: 2, 1: 1, 2: 1}


def test_a_user_ends_a_task_and_a_run(env: AirflowEnv) -> None:
    run = env.api.trigger("harness_deferred")
    env.api.wait_for_task("harness_deferred", run, "wait", ["deferred"])
    env.api.set_task_state("harness_deferred", run, "wait", "success")
    env.api.wait_for_run("harness_deferred", run)
    other = env.api.trigger("harness_deferred")
    env.api.set_run_state("harness_deferred", other, "failed")
    env.api.wait_for_run("harness_deferred", other, expect="failed")


def test_a_killed_triggerer_is_replaced_and_the_deferred_task_ends(env: AirflowEnv) -> None:
    run = env.api.trigger("harness_deferred")
    env.api.wait_for_task("harness_deferred", run, "wait", ["deferred"])
    killed = env.pid("triggerer")
    env.kill_tree("triggerer")
    assert not processes.find(processes.in_session(killed))
    env.start("triggerer")
    env.wait_ready("triggerer")
    assert env.pid("triggerer") != killed
    env.api.wait_for_run("harness_deferred", run)


def test_a_killed_scheduler_is_replaced_and_its_task_tried_again(env: AirflowEnv, tmp_path: Path) -> None:
    run = env.api.trigger("harness_running", {"folder": str(tmp_path)})
    poll(lambda: (tmp_path / "tries").exists() or None, 60, "the first try")
    env.kill_tree("scheduler")
    env.wait_unhealthy("scheduler")
    env.start("scheduler")
    env.wait_ready("scheduler")
    poll(lambda: (tmp_path / "tries").read_text().count("try") == 2 or None, 120, "the second try")
    (tmp_path / "go").touch()
    env.api.wait_for_run("harness_running", run)


def test_a_killed_scheduler_alone_leaves_its_running_task(env: AirflowEnv, tmp_path: Path) -> None:
    run = env.api.trigger("harness_running", {"folder": str(tmp_path)})
    poll(lambda: (tmp_path / "tries").exists() or None, 60, "the first try")
    killed = env.pid("scheduler")
    env.kill("scheduler")
    assert processes.find(processes.in_session(killed))
    (tmp_path / "go").touch()
    env.api.wait_for_task("harness_running", run, "hold", ["success"])
    env.kill_tree("scheduler")
    assert not processes.find(processes.in_session(killed))
    env.start("scheduler")
    env.wait_ready("scheduler")
    env.api.wait_for_run("harness_running", run)


def test_waits_outlive_a_restart_of_the_api_server(env: AirflowEnv) -> None:
    run = env.api.trigger("harness_deferred")
    env.api.wait_for_task("harness_deferred", run, "wait", ["deferred"])
    env.kill("api-server")
    env.start("api-server")
    env.api.wait_for_run("harness_deferred", run)


def test_a_home_in_use_is_refused(env: AirflowEnv) -> None:
    with pytest.raises(AirflowEnvError, match="another process runs Airflow in"):
        AirflowEnv(env.paths.home, DAGS).up()


def test_nothing_listens_beyond_loopback(env: AirflowEnv) -> None:
    addresses = {
        connection.laddr.ip
        for process in ours(env.paths.home)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_a_taken_port_is_left_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: NewDatabase
) -> None:
    env = AirflowEnv(tmp_path / "home", DAGS, metadata_url=new_database())
    free = env._choose_port
    chosen: list[int] = []

    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()

        def choose() -> None:
            free()
            if not chosen:
                env.port = owner.getsockname()[1]
                env._api = type(env.api)(env.url, env.username, env.password)
            chosen.append(env.port)

        monkeypatch.setattr(env, "_choose_port", choose)
        with env:
            assert len(chosen) == 2
            assert env.port == chosen[1] != owner.getsockname()[1]
            assert env.api.health()["scheduler"]["status"] == "healthy"
    assert not ours(tmp_path / "home")


def test_an_ended_environment_leaves_no_process_not_even_an_escaped_app(tmp_path: Path) -> None:
    # With SQLite, as the demo runs where there is no PostgreSQL.
    with AirflowEnv(tmp_path, DAGS) as env:
        run = env.api.trigger("harness_escapes")
        env.api.wait_for_run("harness_escapes", run)
        app = psutil.Process(int(env.api.xcom("harness_escapes", run, "detach")))
        assert app in ours(tmp_path)
        env.kill_tree("scheduler")
        assert processes.lives(app)
        listening = env.port
    assert not processes.lives(app)
    assert not ours(tmp_path)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", listening)) != 0


def test_what_a_killed_harness_left_is_ended_by_the_next(tmp_path: Path, new_database: NewDatabase) -> None:
    database = new_database()
    code = (
        "import sys, time; from pathlib import Path; from realairflow import AirflowEnv\n"
        "env = AirflowEnv(Path(sys.argv[1]), Path(sys.argv[2]), metadata_url=sys.argv[3])\n"
        "env.up(); print('up', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(DAGS), database],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "up\n"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    left = ours(tmp_path)
    with AirflowEnv(tmp_path, DAGS, metadata_url=database) as env:
        assert not [process for process in left if processes.lives(process)]
        assert env.api.health()["triggerer"]["status"] == "healthy"
    assert not ours(tmp_path)
