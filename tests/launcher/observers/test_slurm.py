"""Slurm, seen through its commands: real executables on PATH that print what Slurm prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from torchx import specs

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import InvalidInputError, SchedulerUnavailableError
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.slurm import FakeSlurm

KEY = "digits-0123456789-t1-a1"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}{os.pathsep}{os.environ['PATH']}")
    return fake


@pytest.fixture
def launcher(cluster: FakeSlurm) -> TorchXLauncher:
    return TorchXLauncher("slurm")


def handle(number: str) -> str:
    return f"slurm://torchx/{number}"


def observe(launcher: TorchXLauncher, number: str) -> AppObservation:
    return launcher.observe([handle(number)])[handle(number)]


def trainer(x: float, tracker_base: str) -> specs.AppDef:
    role = specs.Role("trainer", "", entrypoint="true", args=[str(x), tracker_base], num_replicas=2)
    return specs.AppDef("anything", [role])


def plan(launcher: TorchXLauncher, component: Any = trainer, **parameters: Any) -> Any:
    return launcher.plan(
        component,
        parameters or {"x": 0.5},
        trial_index=1,
        experiment="digits",
        tracker_base="/trackers/a",
        submission_key=KEY,
    )


# -- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "app_state", "is_infrastructure_failure"),
    [
        ("PENDING", "PENDING", False),
        ("CONFIGURING", "PENDING", False),
        ("REQUEUED", "PENDING", False),
        ("REQUEUE_HOLD", "PENDING", False),
        ("RUNNING", "RUNNING", False),
        ("COMPLETING", "RUNNING", False),
        ("SUSPENDED", "RUNNING", False),
        ("COMPLETED", "SUCCEEDED", False),
        ("CANCELLED", "CANCELLED", False),
        ("CANCELLED by 0", "CANCELLED", False),
        ("CANCELLED+", "CANCELLED", False),
        ("FAILED", "FAILED", False),
        ("TIMEOUT", "FAILED", False),
        ("OUT_OF_MEMORY", "FAILED", False),
        ("OUT_OF_ME+", "PENDING", False),
        ("DEADLINE", "FAILED", False),
        ("NODE_FAIL", "FAILED", True),
        ("BOOT_FAIL", "FAILED", True),
        ("PREEMPTED", "FAILED", True),
        ("REVOKED", "FAILED", True),
        ("A_STATE_OF_THE_FUTURE", "PENDING", False),
    ],
)
def test_state(
    cluster: FakeSlurm, launcher: TorchXLauncher, state: str, app_state: str, is_infrastructure_failure: bool
) -> None:
    seen = observe(launcher, cluster.add(12, state))
    assert (seen.app_state, seen.is_infrastructure_failure) == (app_state, is_infrastructure_failure)


def test_messages_say_state_exit_code_and_signal(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    assert observe(launcher, cluster.add(1, "FAILED", exit_code="3:0", name=KEY)).message == "FAILED, exit code 3"
    parts = cluster.add(4, "COMPLETED", "FAILED", exit_code="3:0", name=KEY)
    assert observe(launcher, parts).message == "trainer-1: FAILED, exit code 3"
    assert "signal 9" in observe(launcher, cluster.add(2, "OUT_OF_MEMORY", exit_code="0:9")).message
    assert "A_STATE" in observe(launcher, cluster.add(3, "A_STATE")).message


@pytest.mark.parametrize(
    ("states", "app_state"),
    [
        (["COMPLETED", "RUNNING"], "RUNNING"),
        (["FAILED", "COMPLETING"], "RUNNING"),
        (["PENDING", "PENDING"], "PENDING"),
        (["COMPLETED", "FAILED"], "FAILED"),
        (["CANCELLED by 0", "FAILED"], "FAILED"),
        (["CANCELLED by 0", "COMPLETED"], "CANCELLED"),
        (["COMPLETED", "COMPLETED"], "SUCCEEDED"),
    ],
)
def test_parts_of_a_heterogeneous_job(
    cluster: FakeSlurm, launcher: TorchXLauncher, states: list[str], app_state: str
) -> None:
    assert observe(launcher, cluster.add(12, *states)).app_state == app_state


def test_one_sacct_for_all_jobs_and_no_squeue_when_that_knows_them(
    cluster: FakeSlurm, launcher: TorchXLauncher
) -> None:
    numbers = [cluster.add(n, "RUNNING" if n % 2 else "COMPLETED", start=1767323045) for n in range(1, 50)]
    seen = launcher.observe([handle(n) for n in numbers])
    assert [seen[handle(n)].app_state for n in numbers] == ["RUNNING" if int(n) % 2 else "SUCCEEDED" for n in numbers]
    (call,) = cluster.calls("sacct")
    assert call[:4] == ["-a", "-X", "-P", "-n"]
    assert call[-2:] == ["-o", "JobID,JobName,State,ExitCode,Start,End"]
    assert not cluster.calls("squeue")


@pytest.mark.parametrize("unaccounted", [False, True])
@pytest.mark.parametrize(
    ("state", "start", "end", "times"),
    [
        ("RUNNING", 1767323045, 1767330000, (1767323045.0, None)),  # its end is its time limit
        ("COMPLETED", 1767323045, 1767323049, (1767323045.0, 1767323049.0)),
        ("CANCELLED by 0", None, 1767323049, (None, 1767323049.0)),
        ("PENDING", 1767323045, 1767330000, (None, None)),  # the start is Slurm's forecast
        ("FAILED", None, None, (None, None)),
    ],
)
def test_times(
    cluster: FakeSlurm,
    launcher: TorchXLauncher,
    state: str,
    start: int | None,
    end: int | None,
    times: tuple[float | None, float | None],
    unaccounted: bool,
) -> None:
    number = cluster.add(12, state, start=start, end=end, queued=unaccounted, unaccounted=unaccounted)
    seen = observe(launcher, number)
    assert (seen.started_at, seen.ended_at) == times


@pytest.mark.parametrize("queued", [True, False])
def test_a_start_that_is_not_accounted_yet_is_asked_of_the_queue(
    cluster: FakeSlurm, launcher: TorchXLauncher, queued: bool
) -> None:
    number = cluster.add(12, "COMPLETED", start=1767323045, end=1767323049, queued=queued)
    cluster.update(number, {"start_unaccounted": True})
    seen = observe(launcher, number)
    assert (seen.app_state, seen.started_at) == ("SUCCEEDED", 1767323045.0 if queued else None)
    assert seen.ended_at == 1767323049.0
    cluster.break_command("squeue")
    assert observe(launcher, number).app_state == "SUCCEEDED"


def test_a_job_that_accounting_does_not_know_yet_is_seen_in_the_queue(
    cluster: FakeSlurm, launcher: TorchXLauncher
) -> None:
    cluster.add(1, "RUNNING")
    assert observe(launcher, cluster.add(2, "PENDING", queued=True, unaccounted=True)).app_state == "PENDING"
    seen = launcher.observe([handle("1"), handle("2"), handle("3")])
    assert [seen[handle(n)].app_state for n in "123"] == ["RUNNING", "PENDING", "UNKNOWN"]


def test_unknown_to_both_is_unknown(launcher: TorchXLauncher) -> None:
    assert observe(launcher, "99").app_state == "UNKNOWN"
    assert observe(launcher, "not-a-number").app_state == "UNKNOWN"


@pytest.mark.parametrize("accounted", ["NODE_FAIL", "PREEMPTED"])
def test_a_requeued_job_is_not_over(cluster: FakeSlurm, launcher: TorchXLauncher, accounted: str) -> None:
    number = cluster.add(5, "PENDING", accounted=accounted, queued=True)
    assert observe(launcher, number).app_state == "PENDING"
    cluster.break_command("squeue")
    with pytest.raises(SchedulerUnavailableError):
        observe(launcher, number)


def test_database_daemon_down_leaves_the_queue(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    queued, ended = cluster.add(1, "RUNNING", queued=True), cluster.add(2, "COMPLETED")
    cluster.break_command("sacct", "Problem talking to the database: Connection refused")
    seen = launcher.observe([handle(queued), handle(ended)])
    assert seen[handle(queued)].app_state == "RUNNING"
    assert not seen[handle(ended)].is_terminal
    assert "Problem talking to the database" in seen[handle(ended)].message
    with pytest.raises(SchedulerUnavailableError, match="Problem talking to the database"):
        observe(launcher, ended)


def test_all_down_is_no_state(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    number = cluster.add(1, "RUNNING", queued=True, unaccounted=True)
    cluster.break_command("squeue", "Unable to contact slurm controller")
    with pytest.raises(SchedulerUnavailableError, match="Unable to contact slurm controller") as caught:
        observe(launcher, number)
    assert caught.value.retryable


def test_a_cluster_without_accounting_is_seen_by_its_queue(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    number = cluster.add(1, "RUNNING", queued=True)
    cluster.break_command("sacct", "Slurm accounting storage is disabled")
    assert observe(launcher, number).app_state == "RUNNING"
    assert observe(launcher, "99").app_state == "UNKNOWN"
    assert launcher.find(KEY) is None


def test_without_the_commands_nothing_is_said_about_the_app(
    launcher: TorchXLauncher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerUnavailableError, match="no command sacct"):
        observe(launcher, "1")
    with pytest.raises(InvalidInputError, match="no command sbatch"):
        plan(launcher)


# -- submit, find, cancel, logs --------------------------------------------------------------------------------------


def test_submitted_job_is_found_by_its_name(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    submitted = launcher.submit(plan(launcher))
    (job,) = cluster.state()["jobs"].values()
    assert [part["name"] for part in job["parts"]] == [KEY, f"{KEY}.trainer-1"]
    assert launcher.find(KEY) == submitted
    assert launcher.find(KEY.replace("-a1", "-a11")) is None
    assert launcher.find(KEY[:-1]) is None


def test_user_comment_is_kept(cluster: FakeSlurm) -> None:
    launcher = TorchXLauncher("slurm", scheduler_args={"comment": "project|x with blanks"})
    submitted = launcher.submit(plan(launcher))
    (job,) = cluster.state()["jobs"].values()
    assert job["comment"] == "project|x with blanks"
    assert launcher.find(KEY) == submitted


@pytest.mark.parametrize("user", ["airflow", "another"])
@pytest.mark.parametrize("queued", [True, False])
def test_job_is_found_without_comment_and_folder_and_by_any_user(
    cluster: FakeSlurm, launcher: TorchXLauncher, user: str, queued: bool
) -> None:
    cluster.forget_comments()
    cluster.add(6, "COMPLETED", "COMPLETED", name=f"{KEY}1")
    number = cluster.add(7, "RUNNING", "RUNNING", name=KEY, user=user, queued=queued, unaccounted=queued)
    assert launcher.find(KEY) == handle(number)
    assert observe(launcher, number).app_state == "RUNNING"
    (job,) = [job for n, job in cluster.state()["jobs"].items() if n == number]
    assert not job["comment"]


@pytest.mark.parametrize("queued", [True, False])
def test_job_that_the_version_before_submitted_is_found_by_its_comment(
    cluster: FakeSlurm, launcher: TorchXLauncher, queued: bool
) -> None:
    cluster.add(6, "RUNNING", name="torchx-trainer", comment=f"{KEY}1", queued=True)
    number = cluster.add(7, "RUNNING", name="torchx-trainer", comment=f"{KEY} mine", queued=queued, unaccounted=queued)
    assert launcher.find(KEY) == handle(number)


def test_job_of_another_user_that_may_not_be_cancelled_is_an_error(
    cluster: FakeSlurm, launcher: TorchXLauncher
) -> None:
    number = cluster.add(7, "RUNNING", name=KEY, user="another")
    with pytest.raises(SchedulerUnavailableError, match="permission denied"):
        launcher.cancel(handle(number))


@pytest.mark.parametrize("broken", ["sacct", "squeue"])
def test_half_an_answer_is_not_not_found(cluster: FakeSlurm, launcher: TorchXLauncher, broken: str) -> None:
    cluster.break_command(broken)
    with pytest.raises(SchedulerUnavailableError, match="Connection refused"):
        launcher.find(KEY)


def test_job_dir_is_one_folder_for_each_app_and_leaves_no_file_behind(
    cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    launcher = TorchXLauncher("slurm", scheduler_args={"job_dir": str(tmp_path / "jobs")})
    launcher.submit(plan(launcher))
    (job,) = cluster.state()["jobs"].values()
    assert job["work_dir"] == str(tmp_path / "jobs" / KEY)
    assert Path(job["work_dir"]).is_dir()
    assert not list(here.iterdir())


@pytest.mark.parametrize("job_dir", ["relative/jobs", "/proc/no/such"])
def test_unusable_job_dir(cluster: FakeSlurm, job_dir: str) -> None:
    with pytest.raises(InvalidInputError, match="job_dir"):
        plan(TorchXLauncher("slurm", scheduler_args={"job_dir": job_dir}))
    assert not cluster.calls("sbatch")


@pytest.mark.parametrize("value", ["a,b", "it's", 'say "x"', "two\nlines"])
def test_environment_that_slurm_would_corrupt_is_refused(
    cluster: FakeSlurm, launcher: TorchXLauncher, value: str
) -> None:
    def with_env(x: float) -> specs.AppDef:
        return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="true", env={"GOOD": "a b", "BAD": value})])

    with pytest.raises(InvalidInputError, match="sets BAD to a value") as caught:
        plan(launcher, with_env)
    assert value not in str(caught.value)


def test_parameters_arrive_quoted_in_the_batch_script(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    def text(choice: str) -> specs.AppDef:
        return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="echo", args=[choice])])

    launcher.submit(plan(launcher, text, choice="a,b 'c' $HOME $(id)"))
    (job,) = cluster.state()["jobs"].values()
    assert """echo 'a,b '"'"'c'"'"' $HOME $(id)'""" in job["script"]


def test_failing_sbatch_may_have_submitted(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    planned = plan(launcher)
    cluster.break_command("sbatch", "Batch job submission failed: Socket timed out")
    with pytest.raises(SchedulerUnavailableError, match=f"submit {KEY}"):
        launcher.submit(planned)


def test_cancel(cluster: FakeSlurm, launcher: TorchXLauncher) -> None:
    number = cluster.add(1, "RUNNING", "RUNNING")
    launcher.cancel(handle(number))
    assert observe(launcher, number).app_state == "CANCELLED"
    launcher.cancel(handle(number))
    launcher.cancel(handle("99"))
    cluster.break_command("scancel", "Job/step already completing or completed")
    launcher.cancel(handle(number))
    cluster.break_command("scancel", "Unable to contact slurm controller")
    with pytest.raises(SchedulerUnavailableError, match="Unable to contact"):
        launcher.cancel(handle(number))


def test_logs_are_read_from_the_work_folder_of_the_job(
    cluster: FakeSlurm, launcher: TorchXLauncher, tmp_path: Path
) -> None:
    number = cluster.add(1, "FAILED", work_dir=str(tmp_path))
    assert "is one that this machine shares" in launcher.logs(handle(number))[0].replace("has to be", "is")
    (tmp_path / "slurm-1-trainer-0.out").write_text("".join(f"line {i}\n" for i in range(100)))
    (tmp_path / "slurm-1-trainer-0.err").write_bytes(b"Traceback \xff\nValueError\n")
    assert launcher.logs(handle(number), lines=2) == [
        "slurm-1-trainer-0.err: Traceback �",
        "slurm-1-trainer-0.err: ValueError",
        "slurm-1-trainer-0.out: line 98",
        "slurm-1-trainer-0.out: line 99",
    ]
    assert launcher.logs(handle("99")) == ["[no log: the scheduler does not know the app]"]
