"""Make the pictures of the explanation in docs/images, from the page on a server of its own.

The experiment is Branin with two parameters that do nothing; its definition is changed in the middle, since the bounds
of x1 were too narrow. Takes a minute. Needs Chromium: tests/engines/browser_install.sh installs it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WIDTH, HEIGHT = 1360, 1500


def main() -> int:
    """Fill a store, explain the experiment, and look at its page in light and dark."""
    with tempfile.TemporaryDirectory(prefix="axtx-explained-") as folder:
        os.environ.setdefault("AIRFLOW_HOME", folder)
        from browser import Browser

        from tests.browser.served import served_page

        with served_page(Path(folder)) as served, Browser(served.url, width=WIDTH, height=HEIGHT) as browser:
            fill(served.store)
            browser.driver.get(f"{served.url}/axtx/?experiment=branin")
            drawn = "return document.querySelector('#explanation .charts')?.dataset.drawn"
            browser.wait(lambda: browser.js(drawn), "the charts")
            for theme in ("light", "dark"):
                browser.theme(theme == "dark")
                browser.find(f":root[data-theme={theme}]")
                browser.js("return new Promise((done) => setTimeout(done, 1500))")  # the charts are drawn anew
                save(browser, f"explain-{theme}", "#explanation")
            browser.theme(dark=False)
            browser.js("return new Promise((done) => setTimeout(done, 1500))")
            save(browser, "change-light", "#chart-objective")
            severe = [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]
            print("console:", severe)
    return 0


def fill(store: object) -> None:
    """Record twenty-four trials of Branin, a change of the definition before the eighth, and what the model says."""
    from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial
    from airflow_provider_axtx.core.steering import Action, NewChange
    from airflow_provider_axtx.lifecycle.explain import explain
    from airflow_provider_axtx.spec.changes import changed_spec
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.store.experiments import ExperimentStore
    from tests.optimizer.test_explanation import SPEC, facts

    assert isinstance(store, ExperimentStore)
    narrow = [{**one, "bounds": [-5, 5]} if one["name"] == "x1" else one for one in SPEC["parameters"]]
    store.create("branin", ExperimentSpec.load({**SPEC, "parameters": narrow}).to_json())
    found = facts(24)
    values = {one.trial_index: one.mean for one in found.observations}
    trials = sorted(found.trials, key=lambda trial: float(trial.parameters["x1"]) > 5)  # first those within the bounds
    for index, trial in enumerate(trials):
        version = store.snapshot("branin").version
        if index == 8:
            change = {"parameters": {"x1": {"bounds": [-5, 10]}}}
            wider = changed_spec(store.spec("branin"), change).to_json()
            given = {"changes": change}
            new = NewChange(Action.CHANGE_DEFINITION, "a", "vera", "page", "at the bound", arguments=given)
            differences = ["parameters.x1.bounds: stored [-5.0, 5.0], given [-5.0, 10.0]"]
            store.change_definition("branin", new, wider, differences=differences, expected_version=version)
            version += 1
        proposal = Proposal((ProposedTrial(f"{index}_0", trial.parameters, None, {}),), None)
        store.add_trials("branin", proposal, task_key="t", first_slot=index, expected_version=version)
        results = [Observation(index, "branin", values[trial.index], 0.0)]
        store.complete("branin", index, status="COMPLETED", observations=results)
    explain(store, "branin")


def save(browser: object, name: str, of: str) -> None:
    """Write a small PNG of an element."""
    from browser import Browser
    from PIL import Image

    assert isinstance(browser, Browser)
    path = ROOT / "docs" / "images" / f"{name}.png"
    browser.find(of).screenshot(str(path))
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.quantize(200, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size, flush=True)


if __name__ == "__main__":
    sys.exit(main())
