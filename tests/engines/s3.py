"""A private S3 server for tests (``moto``), behind a proxy that plays a store which is slow to list or busy.

Import the fixture into a ``conftest.py``: ``from tests.engines.s3 import s3``.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from realairflow import processes

from tests.engines.postgres import free_port

#: Access keys that the proxy lets pass. moto itself accepts any.
KNOWN_KEY = "axtx-tests"
_START_SECONDS = 60.0
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
_SLOW_DOWN = (503, _ERROR.format(code="SlowDown", message="Please reduce your request rate."))
_WRONG_KEY = (403, _ERROR.format(code="InvalidAccessKeyId", message="The AWS Access Key Id does not exist."))
_NO_KEY = (404, _ERROR.format(code="NoSuchKey", message="The specified key does not exist."))


class S3:
    """The server as tests see it.

    :param moto_port: port of ``moto`` on 127.0.0.1.
    """

    def __init__(self, moto_port: int) -> None:
        self._moto_port = moto_port
        self._lock = threading.Lock()
        self._busy = 0
        self._busy_every = 0
        self._hidden_seconds = 0.0
        self._written: dict[str, float] = {}
        #: Method and path of each request that was answered, refused ones included.
        self.requests: list[tuple[str, str]] = []
        self.refused = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    self._answer(*server.answer(self.command, self.path, dict(self.headers), body))
                else:
                    self.close_connection = True

            def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the proxy."""
        self._proxy.shutdown()
        self._proxy.server_close()

    def reset(self) -> None:
        """Answer every request, show every key, forget what was asked."""
        with self._lock:
            self._busy, self._busy_every, self._hidden_seconds, self.refused = 0, 0, 0.0, 0
            self.requests.clear()

    def busy(self, requests: int) -> None:
        """Answer so many of the next requests with 503 SlowDown."""
        self._busy = requests

    def busy_every(self, number: int) -> None:
        """Answer each request of that number (the third, the sixth, ...) with 503 SlowDown."""
        self._busy_every = number

    def hide_new_keys(self, seconds: float) -> None:
        """Let each object that is written from now on be found and listed only so many seconds later."""
        self._hidden_seconds = seconds

    def make_bucket(self, name: str) -> None:
        """Create a bucket."""
        self._put(f"/{name}", b"")

    def put(self, path: str, content: bytes) -> None:
        """Write an object: ``bucket/key``."""
        self._put(f"/{path}", content)

    def _put(self, path: str, content: bytes) -> None:
        credential = f"Credential={KNOWN_KEY}/20260101/us-east-1/s3/aws4_request"
        signed = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=none"
        status, _, answered = self.answer("PUT", path, {"Authorization": signed, "Host": "127.0.0.1"}, content)
        assert status == 200, (status, answered)

    def environment(self, key: str = KNOWN_KEY) -> dict[str, str]:
        """Return the variables with which AWS's clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request as the store that this is."""
        path = unquote(urlsplit(target).path).lstrip("/")
        with self._lock:
            self.requests.append((method, path))
            busy = self._busy > 0 or (self._busy_every and len(self.requests) % self._busy_every == 0)
            self._busy = max(0, self._busy - 1)
            self.refused += bool(busy)
        if f"Credential={KNOWN_KEY}/" not in headers.get("Authorization", ""):
            return _error(_WRONG_KEY)
        if busy:
            return _error(_SLOW_DOWN)
        if method in ("GET", "HEAD") and self._is_hidden(path):
            return _error(_NO_KEY)
        status, answered, content = self._forward(method, target, headers, body)
        if method == "PUT" and "/" in path and status == 200:
            with self._lock:
                self._written[path] = time.monotonic() + self._hidden_seconds
        if method == "GET" and b"<ListBucketResult" in content:
            content = self._without_hidden(path.strip("/"), content)
            answered["Content-Length"] = str(len(content))
        return status, answered, content

    def _is_hidden(self, path: str) -> bool:
        with self._lock:
            return self._written.get(path, 0.0) > time.monotonic()

    def _without_hidden(self, bucket: str, listing: bytes) -> bytes:
        def kept(found: re.Match[str]) -> str:
            return "" if self._is_hidden(f"{bucket}/{found[1]}") else found[0]

        text = re.sub(r"<Contents>\s*<Key>(.*?)</Key>.*?</Contents>", kept, listing.decode(), flags=re.DOTALL)
        count = len(re.findall("<Contents>|<CommonPrefixes>", text))
        return re.sub(r"<KeyCount>\d+</KeyCount>", f"<KeyCount>{count}</KeyCount>", text).encode()

    def _forward(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._moto_port, timeout=30)
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
            dropped = ("connection", "transfer-encoding", "server", "date")
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
            if "Content-Length" not in kept:
                kept["Content-Length"] = str(len(content))
            return answer.status, kept, content
        finally:
            connection.close()


def _error(error: tuple[int, str]) -> tuple[int, dict[str, str], bytes]:
    status, text = error
    return status, {"Content-Type": "application/xml", "Content-Length": str(len(text))}, text.encode()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A running server, for each test process one."""
    port, log = free_port(), tmp_path_factory.mktemp("s3") / "log"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("wb") as output:
        moto = subprocess.Popen(
            [os.environ["AXTX_TEST_MOTO_SERVER"], "-H", "127.0.0.1", "-p", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            preexec_fn=processes.following_parent(),
        )
    server = S3(port)
    try:
        _await(moto, server, log)
        yield server
    finally:
        server.close()
        moto.terminate()
        moto.wait(_START_SECONDS)


def _await(moto: subprocess.Popen[bytes], server: S3, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.make_bucket("axtx")
            return
        except OSError as error:
            if moto.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto did not start: {log.read_text(errors='replace')}") from error
            time.sleep(0.1)


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """The server with its bucket ``axtx``, without faults."""
    s3_server.reset()
    yield s3_server
    s3_server.reset()
