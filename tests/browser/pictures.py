"""Pictures of the page for people to look at: each view, light and dark, wide and narrow, of odd experiments.

``python -m tests.browser.pictures FOLDER`` (``make pictures``) writes them. The experiments are made up; the pictures
of the documentation come from a real Airflow (``scripts/screenshots.py``).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser import Browser

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.browser.served import served_page
from tests.browser.test_odd_experiments import CHOICES, FLOAT, experiment
from tests.plugin.material import SEVERAL, SINGLE, fill

WIDTHS = (1280, 400)
THREE: dict[str, Any] = {**SEVERAL, "name": "three", "objective": "accuracy, -seconds, -size"}

_DRAWN = "const c = document.querySelector('#charts'); return !c || Boolean(c.dataset.drawn)"
#: The page asks for curves once their chart is in view.
_LOADED = "return !document.querySelector('#charts')?.textContent.includes('being loaded')"


def make(store: ExperimentStore) -> None:
    """Fill the store."""
    fill(store, {**SINGLE, "name": "running"}, 40, open_trials=3, steps=20)
    fill(store, {**SINGLE, "name": "thousand"}, 1000, open_trials=8)
    fill(store, THREE, 60, metrics=("size",))
    fill(store, {**SINGLE, "name": "begun"}, 3, open_trials=3)
    parameters = [{**FLOAT, "name": f"p{i}"} for i in range(24)] + [{**CHOICES}]
    experiment(store, "many-parameters", parameters, [float(i % 37) for i in range(200)])
    experiment(store, "failed", [{**FLOAT, "name": "x"}], [None] * 6)
    store.finish("failed", "too many failures: 6 of 6")


#: The part of each address behind ``/axtx/?``, by the name of its pictures; ``empty`` is made before the others.
VIEWS = {
    "list": "",
    **{name: f"experiment={name}" for name in ("running", "thousand", "three", "begun", "many-parameters", "failed")},
    "trial": "experiment=running&trial=3",
    "failed-trial": "experiment=running&trial=16",
    "comparison": "compare=running&compare=thousand",
}


def shoot(browser: Browser, query: str, path: Callable[[str], Path]) -> None:
    """Make the pictures of one view, as high as it is."""
    for dark in (False, True):
        browser.theme(dark)
        for width in WIDTHS:
            browser.driver.set_window_size(width, 900)
            browser.open(f"/axtx/?{query}")
            browser.wait(lambda: browser.js("return document.querySelector('h1') !== null"), "the page", 60)
            browser.wait(lambda: browser.js(_DRAWN), "the charts", 60)
            height = browser.js("return Math.min(document.documentElement.scrollHeight, 6000)")
            browser.driver.set_window_size(width, height + 140)
            browser.wait(lambda: browser.js(_LOADED), "the curves", 60)
            browser.driver.save_screenshot(str(path(f"{width}-{'dark' if dark else 'light'}")))
            if complaints := browser.console():
                print(query, width, complaints)


def main(folder: str) -> int:
    """Make all pictures.

    :param folder: where they go.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, served_page(Path(home)) as served, Browser(served.url) as browser:
        shoot(browser, "", lambda end: target / f"empty-{end}.png")
        make(served.store)
        for name, query in VIEWS.items():
            shoot(browser, query, lambda end, name=name: target / f"{name}-{end}.png")  # type: ignore[misc]
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
