"""What runs a function as an app, in an environment that has nothing of the package."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_axtx.launcher.function_runner import Report
from airflow_provider_axtx.launcher.tracker import read_progress


def test_metrics_that_are_reported_one_after_the_other_at_a_step_are_all_kept(tmp_path: Path) -> None:
    report = Report(str(tmp_path), 0)
    report(step=1, loss=3.0)
    report(step=1, val_loss=2.0)
    report(step=2, loss=1.0)
    assert read_progress(str(tmp_path), 0) == {1.0: {"loss": 3.0, "val_loss": 2.0}, 2.0: {"loss": 1.0}}
    assert report.last == {"loss": 1.0, "val_loss": 2.0}
