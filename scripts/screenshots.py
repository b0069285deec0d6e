"""Make the pictures of docs/images from the running product: a real Airflow, looked at with Chromium.

The Trigger form and the links are those of a real run. The experiments with many trials are written into the store
beforehand, so that the pictures do not take an hour. Needs Chromium: tests/engines/browser_install.sh installs it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from browser import LONG, Browser
from PIL import Image
from realairflow import AirflowEnv

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SINGLE, SEVERAL, RUNNING = "digits", "accuracy-and-seconds", "digits-running"
COLORS = 128


def main() -> int:
    """Start Airflow, make all pictures, stop it."""
    sys.path.insert(0, str(ROOT))
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="axtx-screenshots-") as folder,
        AirflowEnv(Path(folder), ROOT / "dags") as env,
    ):
        fill_store(env)
        run = env.api.trigger("tune_from_ui", {"experiment_name": "from-ui", "rounds": 1})
        for theme in ("light", "dark"):
            with Browser(env.url, width=1360, height=900, dark=theme == "dark") as browser:
                browser.login(env.username, env.password)
                pages(browser, theme)
                if theme == "light":
                    form(browser)
                    env.api.wait_for_run("tune_from_ui", run, LONG)
                    links(browser, run)
    return 0


def fill_store(env: AirflowEnv) -> None:
    """Write experiments: finished, running, with several objectives."""
    from airflow_provider_axtx.store.experiments import ExperimentStore
    from tests.plugin import material

    (env.paths.home / "axtx").mkdir(exist_ok=True)
    store = ExperimentStore(f"sqlite:///{env.paths.home / 'axtx' / 'experiments.db'}")
    material.fill(store, {**material.SINGLE, "name": SINGLE}, 60)
    store.plan(SINGLE, 60)
    material.fill(store, {**material.SEVERAL, "name": SEVERAL}, 80, seed=2)
    store.finish(SEVERAL, "budget of 80 trials spent")
    material.fill(store, {**material.SINGLE, "name": RUNNING}, 40, open_trials=4, steps=15, seed=3)
    store.plan(RUNNING, 60)


def pages(browser: Browser, theme: str) -> None:
    """The list, and one experiment of each kind, within Airflow."""
    browser.open("/plugin/experiments")
    with browser.frame():
        browser.find(f"tr[data-experiment='{SINGLE}']")
    save(browser, f"list-{theme}", height=480)
    for name, height in ((SINGLE, 1500), (SEVERAL, 1500), (RUNNING, 1500)):
        browser.driver.set_window_size(1360, height)
        browser.open(f"/plugin/experiments/axtx/?experiment={name}")
        with browser.frame():
            browser.wait(lambda: browser.js("return document.querySelector('#charts')?.dataset.drawn"), "the charts")
        save(browser, f"{name}-{theme}")
        browser.driver.set_window_size(1360, 900)


def form(browser: Browser) -> None:
    """The Trigger form."""
    browser.driver.set_window_size(1360, 1500)
    browser.open("/dags/tune_from_ui")
    browser.button("Trigger").click()
    browser.button("What is tuned").click()
    browser.find("#element_objective")
    browser.wait(
        lambda: browser.js("return document.querySelectorAll('.monaco-editor .view-line').length > 3"), "the editor"
    )
    save(browser, "form")
    browser.driver.set_window_size(1360, 900)


def links(browser: Browser, run: str) -> None:
    """The links on the page of a task."""
    browser.open(f"/dags/tune_from_ui/runs/{quote(run)}/tasks/tune.round_0.wait/mapped/0/details")
    browser.button("Trial")
    save(browser, "links", height=480)


def save(browser: Browser, name: str, height: int | None = None) -> None:
    """Write a small PNG: few colours, and only the upper part where a height is given."""
    path = IMAGES / f"{name}.png"
    browser.screenshot(path)
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if height:
        image = image.crop((0, 0, image.width, min(height, image.height)))
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
