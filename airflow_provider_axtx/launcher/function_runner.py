"""Runs one call of a function as an app. The app is given this text: nothing of the package has to be installed there.

Standard library only, but for fsspec where results go to a URL.
"""

from __future__ import annotations

import base64
import importlib
import json
import linecache
import math
import sys
import types
import zlib
from pathlib import Path
from typing import Any

#: Of ``from __future__ import annotations``: the names in annotations need not exist where the function runs.
_ANNOTATIONS_ARE_TEXT = annotations.compiler_flag


def _load(function: dict[str, str]) -> Any:
    """Return the function: imported, or defined from its source."""
    name = function["name"]
    if "module" in function:
        found = getattr(importlib.import_module(function["module"]), name)
        # Airflow's decorators keep the function that they decorate.
        return getattr(found, "function", found)
    source, place = function["source"], f"<{name}>"
    linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    # A class inside the function looks its module up by name, as `dataclass` and `pickle` do.
    module = sys.modules["axtx_function"] = types.ModuleType("axtx_function")
    exec(compile(source, place, "exec", flags=_ANNOTATIONS_ARE_TEXT, dont_inherit=True), module.__dict__)
    return getattr(module, name)


class Report:
    """Writes results as TorchX's ``FsspecResultTracker`` does.

    :param base: the tracker base.
    :param trial: index of the trial.
    """

    def __init__(self, base: str, trial: int) -> None:
        self._base = base.rstrip("/")
        self._trial = trial
        # What was reported at the last step: its file is replaced by each report at this step.
        self._step: float | None = None
        self._at_step: dict[str, Any] = {}
        #: The last value of each metric.
        self.last: dict[str, Any] = {}

    def __call__(self, *, step: float, **metrics: Any) -> None:
        """Report metrics at a step.

        :raises ValueError: there are no metrics, or the step is not a finite number.
        """
        at = _number(step)
        if not metrics or at is None:
            raise ValueError(
                "report takes metrics and the number of a step, such as report(step=3, accuracy=0.9), "
                f"not step={step!r:.200} with the metrics {list(metrics)!r:.200}"
            )
        self.last.update(metrics)
        self._at_step = {**(self._at_step if at == self._step else {}), **metrics}
        self._step = at
        self._write(f"{self._trial}.steps/{at!r}", self._at_step)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the final results."""
        self._write(str(self._trial), metrics)

    def _write(self, key: str, metrics: dict[str, Any]) -> None:
        text = json.dumps({name: _plain(value) for name, value in metrics.items()})
        if "://" in self._base:
            import fsspec

            with fsspec.open(f"{self._base}/{key}", "w") as file:
                file.write(text)
            return
        path = Path(self._base, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)


def _number(value: Any) -> int | float | None:
    """Return a finite number as Python's own, or None when it is not one: ``np.int64(3)`` is no name of a step."""
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        return None
    # Subclasses print otherwise, such as the float of numpy or an IntEnum.
    number = int(plain) if isinstance(plain, int) else float(plain)
    try:
        return number if math.isfinite(number) else None
    except OverflowError:  # a whole number above all floats
        return None


def _plain(value: Any) -> Any:
    """Return a number of numpy or torch as Python's, another one's text. The reader names what is not a number."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    try:
        found = value.item()
    except (AttributeError, RuntimeError, TypeError, ValueError):  # there is none, or it has several elements
        return repr(value)
    return found if isinstance(found, (bool, int, float, str)) else repr(value)


def main(packed: str) -> None:
    """Call the function and report what it returns."""
    call = json.loads(zlib.decompress(base64.urlsafe_b64decode(packed)))
    report = Report(call["tracker_base"], call["trial_idx"])
    arguments = dict(call["arguments"])
    if call["report"]:
        arguments[call["report"]] = report
    returned = _load(call["function"])(**arguments)
    if returned is None:
        returned = report.last
    elif not isinstance(returned, dict):
        if call["metric"] is None:
            raise TypeError(f"the function has to return a dict of metrics, not {returned!r}")
        returned = {call["metric"]: returned}
    if returned:
        report.finish(returned)


if __name__ == "__main__":
    main(sys.argv[1])
