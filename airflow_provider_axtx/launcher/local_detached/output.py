"""What a replica writes: taken from a pipe as it comes, kept once and within a limit.

A pipe, because a file would be emptied by an app that opens ``/dev/stderr`` to write to it, as shell scripts do.
Standard output and standard error share it, so that lines are in the order in which they were written. The supervisor
reads it in a thread of its own, whatever happens: what cannot be kept on a full disk is dropped, and the app goes on.
"""

from __future__ import annotations

import _thread
import contextlib
import os

#: The output is kept in so many pieces at most, each in a file of its own ...
_PIECES = 8
#: ... of which the first ones are never removed.
_FIRST_PIECES = 2
#: Of a limit that is divided among many replicas, each gets at least this for each piece.
_LEAST_PIECE = 16 * 1024
#: A longer line may be in two pieces; readers divide it, too.
_LONG_LINE = 2000
_CHUNK = 1 << 16
#: Seconds for which the last output is awaited when no process is left that could write.
_END_SECONDS = 5.0


class Output:
    """The output of one replica.

    The first piece is the file ``path``; a later one has the number of bytes before it appended to its name (16
    digits). When there are too many pieces, the oldest one behind the first two is removed.

    :param path: the file.
    :param limit: bytes that all pieces together may have.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._piece_bytes = max(limit // _PIECES, _LEAST_PIECE)
        self._pieces = [path]
        self._written = 0
        self._room = self._piece_bytes
        self._is_line_start = True
        # Created here, so that it can be followed from the start.
        self._file = _create(path)
        self._source, self.writer = os.pipe()
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        self.trouble = ""

    def start(self) -> None:
        """Begin to read. Only the replica may have ``writer`` from now on: its end is the end of the output."""
        os.close(self.writer)
        _thread.start_new_thread(self._run, ())

    def finish(self) -> None:
        """Wait until all is written that was in the pipe. A process that resists SIGKILL may still hold it."""
        self._ended.acquire(timeout=_END_SECONDS)

    def _run(self) -> None:
        try:
            while data := os.read(self._source, _CHUNK):
                self._keep(data)
        finally:
            # Closed, so that a user who removes it makes room for the record of the app's end.
            os.close(self._file)
            self._ended.release()

    def _keep(self, data: bytes) -> None:
        try:
            while data:
                fitting = self._fitting(data)
                if fitting == 0:
                    self._begin_piece()
                    continue
                written = os.write(self._file, data[:fitting])
                self._written += written
                self._room -= written
                self._is_line_start = data[written - 1 : written] == b"\n"
                data = data[written:]
        except OSError as error:  # A full disk may fail the app; that its output is not kept must not.
            self.trouble = f" (the log is incomplete: {error})"

    def _fitting(self, data: bytes) -> int:
        """Return how much of the data goes into this piece, which ends with the end of a line, unless that is long."""
        if len(data) + _LONG_LINE <= self._room:
            return len(data)
        whole_lines = data.rfind(b"\n", 0, self._room) + 1
        if whole_lines:
            self._room = whole_lines  # what is left of the piece stays free
            return whole_lines
        if self._is_line_start and self._room < self._piece_bytes:
            return 0
        return min(len(data), self._room)

    def _begin_piece(self) -> None:
        path = f"{self._path}.{self._written:016d}"
        file = _create(path)
        os.close(self._file)
        self._file, self._room = file, self._piece_bytes
        self._pieces.append(path)
        if len(self._pieces) > _PIECES:
            with contextlib.suppress(FileNotFoundError):  # the app has removed it
                os.unlink(self._pieces.pop(_FIRST_PIECES))


def _create(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # the app may have put a link there
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
