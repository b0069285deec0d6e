"""What every suite needs: an AIRFLOW_HOME of its own, and this environment's programs first on PATH."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.lifecycle import complete
from tests.engines.slurm import SlurmCluster

ROOT = Path(__file__).parents[1]
#: Engines that are installed and started for minutes: only when the command line names their marker.
_ON_DEMAND = ("slurm", "docker", "mysql", "browser", "quality", "integrations", "celery")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the engines that were not asked for."""
    asked = set(re.findall(r"\w+", config.option.markexpr))
    left_out = [i for i in items if any(i.get_closest_marker(m) and m not in asked for m in _ON_DEMAND)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


# Many tests fork processes that fit a model: a child does not get the threads of its parent's pool, and would wait for
# them for ever.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def airflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an AIRFLOW_HOME, so that the embedded store, tracker and apps are its own."""
    home = tmp_path / "airflow"
    home.mkdir()
    # Apps of tests report before they exit or never; real ones get longer.
    monkeypatch.setattr(complete, "RESULT_PATIENCE_SECONDS", 0.5)
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # TorchX's own components start `python`, which must be the one that has TorchX.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A Slurm cluster of this test process's own."""
    cluster = SlurmCluster()
    try:
        print(f"Slurm came up in {cluster.start():.1f} s")
        yield cluster
    finally:
        cluster.remove()
