"""What counts as a process of an environment, and that all of it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from realairflow import poll, processes

# A leader whose child starts a session of its own and is orphaned, like an app that outlives its submitter. Both write
# to one pipe, hence os.write: one line, one system call.
FAMILY = r"""
import os, subprocess, sys, time
child = r"import os, time, sys; os.setsid(); os.write(1, b'%d\n' % os.getpid()); time.sleep(300)"
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
subprocess.run([sys.executable, "-c", middle, child], check=True)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
os.write(1, b'%d\n' % worker.pid)
time.sleep(300)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[psutil.Process, psutil.Process, psutil.Process]]:
    """Leader, worker in its session, and orphan in another one, all with the marker of `tmp_path`."""
    leader = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {processes.MARKER: str(tmp_path)},
        start_new_session=True,
    )
    assert leader.stdout is not None
    # The worker and the orphan tell their pids in whichever order they start.
    found = [psutil.Process(int(leader.stdout.readline())) for _ in range(2)]
    found.sort(key=lambda process: os.getsid(process.pid) != leader.pid)
    yield psutil.Process(leader.pid), found[0], found[1]
    processes.kill(processes.marked(str(tmp_path), ()))
    leader.wait()
    leader.stdout.close()


Family = tuple[psutil.Process, psutil.Process, psutil.Process]


def test_the_marker_finds_leader_worker_and_orphan_of_this_home_only(family: Family, tmp_path: Path) -> None:
    assert set(processes.find(processes.marked(str(tmp_path), ()))) == set(family)
    assert processes.find(processes.marked(f"{tmp_path}x", ())) == []


def test_a_session_is_killed_without_the_orphan_that_left_it(family: Family) -> None:
    leader, worker, orphan = family
    processes.kill(processes.in_session(leader.pid))
    assert [processes.lives(each) for each in (leader, worker, orphan)] == [False, False, True]


def test_the_end_reaches_all_of_them(family: Family, tmp_path: Path) -> None:
    processes.end(processes.marked(str(tmp_path), ()), grace=5)
    assert not any(processes.lives(each) for each in family)


def test_who_ignores_term_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", deaf],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {processes.MARKER: str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "deaf\n"
    processes.end(processes.marked(str(tmp_path), ()), grace=0.2)
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    zombie = psutil.Process(child.pid)
    poll(lambda: zombie.status() == psutil.STATUS_ZOMBIE or None, 30, "the child to end")
    assert zombie.is_running()
    assert not processes.lives(zombie)
    assert processes.wait_gone([zombie], timeout=5) == []
    child.wait()
