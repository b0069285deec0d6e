"""Every test has a root of its own, and leaves no process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.local_detached.harness import Apps


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    own = Apps(tmp_path / "apps")
    yield own
    for app in own.scheduler.list():
        own.scheduler.cancel(app.app_id)
        own.until(app.app_id)
