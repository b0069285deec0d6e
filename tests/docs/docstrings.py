"""Runs the examples in the docstrings of the public API, each in a file of its own in the current folder."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import textwrap
from pathlib import Path

from release.api import public_names


def examples() -> dict[str, list[str]]:
    """Return the blocks of Python code in the docstring of each public name."""
    found = {}
    for module, name in public_names():
        text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        found[f"{module}.{name}"] = [
            textwrap.dedent(code) for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        ]
    return found


def main() -> None:
    """Run each example; the last line of the output is how many there are."""
    count = 0
    for name, blocks in examples().items():
        for block in blocks:
            print(f"--- {name}", flush=True)
            # A function that is tuned must have its source in a file.
            file = Path(f"{name}.py")
            file.write_text(block)
            runpy.run_path(str(file))
            count += 1
    print(count)


if __name__ == "__main__":
    main()
