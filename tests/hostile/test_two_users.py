"""What another user of the machine can read, forge and delete: as two Unix users, neither of whom is root."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError, InvalidResultError, TrackerUnavailableError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher import slurm, tracker
from airflow_provider_axtx.launcher.local_detached import app_state, launch
from airflow_provider_axtx.launcher.local_detached.app_dir import STARTED, AppDir, this_host
from airflow_provider_axtx.launcher.local_detached.processes import process
from airflow_provider_axtx.launcher.local_detached.retention import remove_app
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.hostile.two_users import STRANGER, WORKER, as_user
from tests.store.material import experiment

KEY = "digits-0123456789-t0-a1"
REQUEST = {"roles": [], "max_parallel": 1, "term_grace": 1}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter.

    ``tmp_path`` is not: each pytest that this user starts takes the others' rights to the folder above it away.
    """
    with TemporaryDirectory() as folder:
        ground = Path(folder)
        ground.chmod(0o711)
        yield ground


@pytest.fixture
def home(open_folder: Path) -> Path:
    """A folder of the worker's user that other users may enter."""
    folder = open_folder / "home"
    folder.mkdir()
    os.chown(folder, WORKER, WORKER)
    return folder


@pytest.fixture
def shared(open_folder: Path) -> Path:
    """A folder of root to which every user may write, like /tmp without its sticky bit."""
    folder = open_folder / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def launcher(root: Path) -> TorchXLauncher:
    return TorchXLauncher.for_attempt("local_detached", {"local_root": str(root)})


def readable(folder: Path) -> list[Path]:
    """Return what of a folder can be listed or read."""
    found = [folder] if os.access(folder, os.R_OK) or os.access(folder, os.X_OK) else []
    return [*found, *(path for path in folder.rglob("*") if os.access(path, os.R_OK))]


# -- local_detached ----------------------------------------------------------------------------------------------------


def submit(root: Path, key: str = KEY, state: str | None = None) -> AppDir:
    """Make an app as its submitter and its supervisor do."""
    app = AppDir(str(root), key)
    role = {"name": "app", "replicas": [{"env": {"SECRET": "s3cr3t"}, "stdout": f"{app.logs}/app/0/stdout.log"}]}
    assert launch.commit(app, {**REQUEST, "roles": [role]})
    Path(app.logs, "app", "0", "combined.log").write_text("output s3cr3t\n")
    if state is not None:
        app.write(STARTED, {**this_host(), "pid": 1, "time": time.time()})
        app.write_final(state, "", False, {})
    return app


@pytest.mark.parametrize("state", [None, "SUCCEEDED"])
def test_apps_and_their_logs_are_for_their_owner_only(home: Path, state: str | None) -> None:
    root = home / "apps"
    as_user(WORKER, lambda: submit(root, state=state), umask=0)
    assert (root / KEY).stat().st_uid == WORKER
    assert as_user(STRANGER, lambda: readable(root)) == []
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: (root / KEY / "request.json").read_text())
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: submit(root, "mine"))


def plant(root: Path, state: str) -> None:
    """Make a whole app of another user: every file is in order, and its token is known."""
    submit(root, KEY, state)
    for folder in [root / KEY, *(root / KEY).rglob("*")]:
        folder.chmod(0o777)


def plant_link(root: Path, elsewhere: Path) -> None:
    plant(elsewhere, "SUCCEEDED")
    (root / KEY).symlink_to(elsewhere / KEY)


@pytest.fixture
def planted(shared: Path) -> Path:
    """A root to which every user may write, and in which a stranger has made the worker's next app."""
    root = shared / "apps"
    root.mkdir()
    root.chmod(0o777)
    as_user(STRANGER, lambda: plant(root, "SUCCEEDED"))
    return root


@pytest.fixture(params=[WORKER, 0])
def observer(request: pytest.FixtureRequest) -> int:
    """The worker's user, or root, which may read everything."""
    uid: int = request.param
    return uid


Look = Callable[[TorchXLauncher], Any]


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda one: one.find(KEY), id="find"),
        pytest.param(lambda one: one.observe([f"local_detached://torchx/{KEY}"]), id="observe"),
        pytest.param(lambda one: one.cancel(f"local_detached://torchx/{KEY}"), id="cancel"),
        pytest.param(lambda one: one.remove_files(KEY), id="remove"),
    ],
)
def test_an_app_that_a_stranger_has_made_is_not_believed(planted: Path, observer: int, look: Look) -> None:
    one = launcher(planted)
    with pytest.raises(AxtxError, match="not a directory of this user"):
        as_user(observer, lambda: look(one))
    assert (planted / KEY / "final.json").is_file()
    assert not (planted / KEY / "cancel").exists()


def test_an_app_that_a_stranger_has_made_is_not_started(planted: Path, observer: int) -> None:
    (planted / KEY / "final.json").unlink()
    (planted / KEY / "started.json").unlink()
    one = launcher(planted)
    with pytest.raises(AxtxError, match="not a directory of this user"):
        as_user(observer, lambda: one.find(KEY))
    with pytest.raises(PermissionError, match="not a directory of this user"):
        as_user(observer, lambda: launch.commit(AppDir(str(planted), KEY), dict(REQUEST)))
    assert not (planted / KEY / "started.json").exists()


def test_a_link_in_the_place_of_an_app_is_not_followed(shared: Path, observer: int) -> None:
    root = shared / "apps"
    for folder in (root, shared / "elsewhere"):
        folder.mkdir()
        folder.chmod(0o777)
    as_user(STRANGER, lambda: plant_link(root, shared / "elsewhere"))
    one = launcher(root)
    with pytest.raises(AxtxError, match="not a directory of this user"):
        as_user(observer, lambda: one.find(KEY))


def test_what_a_stranger_has_made_hides_no_app(planted: Path) -> None:
    other = "digits-0123456789-t1-a1"
    as_user(WORKER, lambda: submit(planted, other, "FAILED"))
    one = launcher(planted)
    handles = {key: f"local_detached://torchx/{key}" for key in (KEY, other)}
    seen = as_user(WORKER, lambda: one.observe(list(handles.values())))
    assert (seen[handles[other]].app_state, seen[handles[KEY]].app_state) == ("FAILED", "PENDING")
    assert "not a directory of this user" in seen[handles[KEY]].message


def test_root_looks_at_the_apps_of_the_user_to_whom_all_belong(home: Path) -> None:
    as_user(WORKER, lambda: submit(home / "apps", state="FAILED"))
    handle = f"local_detached://torchx/{KEY}"
    assert launcher(home / "apps").observe([handle])[handle].app_state == "FAILED"


@pytest.mark.parametrize("name", ["final.json", "running.json"])
def test_a_state_file_of_a_stranger_in_an_app_of_the_worker_is_not_believed(home: Path, name: str) -> None:
    """The worker's user has opened the app's directory to others, who know its token."""
    app = as_user(WORKER, lambda: submit(home / "apps"))
    for folder in (home / "apps", home / "apps" / KEY):
        folder.chmod(0o777)
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        leaders = {str(bystander.pid): process(bystander.pid).start}
        forged = {"token": app.token, "state": "SUCCEEDED", "message": "", "infrastructure": False, "time": 1.0}
        path = home / "apps" / KEY / name
        as_user(STRANGER, lambda: path.write_text(json.dumps({**forged, "leaders": leaders})))
        as_user(WORKER, lambda: app.write(STARTED, {**this_host(), "pid": 1, "time": 1.0}))
        for uid in (WORKER, 0):
            seen = as_user(uid, lambda: app_state.observe(AppDir(app.root, KEY)))
            assert seen is not None
            assert (seen.app_state, seen.message.partition(":")[0]) == ("FAILED", "lost")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# -- Slurm -------------------------------------------------------------------------------------------------------------


class Request:
    def __init__(self) -> None:
        self.cmd: list[str] = []


def plant_folder(job_dir: Path) -> None:
    (job_dir / KEY).mkdir()


def plant_folder_link(job_dir: Path) -> None:
    (job_dir / "mine").mkdir(mode=0o777)
    (job_dir / KEY).symlink_to(job_dir / "mine")


@pytest.mark.parametrize("make", [plant_folder, plant_folder_link])
def test_a_job_folder_that_a_stranger_has_made_is_refused(
    shared: Path, observer: int, make: Callable[[Path], None]
) -> None:
    as_user(STRANGER, lambda: make(shared))
    request = Request()
    with pytest.raises(InvalidInputError, match="job_dir"):
        as_user(observer, lambda: slurm.work_in(request, str(shared), KEY))
    assert request.cmd == []


def test_a_job_folder_is_for_its_owner_only(shared: Path) -> None:
    as_user(WORKER, lambda: slurm.work_in(Request(), str(shared), KEY), umask=0)
    as_user(WORKER, lambda: (shared / KEY / "slurm-1.out").write_text("s3cr3t"))
    assert (shared / KEY).stat().st_mode & 0o777 == 0o700
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: (shared / KEY / "slurm-1.out").read_text())
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: (shared / KEY / "planted").write_text("x"))


# -- trackers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def valuable(home: Path) -> Path:
    """A folder of the worker with a file of the name that a result has."""
    folder = home / "valuable"
    folder.mkdir()
    (folder / "1").write_text('{"fernet_key": "s3cr3t"}')
    for path in (folder, folder / "1"):
        os.chown(path, WORKER, WORKER)
        path.chmod(0o700)
    return folder


def is_intact(valuable: Path) -> bool:
    return (valuable / "1").read_text() == '{"fernet_key": "s3cr3t"}'


def test_a_result_that_a_stranger_has_linked_is_not_shown(shared: Path, valuable: Path, observer: int) -> None:
    as_user(STRANGER, lambda: (shared / "1").symlink_to(valuable / "1"))
    as_user(STRANGER, lambda: (shared / "1.steps").symlink_to(valuable))
    with pytest.raises(InvalidResultError, match="symbolic link") as caught:
        as_user(observer, lambda: tracker.read_results(str(shared), 1))
    assert "s3cr3t" not in str(caught.value)
    assert as_user(observer, lambda: tracker.read_progress(str(shared), 1)) == {}
    as_user(observer, lambda: tracker.remove_results(str(shared), 1))
    assert is_intact(valuable)
    assert list(shared.iterdir()) == []


def plant_tracker_link(root: Path, valuable: Path) -> None:
    (root / KEY).symlink_to(valuable)


def plant_tracker_with_links(root: Path, valuable: Path) -> None:
    (root / KEY / "checkpoints").mkdir(parents=True)
    (root / KEY / "checkpoints" / "last").symlink_to(valuable)
    (root / KEY / "1").symlink_to(valuable / "1")
    for folder in (root / KEY, root / KEY / "checkpoints"):
        folder.chmod(0o777)


@pytest.mark.parametrize("make", [plant_tracker_link, plant_tracker_with_links])
def test_removing_a_tracker_removes_nothing_that_a_stranger_has_linked(
    shared: Path, valuable: Path, observer: int, make: Callable[[Path, Path], None]
) -> None:
    as_user(STRANGER, lambda: make(shared, valuable))
    assert as_user(observer, lambda: tracker.remove_tracker(f"{shared}/{KEY}", KEY))
    assert list(shared.iterdir()) == []
    assert is_intact(valuable)


@pytest.mark.parametrize("make", [plant_tracker_link, plant_tracker_with_links])
def test_a_tracker_that_cannot_be_removed_is_an_error_that_says_so(
    shared: Path, valuable: Path, make: Callable[[Path, Path], None]
) -> None:
    shared.chmod(0o1777)  # sticky: only its owner may remove what is in it
    as_user(STRANGER, lambda: make(shared, valuable))
    with pytest.raises(TrackerUnavailableError, match=r"not permitted|denied"):
        as_user(WORKER, lambda: tracker.remove_tracker(f"{shared}/{KEY}", KEY))
    assert is_intact(valuable)


def test_removing_an_app_removes_nothing_that_a_stranger_has_linked(home: Path, valuable: Path) -> None:
    root = home / "apps"
    app = as_user(WORKER, lambda: submit(root, state="FAILED"))
    for folder in (root, root / KEY):
        folder.chmod(0o777)
    as_user(STRANGER, lambda: Path(app.path, "link").symlink_to(valuable))
    as_user(STRANGER, lambda: (root / f".old-{KEY}").symlink_to(valuable))
    assert as_user(WORKER, lambda: remove_app(root, KEY))
    assert is_intact(valuable)
    assert list(root.iterdir()) == []


# -- the embedded store ------------------------------------------------------------------------------------------------


@pytest.fixture
def embedded(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the embedded store in an AIRFLOW_HOME of the worker, which others may enter."""
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    monkeypatch.delenv("AIRFLOW_CONN_AX_DEFAULT", raising=False)
    home.chmod(0o755)
    # Imports what a store needs, which the users' processes cannot.
    experiment(ExperimentStore(f"sqlite:///{tmp_path / 'preloaded.db'}"), 1)
    return home / "axtx"


def write_a_store() -> None:
    store: ExperimentStore = AxHook().store
    experiment(store, 2)


@pytest.mark.parametrize("existing_mode", [None, 0o755, 0o777])
def test_the_embedded_store_is_for_its_owner_only(embedded: Path, existing_mode: int | None) -> None:
    if existing_mode is not None:
        embedded.mkdir()
        embedded.chmod(existing_mode)
        os.chown(embedded, WORKER, WORKER)
    as_user(WORKER, write_a_store, umask=0)
    assert stat.S_IMODE(embedded.stat().st_mode) == 0o700
    files = [path for path in embedded.rglob("*") if path.is_file()]
    assert embedded / "experiments.db" in files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert as_user(STRANGER, lambda: readable(embedded)) == []
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: (embedded / "experiments.db").read_bytes())
