"""What is changed in TorchX's requests, seen without an engine: the suites of the engines show why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torchx.schedulers.docker_scheduler import DockerContainer, DockerJob
from torchx.specs import AppDef, Role

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.observers.docker import complete_request
from airflow_provider_axtx.launcher.plan import SubmissionPlan
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.slurm import FakeSlurm


@pytest.fixture(autouse=True)
def _slurm_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{FakeSlurm(tmp_path / 'slurm').bin}{os.pathsep}{os.environ['PATH']}")


def trainer(value: str, retries: int = 0) -> AppDef:
    return AppDef(
        "trainer", [Role("trainer", "", entrypoint="true", args=[value], num_replicas=2, max_retries=retries)]
    )


def plan(value: str, retries: int = 0) -> SubmissionPlan:
    return TorchXLauncher("slurm").plan(
        trainer,
        {"value": value},
        {"retries": retries},
        trial_index=0,
        experiment="requests",
        tracker_base="/trackers",
        submission_key="requests-0123456789-t0-a1",
    )


@pytest.mark.parametrize(("retries", "option"), [(0, " --no-requeue"), (2, " --requeue")])
def test_slurm_runs_an_app_again_only_if_its_component_says_so(retries: int, option: str) -> None:
    script = plan("v", retries).dryrun.request.materialize()
    jobs = [line for line in script.splitlines() if "--job-name" in line]
    assert len(jobs) == 2
    assert all(line.count("requeue") == 1 and option in line for line in jobs)


@pytest.mark.parametrize("value", ["${app_id}", "$${app_id}", "a $${app_id} b"])
def test_text_that_torchx_would_replace_on_slurm_is_refused(value: str) -> None:
    with pytest.raises(InvalidInputError, match="app_id"):
        plan(value)


@pytest.mark.parametrize("value", ["$app_id", "${replica_id}", "{app_id}", "$"])
def test_other_text_with_a_dollar_passes(value: str) -> None:
    replicas = plan(value).dryrun.request.replicas.values()
    assert [replica.args for replica in replicas] == [[value], [value]]


def test_docker_names_begin_with_no_dash_and_say_how_many_there_are() -> None:
    names = [f"-t1-a1-m4601rvst4p2-trainer-{n}" for n in range(2)]
    job = DockerJob("app", [])
    for name in names:
        kwargs = {"name": name, "hostname": name, "environment": {"TORCHX_RANK0_HOST": names[0]}, "labels": {}}
        job.containers.append(DockerContainer("image", ["true"], kwargs))
    complete_request(job)
    first, second = (container.kwargs for container in job.containers)
    assert first["name"] == first["hostname"] == "t1-a1-m4601rvst4p2-trainer-0"
    assert second["environment"] == {"TORCHX_RANK0_HOST": first["name"]}
    assert second["labels"] == {"axtx.replicas": "2"}
