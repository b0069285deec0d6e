"""The database connection as a victim: PostgreSQL behind a proxy that cuts it at a chosen moment of a task."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from airflow_provider_axtx.store._database import DEFAULT_RETRY_SECONDS
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.postgres import PostgresServer
from tests.engines.proxy import CuttingProxy, Moment
from tests.faults import tasks
from tests.faults.cases import Result, play_out
from tests.faults.play import Play
from tests.faults.scenarios import Scenario
from tests.faults.world import Expected, World

#: What is counted: a COMMIT, or any packet from the client.
Kind = Literal["COMMIT", "packet"]
_SAID = {"before_commit": "not delivered", "after_commit": "answer lost"}


@dataclass(frozen=True)
class Cut:
    """Where the connection is cut: at the ``number``-th COMMIT or packet of the victim, before or after delivery.

    :param outage: for how many seconds the database stays away then.
    """

    kind: Kind
    number: int
    moment: Moment
    outage: float = 0.0

    def __str__(self) -> str:
        away = f", away for {self.outage:g} s" if self.outage else ""
        return f"{self.kind} {self.number} {_SAID[self.moment]}{away}"


class FaultyProxy(CuttingProxy):
    """Counts what clients send, and cuts the connection at one of it."""

    def __init__(self, port: int) -> None:
        super().__init__(port, PostgresServer.commit)
        self.counted: dict[str, int] = {}
        self._cut: Cut | None = None

    def begin(self, cut: Cut | None) -> None:
        """Count from 1, and cut where told."""
        with self._lock:
            self.counted, self._cut = {"COMMIT": 0, "packet": 0}, cut

    def moment_of(self, data: bytes) -> Moment | None:
        with self._lock:
            if not self.counted or not data:
                return None
            self.counted["packet"] += 1
            self.counted["COMMIT"] += self._commit in data
            cut = self._cut
            if cut is None or self.counted[cut.kind] != cut.number:
                return None
            self._cut = None
            self.cuts += 1
        if cut.outage:
            self._refusing = True
            threading.Timer(cut.outage, self.refuse, [False]).start()
        return cut.moment


def _playing(play: Play) -> None:
    play.task("create", tasks.create)
    play.trials = play.task("generate", tasks.generate, 2)
    run = play.task("submit", tasks.submit, play.trials[0])
    play.task("submit_other", tasks.submit, play.trials[1], "sleep")
    play.world.let_finish()
    outcome = play.task("wait", tasks.wait, run)
    play.task("complete", tasks.complete, outcome)
    play.task("reap", tasks.reap)


VICTIMS = ("create", "generate", "submit", "wait", "complete", "reap")
_EXPECTED = {1: Expected(("ABANDONED",), "reaped")}


def scenario(victim: str) -> Scenario:
    """Return the experiment whose ``victim`` loses its connection."""
    return Scenario(f"database connection of {victim}", victim, _playing, expected=_EXPECTED)


class Databases:
    """Gives each world a database of its own, with tables."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._template = server.new_database()
        ExperimentStore(server.url(self._template)).close()

    def new(self, name: str) -> None:
        """Create a database with tables."""
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")

    @contextmanager
    def proxy(self) -> Iterator[FaultyProxy]:
        """A proxy in front of the server."""
        with FaultyProxy(self._server.port) as proxy:
            yield proxy

    def run(
        self, victim: str, cut: Cut | None, keep: Path | None = None, patience: float = DEFAULT_RETRY_SECONDS
    ) -> tuple[Result, dict[str, int]]:
        """Play the experiment with one cut; return what came of it and what the victim sent.

        :param patience: for how many seconds the tasks' stores try again.
        """
        played = scenario(victim)
        root = Path(tempfile.mkdtemp(prefix="axtx-faults-"))
        name = root.name.replace("-", "_").lower()
        counted: dict[str, int] = {}
        try:
            self.new(name)
            with self.proxy() as proxy:
                direct, url = self._server.url(name), self._server.url(name, port=proxy.port)
                world = World(root, url, direct_url=direct)
                play = Play(
                    world,
                    victim,
                    disturb=lambda: proxy.begin(cut),
                    sabotage=lambda: _limit_patience(patience),
                    after=lambda: counted.update(proxy.counted),
                )
                result = play_out(played, play, Result(played.name, str(cut)), keep)
                result.cuts = proxy.cuts
            if cut is not None and not result.cuts:
                result.wrong += 1
                result.findings.append(f"wrong: nothing was cut at {cut}")
        finally:
            shutil.rmtree(root)
            self._server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        return result, counted


def _limit_patience(seconds: float) -> None:
    defaults: Any = ExperimentStore.__init__.__kwdefaults__
    defaults["retry_seconds"] = seconds


def cuts_of(counted: dict[str, int], *, packets: int, chance: random.Random) -> list[Cut]:
    """Return the cuts of a victim: around each COMMIT, and at some packets."""
    moments: tuple[Moment, ...] = ("before_commit", "after_commit")
    found = [Cut("COMMIT", number, moment) for number in range(1, counted["COMMIT"] + 1) for moment in moments]
    chosen = chance.sample(range(1, counted["packet"] + 1), min(packets, counted["packet"]))
    return found + [Cut("packet", number, chance.choice(moments)) for number in sorted(chosen)]
