"""Files that are replaced as a whole, and what is in their place already."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_provider_axtx.core.replaced_file import replaced_file

WRITES = """
import sys
from airflow_provider_axtx.core.replaced_file import replaced_file
with replaced_file(sys.argv[1]) as path:
    path.write_text("new")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def write(path: Path) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text("new")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_has_the_mode_of_every_new_file(folder: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write(folder / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "new").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o444])
def test_a_replaced_file_keeps_its_mode(folder: Path, mode: int) -> None:
    (folder / "old").write_text("old")
    (folder / "old").chmod(mode)
    write(folder / "old")
    assert stat.S_IMODE((folder / "old").stat().st_mode) == mode
    assert (folder / "old").read_text() == "new"


@pytest.mark.parametrize("exists", [True, False])
def test_the_file_that_a_link_names_is_replaced(folder: Path, exists: bool) -> None:
    (folder / "inner").mkdir()
    link, named = folder / "link", folder / "inner" / "named"
    link.symlink_to("inner/named")
    if exists:
        named.write_text("old")
    write(link)
    assert (link.is_symlink(), named.read_text(), names(folder / "inner")) == (True, "new", ["named"])


def test_a_pipe_gets_the_content_and_stays(folder: Path) -> None:
    pipe, read = folder / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(10)
    assert (read, pipe.is_fifo(), names(folder)) == (["new"], True, ["pipe"])


@pytest.mark.parametrize("name", ["stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_gets_the_content(folder: Path, name: str) -> None:
    # A link like /dev/stdout itself, which is left alone: an error here would break it for the whole machine.
    (folder / "stdout").symlink_to("/proc/self/fd/1")
    command = [sys.executable, "-c", WRITES, str(folder / name)]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout == b"new"
    (folder / "log").write_text("before, ")
    with (folder / "log").open("a") as log:
        subprocess.run(command, stdout=log, check=True, timeout=60)
        log.write("after")
    assert (folder / "log").read_text() == "before, newafter"
    assert (folder / "stdout").is_symlink()


def test_a_block_that_fails_leaves_everything_as_it_was(folder: Path) -> None:
    (folder / "old").write_text("old")
    with pytest.raises(ValueError, match="half"), replaced_file(folder / "old") as temporary:
        temporary.write_text("half")
        raise ValueError("half")
    assert ((folder / "old").read_text(), names(folder)) == ("old", ["old"])
    with pytest.raises(IsADirectoryError):
        write(folder)
    assert names(folder) == ["old"]
