"""A thousand deferred trials share one observation an interval; ``make faults`` also prints and judges the lag."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.thousand import TRIALS, measure


def test_a_thousand_trials_share_one_observation_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXTX_LOCAL_ROOT", "")  # restored after measure has set it
    figures = measure(tmp_path / "apps", interval=0.3)
    assert (figures.ended, figures.wrong) == (TRIALS, 0)
    assert len(figures.observations) <= figures.seconds / figures.interval + 1
    assert max(figures.observations) == TRIALS
