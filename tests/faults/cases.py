"""From scenarios to cases: where each victim can be killed, one case played in a world of its own, what came of it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import random
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import airflow_provider_axtx
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.faults import tasks
from tests.faults.play import GaveUpError, Injection, Play
from tests.faults.scenarios import RANDOM_SUPERVISOR, Scenario
from tests.faults.shapes import STOPPED
from tests.faults.world import Findings, World, passages

#: A loop passes its points again and again; its first rounds are enough.
_MOST_PASSAGES = 2
#: Kills at random moments of a supervisor's life lie within so many seconds.
_SUPERVISOR_SECONDS = 0.4
#: A task runs about so many lines of the product before it polls for the third time, by its name.
_LINES_UNTIL_IT_WAITS = {"run": 2800, "wait": 2000, "optimize": 6000}
#: Airflow gives a task 5 s between SIGTERM and SIGKILL.
_WARNING_SECONDS = 3.0


@dataclass(frozen=True)
class Case:
    """One scenario with one injection; ``point`` is what the table calls it."""

    scenario: Scenario
    injection: Injection
    point: str
    must_kill: bool = True


@dataclass
class Result:
    """What came of one case.

    :param findings: words for everything that is wrong.
    """

    victim: str
    point: str
    kills: int = 0
    cuts: int = 0
    lost: int = 0
    doubled: int = 0
    left: int = 0
    open: int = 0
    wrong: int = 0
    findings: list[str] = field(default_factory=list)

    def take(self, found: Findings) -> None:
        """Count what was found."""
        self.lost, self.doubled = len(found.lost), len(found.doubled)
        self.left, self.open, self.wrong = len(found.left), len(found.open), len(found.wrong)
        self.findings = found.said()


@dataclass(frozen=True)
class Profile:
    """What a victim passes when nobody kills it.

    :param points: (crash point, passage) of its own.
    :param others: those of other processes that it started (supervisors).
    :param certain: the first passages that were seen in each play. What was submitted at the same time is recorded
        together or one by one, so that there may be no second one.
    :param lines: how many lines of the product its main thread runs.
    :param seconds: how long it takes.
    """

    points: tuple[tuple[str, int], ...]
    others: tuple[tuple[str, int], ...]
    certain: frozenset[tuple[str, int]]
    lines: int
    seconds: float


def preload(folder: Path) -> None:
    """Import into this process all that task processes import, so that their forks have it: Ax is slow to import."""
    world = World(folder, f"sqlite:///{folder / 'preload.db'}")
    for name in Play(world).task("preload", tasks.modules_used):
        with contextlib.suppress(ImportError):  # components are loaded from a file, under a name of their own
            importlib.import_module(name)
    gc.freeze()


class Templates:
    """Stores to start from, as SQLite files, and the trials that the last of them holds.

    :param folder: where they are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making = World(folder, f"sqlite:///{folder / 'making.db'}")
        self._keep("migrated")
        play = Play(self._making)
        play.task("create", tasks.create)
        self._keep("created")
        self.trials: list[dict[str, Any]] = play.task("generate", tasks.generate, 2)
        self._keep("generated")

    def _keep(self, name: str) -> None:
        # The last to close the file copies its write-ahead log back into it.
        ExperimentStore(self._making.url).close()
        shutil.copy(self._folder / "making.db", self._folder / f"{name}.db")

    def world(self, scenario: Scenario, root: Path) -> World:
        """Make a world in the empty folder ``root`` that begins as the scenario wants."""
        if scenario.template != "empty":
            shutil.copy(self._folder / f"{scenario.template}.db", root / "store.db")
        return World(root, f"sqlite:///{root / 'store.db'}", scenario.scheduler)

    def begin(self, scenario: Scenario, root: Path, injection: Injection | None) -> Play:
        """Return a play in a new world."""
        trials = self.trials if scenario.template == "generated" else []
        return Play(self.world(scenario, root), scenario.victim, injection, trials=json.loads(json.dumps(trials)))


def play_out(scenario: Scenario, play: Play, result: Result, keep: Path | None = None) -> Result:
    """Play a scenario to its end and compare the facts.

    :param keep: where a world is copied to in which something was wrong.
    """
    error = ""
    try:
        scenario.plot(play)
    except (GaveUpError, OSError, KeyError, TypeError) as caught:
        error = f"lost: the experiment did not come to its end: {caught!r}"
    result.take(play.world.findings(play.trials, scenario.expected))
    result.kills = play.kills
    result.left += len(play.left)
    result.findings += [f"left running: {what}" for what in play.left]
    if error:
        result.lost += 1
        result.findings.append(error)
    play.world.kill_remains()
    if result.findings and keep is not None:
        shutil.copytree(play.world.root, keep / play.world.root.name, symlinks=True)
    return result


def run_case(templates: Templates, case: Case, keep: Path | None = None) -> Result:
    """Play one case in a world of its own."""
    with tempfile.TemporaryDirectory(prefix="axtx-faults-") as folder:
        play = templates.begin(case.scenario, Path(folder), case.injection)
        result = play_out(case.scenario, play, Result(case.scenario.name, case.point), keep)
    if case.must_kill and not result.kills:
        result.wrong += 1
        result.findings.append(f"wrong: nobody was killed at {case.injection}")
    return result


def profile(templates: Templates, scenario: Scenario) -> tuple[Profile, list[Result]]:
    """Play a scenario twice without a kill; return what its victim passes, and the two results, which must be clean."""
    results, recorded, lines, seconds = [], {}, 0, 0.0
    plays: list[set[tuple[str, int]]] = []
    for injection in (Injection(), Injection(line=-1)):
        with tempfile.TemporaryDirectory(prefix="axtx-faults-") as folder:
            play = templates.begin(scenario, Path(folder), injection)
            results.append(play_out(scenario, play, Result(scenario.name, "nothing")))
            plays.append({(point, 1) for point, _, _ in passages(play.world.record)})
            for point, passage, pid in passages(play.world.record):
                recorded.setdefault((point, passage), pid in play.victim_pids)
            lines, seconds = max(lines, play.lines), seconds or play.seconds
    return Profile(
        tuple(point for point, own in recorded.items() if own and point[1] <= _MOST_PASSAGES),
        tuple(point for point, own in recorded.items() if not own and point[1] <= _MOST_PASSAGES),
        frozenset.intersection(*map(frozenset, plays)),
        lines,
        seconds,
    ), results


def cases_of(scenario: Scenario, profile: Profile, *, repeat: int, randoms: int, chance: random.Random) -> list[Case]:
    """Return the cases of a victim: each of its points ``repeat`` times, and random lines and moments."""
    points = profile.others if scenario.supervisors else profile.points
    found = [
        Case(scenario, injection, str(injection), must_kill=(point, passage) in profile.certain)
        for point, passage in points
        for injection in [Injection(point, passage)] * repeat
    ]
    if scenario.supervisors or not profile.lines:
        return found
    found += [
        Case(scenario, Injection(line=chance.randint(1, profile.lines)), "a random line", must_kill=False)
        for _ in range(randoms)
    ]
    return found + [
        Case(scenario, Injection(moment=chance.uniform(0, profile.seconds)), "a random moment", must_kill=False)
        for _ in range(randoms)
    ]


def supervisor_cases(number: int, chance: random.Random) -> list[Case]:
    """Return cases in which the supervisor is killed at a random moment while its app runs and ends."""
    return [
        Case(RANDOM_SUPERVISOR, Injection(moment=chance.uniform(0, _SUPERVISOR_SECONDS)), "a random moment", False)
        for _ in range(number)
    ]


def stopping_cases(number: int, chance: random.Random) -> list[Case]:
    """Return cases in which a worker is asked to stop at a random line before or during its wait.

    As many for each state in which Airflow may say that its task is then.
    """
    return [
        Case(stopped, Injection(line=chance.randint(1, lines), warning=_WARNING_SECONDS), "a random line")
        for stopped in STOPPED
        for lines in [_LINES_UNTIL_IT_WAITS[stopped.victim]] * number
    ]


def points_in_code() -> set[str]:
    """Return the names of all crash points in the product's code."""
    texts = [path.read_text() for path in Path(airflow_provider_axtx.__file__).parent.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'crash_point\("([^"]+)"\)', text)}
    # These are passed in tests/integrations.
    named = {name for name in named if not name.startswith(("mlflow.", "wandb.", "tensorboard."))}
    steps = {step for text in texts for step in re.findall(r'\.write\(\s*"(\w+)",', text)}
    return named | {f"store.{moment}_{step}_commit" for step in steps for moment in ("before", "after")}


def unpassed(profiles: Iterable[Profile]) -> set[str]:
    """Return the crash points of the product that no victim passes."""
    return points_in_code() - {name for p in profiles for name, _ in (*p.points, *p.others)}
