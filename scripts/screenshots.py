"""Make the pictures of docs/images from the running product: a real Airflow, looked at with Chromium.

Everything in them has really run there: ``tune_from_ui`` as its form describes it, and ``compress_frontier`` for the
experiment with several objectives. Takes some minutes. Needs Chromium: tests/engines/browser_install.sh installs it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from browser import Browser
from PIL import Image
from realairflow import AirflowEnv

ROOT = Path(__file__).resolve().parents[1]
DAGS = ROOT / "dags"
IMAGES = ROOT / "docs" / "images"
DIGITS: dict[str, Any] = {
    "experiment_name": "digits",
    "parameters": [
        {"type": "range", "name": "c", "parameter_type": "float", "bounds": [0.01, 1000], "scaling": "log"},
        {"type": "range", "name": "gamma", "parameter_type": "float", "bounds": [0.0001, 1], "scaling": "log"},
        {"type": "range", "name": "pixels", "parameter_type": "int", "bounds": [2, 64]},
        {
            "type": "choice",
            "name": "kernel",
            "parameter_type": "str",
            "values": ["rbf", "sigmoid"],
            "is_ordered": False,
        },
    ],
    "objective": "accuracy",
    "component": f"{DAGS / 'apps' / 'components.py'}:digits",
    "rounds": 8,
    "trials_per_round": 3,
}
COMPRESS = "compress-example"
WIDTH, LOW, HIGH = 1360, 900, 1780
COLORS = 200
THEMES = ("light", "dark")
#: Seconds; the first model of several objectives compiles for a minute.
RUN_SECONDS = 420.0


def main() -> int:
    """Start Airflow, run two DAGs and make all pictures, stop it."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="axtx-screenshots-") as folder,
        AirflowEnv(Path(folder), DAGS, warm_workers=True) as env,
        Browser(env.url, width=WIDTH, height=LOW) as browser,
    ):
        browser.login(env.username, env.password)
        run = env.api.trigger("tune_from_ui", DIGITS)
        form(browser)
        experiment(browser, "digits", "digits-running", completed=12)
        env.api.wait_for_run("tune_from_ui", run, RUN_SECONDS)
        several = env.api.trigger("compress_frontier", run_id=COMPRESS.partition("-")[2])
        experiment(browser, "digits", "digits")
        links(browser, run)
        experiment(browser, COMPRESS, "compress-running", completed=5, themes=("light",))
        env.api.trigger("tune_from_ui", {"experiment_name": "booth"})
        overview(browser)
        trial(browser, "digits")
        comparison(browser, "digits", "booth")
        env.api.wait_for_run("compress_frontier", several, RUN_SECONDS)
        experiment(browser, COMPRESS, "compress")
    return 0


def overview(browser: Browser) -> None:
    """The list of experiments."""
    browser.open("/plugin/experiments")
    with browser.frame():
        browser.find("tr[data-experiment='booth'] .badge.running")
    show(browser, "list", height=330)


def trial(browser: Browser, name: str) -> None:
    """The second trial of an experiment beside the best, with its log."""
    browser.open(f"/plugin/experiments/axtx/?experiment={quote(name)}&trial=1")
    with browser.frame():
        browser.find("#trial-log summary").click()
        browser.wait(lambda: "Loading" not in browser.find("#trial-log pre").text, "the log")
        browser.js("document.querySelector('#trial').scrollIntoView()")
    show(browser, "trial")


def comparison(browser: Browser, *names: str) -> None:
    """Experiments side by side."""
    browser.open(f"/plugin/experiments/axtx/?{'&'.join(f'compare={quote(name)}' for name in names)}")
    with browser.frame():
        browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts")
    show(browser, "comparison")


def experiment(
    browser: Browser, name: str, picture: str, completed: int | None = None, themes: Sequence[str] = THEMES
) -> None:
    """One experiment: at rest, or while it runs with so many completed trials."""
    browser.driver.set_window_size(WIDTH, HIGH)
    browser.open(f"/plugin/experiments/axtx/?experiment={quote(name)}")
    ended = "return document.querySelectorAll('tr[data-trial] .badge.completed').length"
    is_open = "return document.querySelectorAll('tr[data-trial] :is(.badge.running, .badge.staged)').length"
    with browser.frame():
        if completed is not None:
            browser.wait(
                lambda: browser.js(ended) >= completed and browser.js(is_open), f"trials of {name}", RUN_SECONDS
            )
        browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts")
    show(browser, picture, themes)
    browser.driver.set_window_size(WIDTH, LOW)


def form(browser: Browser) -> None:
    """The Trigger form."""
    browser.driver.set_window_size(WIDTH, HIGH)
    browser.open("/dags/tune_from_ui")
    browser.button("Trigger").click()
    browser.button("What is tuned").click()
    browser.find("#element_objective")
    browser.wait(
        lambda: browser.js("return document.querySelectorAll('.monaco-editor .view-line').length > 3"), "the editor"
    )
    save(browser, "form-light", of="[role=dialog]")
    browser.driver.set_window_size(WIDTH, LOW)


def links(browser: Browser, run: str) -> None:
    """The links on the page of a task."""
    browser.open(f"/dags/tune_from_ui/runs/{quote(run)}/tasks/tune.round_0.run/mapped/0/details")
    browser.button("Trial")
    save(browser, "links-light", height=520)


def show(browser: Browser, name: str, themes: Sequence[str] = THEMES, height: int | None = None) -> None:
    """Make a picture of the page that is open, in each theme."""
    for theme in themes:
        browser.theme(theme == "dark")
        with browser.frame():
            browser.find(f":root[data-theme={theme}]")
            browser.js("return new Promise((done) => setTimeout(done, 300))")  # Chromium paints what was drawn anew
        save(browser, f"{name}-{theme}", height)
    browser.theme(dark=False)


def save(browser: Browser, name: str, height: int | None = None, of: str = ":root") -> None:
    """Write a small PNG of what is seen of an element: few colours, and only the upper part where a height is given."""
    path = IMAGES / f"{name}.png"
    browser.find(of).screenshot(str(path))
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if height:
        image = image.crop((0, 0, image.width, min(height, image.height)))
    image.quantize(COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
