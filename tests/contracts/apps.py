"""The apps of the contract suite: a shell script (``app.sh``) that notes its arguments and waits for its release."""

from __future__ import annotations

from pathlib import Path

from torchx.specs import AppDef, BindMount, Resource, Role, macros

SCRIPT = Path(__file__).parent / "app.sh"


def probe(
    value: str,
    folder: str,
    key: str,
    mode: str = "wait",
    image: str = "",
    mounts: str = "",
    replicas: int = 1,
    number: float = 0.5,
    count: int = 1,
    flag: bool = False,
    retries: int = 0,
) -> AppDef:
    """An app that does what the test says.

    Args:
        value: a text that must arrive as it is
        folder: where it meets the test
        key: its submission key
        mode: wait, stubborn (ignores TERM), sleep, now (ends at once)
        image: the image
        mounts: folders of the host that it needs, separated by colons
        replicas: number of replicas
        number: a number that must arrive as it is
        count: likewise
        flag: likewise
        retries: restarts by the scheduler
    """
    values = [value, repr(number), str(count), str(flag)]
    role = Role(
        name="probe",
        image=image,
        entrypoint="/bin/sh",
        args=[str(SCRIPT), folder, key, macros.replica_id, mode, *values],
        num_replicas=replicas,
        max_retries=retries,
        resource=Resource(cpu=1, gpu=0, memMB=64),
        mounts=[BindMount(m, m, read_only=m != folder) for m in mounts.split(":") if m],
    )
    return AppDef("probe", [role])


def trial_app(
    x: float,
    folder: str,
    key: str,
    trial_idx: int,
    tracker_base: str,
    image: str = "",
    mounts: str = "",
) -> AppDef:
    """The app of a trial: it runs until the test releases it, and reports ``x`` as its loss.

    Args:
        x: the trial's parameter
        folder: where it meets the test
        key: the name under which it meets the test
        trial_idx: index of the trial
        tracker_base: where it reports
        image: the image
        mounts: folders of the host that it needs, separated by colons
    """
    app = probe("", folder, key, "trial", image, mounts)
    [role] = app.roles
    role.args = [*role.args[:5], tracker_base, str(trial_idx), repr(x)]
    return app
