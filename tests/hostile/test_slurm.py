"""Nothing that a user names becomes an option or a command of Slurm's batch script, and no secret its environment."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchx import specs

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.slurm import FakeSlurm

KEY = "digits-0123456789-t1-a1"
NOBODY = 65534


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}{os.pathsep}{os.environ['PATH']}")
    return fake


def component(role: str = "trainer", env: dict[str, str] | None = None) -> Callable[[], specs.AppDef]:
    def app() -> specs.AppDef:
        return specs.AppDef("app", [specs.Role(role, "", entrypoint="true", env=env or {})])

    return app


def plan(app: Callable[[], specs.AppDef] | None = None, **options: Any) -> Any:
    return TorchXLauncher("slurm", scheduler_args=options).plan(
        app or component(), {}, trial_index=1, experiment="e", tracker_base="/t", submission_key=KEY
    )


INJECTED = [
    "gpu\n#SBATCH --wrap=id",
    "gpu\ntouch /tmp/pwned",
    "gpu --uid=0",
    "gpu;id",
    "$(id)",
    "`id`",
    "gpu'",
    'gpu"',
    "a\rb",
    "a\0b",
    "a\u2028b",
]


@pytest.mark.parametrize("value", INJECTED)
@pytest.mark.parametrize("option", ["partition", "time", "constraint", "mail-user", "mail-type"])
def test_option_with_characters_that_it_cannot_have(cluster: FakeSlurm, option: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=option):
        plan(**{option: value})
    assert not cluster.calls("sbatch")


@pytest.mark.parametrize("value", [v for v in INJECTED if any(c in v for c in "\n\r\0\u2028")])
@pytest.mark.parametrize("option", ["comment", "job_dir"])
def test_text_with_control_characters(cluster: FakeSlurm, option: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=option):
        plan(**{option: f"{tmp_path}/{value}"})


@pytest.mark.parametrize("role", ["a b", "a\nb", "a;b", "--wrap=id", "$(id)", "../../x", "", "数字", "a" * 200])
def test_role_name_that_would_be_an_option_or_a_path(cluster: FakeSlurm, role: str) -> None:
    with pytest.raises(InvalidInputError, match="role"):
        plan(component(role))


@pytest.mark.parametrize("name", ["A B", "A,B", "A=B", "1A", "", "A\nB", "$(id)"])
def test_name_of_a_variable(cluster: FakeSlurm, name: str) -> None:
    with pytest.raises(InvalidInputError, match="variable"):
        plan(component(env={name: "x"}))


def test_what_clusters_really_use_is_taken(cluster: FakeSlurm) -> None:
    options = {
        "partition": "gpu,gpu-long",
        "time": "1-02:30:00",
        "constraint": "[rack1*2&rack2*4]|(a100&nvme)",
        "comment": 'project x; it\'s "ours" $HOME',
        "mail-user": "a.b+c@example.org,d@example.org",
        "mail-type": "END,FAIL",
    }
    planned = plan(**options)
    launcher = TorchXLauncher("slurm")
    launcher.submit(planned)
    (job,) = cluster.state()["jobs"].values()
    assert job["comment"] == options["comment"]
    assert f"--constraint={options['constraint']}" in job["script"]


def test_sbatch_does_not_see_the_secrets_of_airflow(cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"AIRFLOW__CORE__FERNET_KEY": "s3", "AIRFLOW_CONN_PROD": "s3", "AIRFLOW_VAR_X": "s3", "_AIRFLOW_Y": "s3"}
    for name, value in {**secret, "MY_DATA": "/data"}.items():
        monkeypatch.setenv(name, value)
    TorchXLauncher("slurm").submit(plan())
    (job,) = cluster.state()["jobs"].values()
    assert not set(secret) & set(job["environment"])
    assert job["environment"]["MY_DATA"] == "/data"
    assert "AIRFLOW_HOME" in job["environment"]
    assert "s3" not in [word for call in cluster.calls("sbatch") for word in call]


# -- folders ---------------------------------------------------------------------------------------------------------


def test_folder_is_for_its_owner_only(cluster: FakeSlurm, tmp_path: Path) -> None:
    for _ in range(2):  # also when the same submission is planned again
        plan(job_dir=str(tmp_path / "jobs"))
    assert stat.S_IMODE((tmp_path / "jobs" / KEY).stat().st_mode) == 0o700


def foreign(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)


def open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


def file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize("plant", [foreign, open_to_all, link, file])
def test_planted_folder_is_refused(cluster: FakeSlurm, tmp_path: Path, plant: Callable[[Path], None]) -> None:
    (tmp_path / "jobs").mkdir()
    plant(tmp_path / "jobs" / KEY)
    with pytest.raises(InvalidInputError, match="job_dir"):
        plan(job_dir=str(tmp_path / "jobs"))
    assert not cluster.calls("sbatch")
