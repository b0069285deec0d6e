"""A Git repository of DAG files, for Airflow's Git bundle."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Repository:
    """A repository below a folder, made at first use, with a branch ``main``."""

    def __init__(self, below: Path) -> None:
        self.folder = below / "repository"
        if not self.folder.exists():
            self.folder.mkdir()
            self._git("init", "--quiet", "--initial-branch=main")
            self.commit("README", "DAG files")

    def commit(self, name: str, text: str) -> None:
        """Write a file and commit it."""
        (self.folder / name).write_text(text)
        self._git("add", name)
        self._git("-c", "user.name=tests", "-c", "user.email=tests@example.org", "commit", "--quiet", "-m", name)

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True)
