"""Hosts of a small cluster on this machine: Linux namespaces with a name, a network, processes and a home of their own.

A host is the first process of its namespaces. When it ends, in whatever way, the kernel kills every process on the
host: also what has started a session of its own, and also when pytest itself is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from realairflow import processes

_CLONE_NEWNET = 0x40000000
_START_SECONDS = 30.0
# Bash waits for every process that loses its parent: else they stay as zombies.
_INIT = """set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$2/home" "$3"
ip link set lo up
touch "$2/ready"
sleep infinity & wait"""


class Machine:
    """One host of the cluster.

    :param name: its hostname.
    :param address: its address in the cluster's network.
    :param folder: for its files; its home is the subfolder ``home``.
    :param home: the path at which its processes see that home; the same path is another folder on each host.
    :param addresses: the address of each host of the cluster, by name.
    """

    def __init__(self, name: str, address: str, folder: Path, home: Path, addresses: Mapping[str, str]) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        self._home = home
        (folder / "home").mkdir(parents=True)
        lines = [f"{each} {host}" for host, each in {"localhost": "127.0.0.1", **addresses}.items()]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        (folder / "boot_id").write_text(f"00000000-0000-4000-8000-{address.replace('.', '').zfill(12)}\n")
        self._unshare: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self) -> None:
        """Start the host."""
        (self.folder / "ready").unlink(missing_ok=True)
        spaces = ["--fork", "--pid", "--kill-child", "--mount-proc", "--net", "--uts", "--mount"]
        script = ["bash", "-c", _INIT, "bash", self.name, str(self.folder), str(self._home)]
        with (self.folder / "log").open("ab") as log:
            self._unshare = subprocess.Popen(
                ["unshare", *spaces, *script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=processes.following_parent(signal.SIGKILL),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not (self.folder / "ready").exists():
            if self._unshare.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"host {self.name} did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.02)
        self.pid = psutil.Process(self._unshare.pid).children()[0].pid

    def connect(self, other: Machine) -> None:
        """Connect it with another host by a network of the two."""
        cable = ["ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(other.pid)]
        subprocess.run([*self._network(), *cable], check=True)
        for machine in (self, other):
            machine.configure_network()

    def configure_network(self) -> None:
        """Give its end of the cable its address."""
        for command in (["addr", "add", f"{self.address}/24", "dev", "wire"], ["link", "set", "wire", "up"]):
            subprocess.run([*self._network(), "ip", *command], check=True)

    def _network(self) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--net", "--"]

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs a command on this host."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--pid", "--", *command]

    @contextmanager
    def network(self) -> Iterator[None]:
        """Put this thread, and what it starts, into the network of the host."""
        setns = ctypes.CDLL(None, use_errno=True).setns
        with Path("/proc/self/ns/net").open() as before, Path(f"/proc/{self.pid}/ns/net").open() as there:
            for space in (there, before):
                if setns(space.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
                if space is there:
                    yield

    def stop(self) -> None:
        """Take the host away at once, as a power cut does; a stopped host may be started again."""
        if self._unshare is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._unshare.wait(_START_SECONDS)
            self._unshare = None
