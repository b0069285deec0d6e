"""A private nginx for tests: a reverse proxy on a free loopback port, stopped at the end."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realairflow import processes

_START_SECONDS = 30.0
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _configuration(folder: Path, port: int, location: str) -> str:
    temporary = "\n".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    return f"""
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    {temporary}
    access_log {folder}/access.log;
    server {{
        listen 127.0.0.1:{port};
        {location}
        location / {{ return 404; }}
    }}
}}
"""


def requests(folder: Path) -> list[tuple[str, int]]:
    """Return the path and the status of each request that the server in this folder has answered."""
    lines = (folder / "access.log").read_text().splitlines()
    quoted = [line.split('"') for line in lines]
    return [(parts[1].split(" ")[1].partition("?")[0], int(parts[2].split()[0])) for parts in quoted]


@contextmanager
def nginx(folder: Path, port: int, location: str) -> Iterator[None]:
    """Run the server for the time of a block.

    :param folder: an empty folder for its configuration, logs and temporary files.
    :param port: on 127.0.0.1.
    :param location: blocks ``location`` of its configuration; every other address is answered with 404.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise RuntimeError("nginx is needed: run tests/engines/apt_install.sh nginx-light as root")
    file = folder / "nginx.conf"
    file.write_text(_configuration(folder, port, location))
    process = subprocess.Popen(
        [program, "-e", str(folder / "error.log"), "-c", str(file)],
        stdin=subprocess.DEVNULL,
        preexec_fn=processes.following_parent(signal.SIGTERM),
    )
    try:
        _await_port(process, port, folder)
        yield
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def _await_port(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {(folder / 'error.log').read_text()}") from error
            time.sleep(0.05)
