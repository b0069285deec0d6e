"""Docker, real: what only it does."""

from __future__ import annotations

from typing import Any

import pytest
from torchx.specs import AppDef, BindMount, Resource, Role

from airflow_provider_axtx.core.app_observation import UNSEEN
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from tests.contracts.rigs import DockerRig

pytestmark = pytest.mark.docker
LABEL = "torchx.pytorch.org/app-id"


def containers(rig: DockerRig, handle: str) -> list[Any]:
    client = rig.docker.client()
    found = client.containers.list(all=True, filters={"label": f"{LABEL}={rig.launcher.app_id(handle)}"})
    return sorted(found, key=lambda container: str(container.name))


def hungry(megabytes: int, image: str, mounts: str, key: str) -> AppDef:
    """An app that uses more memory than it asked for.

    Args:
        megabytes: how much it uses
        image: the image
        mounts: folders of the host that it needs
        key: its submission key
    """
    script = f"b = b'x' * ({megabytes} << 20)"
    role = Role(
        name="probe",
        image=image,
        entrypoint="/usr/bin/python3",
        args=["-IS", "-c", script],
        resource=Resource(cpu=1, gpu=0, memMB=32),
        mounts=[BindMount(m, m, read_only=True) for m in mounts.split(":")[:2]],
    )
    return AppDef("probe", [role])


def test_lost_container_is_unknown(docker_rig: DockerRig) -> None:
    handle = docker_rig.submit(docker_rig.key)
    docker_rig.await_running(docker_rig.key, handle)
    [container] = containers(docker_rig, handle)
    container.remove(force=True)
    assert docker_rig.observe(handle) == UNSEEN
    assert docker_rig.find(docker_rig.key) is None


def test_one_lost_container_of_many_fails_the_app(docker_rig: DockerRig) -> None:
    handle = docker_rig.submit(docker_rig.key, replicas=2)
    docker_rig.await_running(docker_rig.key, handle, replicas=2)
    containers(docker_rig, handle)[0].remove(force=True)
    assert docker_rig.observe(handle).app_state == "RUNNING"
    docker_rig.release(docker_rig.key)
    seen = docker_rig.await_state(handle, "FAILED")
    assert seen.is_infrastructure_failure
    assert seen.message == "only 1 of 2 containers are there"


def test_out_of_memory_is_the_reason(docker_rig: DockerRig) -> None:
    arguments = {name: docker_rig.component_args[name] for name in ("image", "mounts")}
    plan = docker_rig.launcher.plan(
        hungry,
        {"megabytes": 200},
        {**arguments, "key": docker_rig.key},
        trial_index=0,
        experiment="contract",
        tracker_base=str(docker_rig.folder),
        submission_key=docker_rig.key,
    )
    seen = docker_rig.await_state(docker_rig.launcher.submit(plan), "FAILED")
    assert "out of memory" in seen.message
    assert not seen.is_infrastructure_failure


def test_all_replicas_are_stopped_at_the_same_time(docker_rig: DockerRig) -> None:
    """Each of them traps TERM and takes docker's whole grace of 10 s."""
    handle = docker_rig.submit(docker_rig.key, mode="stubborn", replicas=3)
    docker_rig.await_running(docker_rig.key, handle, replicas=3)
    docker_rig.cancel(handle)
    ended = [c.attrs["State"]["FinishedAt"] for c in containers(docker_rig, handle)]
    codes = [c.attrs["State"]["ExitCode"] for c in containers(docker_rig, handle)]
    assert codes == [137] * 3
    assert _seconds(max(ended)) - _seconds(min(ended)) < 5


def test_cut_name_that_begins_with_a_dash_is_corrected(docker_rig: DockerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchX keeps 30 characters of an app's id, whose random end has 12 to 14."""
    key = docker_rig.key
    assert f"{key}-m4601rvst4p2"[-30] == "-"
    monkeypatch.setattr("torchx.schedulers.docker_scheduler.make_unique", lambda name: f"{name}-m4601rvst4p2")
    handle = docker_rig.submit(key, mode="now", replicas=2)
    docker_rig.await_state(handle, "SUCCEEDED")
    assert docker_rig.find(key) == handle
    first, second = containers(docker_rig, handle)
    assert f"TORCHX_RANK0_HOST={first.name}" in second.attrs["Config"]["Env"]


def test_failed_submission_leaves_no_replica(docker_rig: DockerRig) -> None:
    first = docker_rig.submit(docker_rig.key, mode="now")
    docker_rig.await_state(first, "SUCCEEDED")
    [taken] = containers(docker_rig, first)
    plan = docker_rig.planned(f"{docker_rig.key}1", replicas=3)
    plan.dryrun.request.containers[1].kwargs["name"] = taken.name
    with pytest.raises(SchedulerUnavailableError, match="already in use"):
        docker_rig.launcher.submit(plan)
    assert docker_rig.find(f"{docker_rig.key}1") is None
    assert docker_rig.processes(f"{docker_rig.key}1") == 0


def test_paused_app_still_runs(docker_rig: DockerRig) -> None:
    handle = docker_rig.submit(docker_rig.key)
    docker_rig.await_running(docker_rig.key, handle)
    [container] = containers(docker_rig, handle)
    container.pause()
    assert docker_rig.observe(handle).app_state == "RUNNING"
    docker_rig.cancel(handle)
    assert docker_rig.observe(handle).is_terminal


def _seconds(moment: str) -> float:
    hours, minutes, seconds = moment.partition("T")[2].rstrip("Z").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
