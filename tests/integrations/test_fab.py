"""Who sees and steers which experiment with the roles of Airflow's FAB auth manager, in a real API server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from realairflow import AirflowEnv

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.plugin.material import SINGLE, fill

pytestmark = pytest.mark.integrations

ROOT = Path(__file__).parents[2]
#: User and role. ``Team`` may read and edit the DAG ``mine``.
USERS = {
    "admin": "Admin",
    "olga": "Op",
    "uma": "User",
    "vera": "Viewer",
    "tess": "Team",
    "user": "User",
    "viewer": "Viewer",
}
#: The commands of docs/security.md that give Vera a role which may view plugins, as FAB allows Op and Admin only.
GIVE_THE_PAGE = re.search(r"```sh\n(airflow roles create.+?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
MAKE_USERS = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

users, password = json.loads(sys.argv[1]), sys.argv[2]
with get_application_builder() as builder:
    manager = builder.sm
    role = manager.add_role("Team")
    for action in ("can_read", "can_edit"):
        manager.add_permission_to_role(role, manager.create_permission(action, "DAG:mine"))
    for name, given in users.items():
        assert manager.add_user(name, name, name, name + "@example.org", manager.find_role(given), password)
"""
#: User -> experiments on the list; answers to a change of an experiment of the DAG ``mine``, of the DAG ``theirs``, and
#: of one that belongs to no DAG. 404: it looks as if it did not exist.
EXPECTED = {
    "admin": ({"of-mine", "of-theirs", "without-dag"}, [202, 202, 202]),
    "olga": ({"of-mine", "of-theirs", "without-dag"}, [202, 202, 202]),
    "uma": ({"of-mine", "of-theirs"}, [202, 202, 404]),
    "vera": ({"of-mine", "of-theirs"}, [403, 403, 404]),
    "tess": ({"of-mine"}, [202, 404, 404]),
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowEnv]:
    """Airflow with the users, and with one experiment of each of two DAGs and one of none."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "axtx").mkdir()
    (home / "password.json").write_text(json.dumps({"admin": "of-the-tests"}))
    store = ExperimentStore(f"sqlite:///{home / 'axtx' / 'experiments.db'}")
    fill(store, {**SINGLE, "name": "of-mine"}, 1, dag_id="mine")
    fill(store, {**SINGLE, "name": "of-theirs"}, 1, dag_id="theirs")
    store.create("without-dag", {**SINGLE, "name": "without-dag"})
    options = {"core.auth_manager": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"}
    (home / "dags").mkdir()
    environ = {"PYTHONPATH": str(ROOT)}
    started = AirflowEnv(home, home / "dags", options=options, environ=environ, components=("api-server",))
    started.airflow("db", "migrate")
    made = subprocess.run(
        [sys.executable, "-c", MAKE_USERS, json.dumps(USERS), "of-the-tests"],
        env=started.environ(),
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    assert GIVE_THE_PAGE is not None
    for command in GIVE_THE_PAGE[1].splitlines():
        started.airflow(*shlex.split(command)[1:])
    for user in ("uma", "tess"):
        started.airflow("users", "add-role", "--username", user, "--role", "Experiments")
    with started:
        yield started


@contextmanager
def client_of(env: AirflowEnv, user: str) -> Iterator[httpx.Client]:
    """Give a client whose requests come from the user."""
    with httpx.Client(base_url=env.url, trust_env=False, timeout=60) as client:
        answer = client.post("/auth/token", json={"username": user, "password": "of-the-tests"})
        answer.raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


@pytest.mark.parametrize("user", EXPECTED)
def test_what_a_role_sees_and_steers(env: AirflowEnv, user: str) -> None:
    visible, answers = EXPECTED[user]
    with client_of(env, user) as client:
        listed = client.get("/axtx/v1/experiments").json()
        assert {line["name"] for line in listed["experiments"]} == visible
        found = {name: client.get(f"/axtx/v1/experiments/{name}") for name in ("of-mine", "of-theirs", "without-dag")}
        assert {name for name, answer in found.items() if answer.status_code == 200} == visible
        changed = [
            client.patch(
                f"/axtx/v1/experiments/{name}", json={"tags": [user]}, headers={"Idempotency-Key": f"{user}-{name}"}
            ).status_code
            for name in found
        ]
        assert changed == answers
        # The page shows the buttons to those who may change the experiment.
        may_edit = [found[name].json()["may_edit"] for name in found if name in visible]
        assert may_edit == [status == 202 for name, status in zip(found, answers, strict=True) if name in visible]


@pytest.mark.parametrize("user", ["user", "viewer"])
def test_fabs_own_viewers_and_users_may_not_view_plugins(env: AirflowEnv, user: str) -> None:
    with client_of(env, user) as client:
        assert client.get("/axtx/").status_code == 403
        assert client.get("/axtx/v1/experiments").status_code == 403
