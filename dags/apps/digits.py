"""An app that scores a support vector classifier of handwritten digits. It does not depend on Airflow or Ax."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC
from torchx.runtime.tracking import FsspecResultTracker

#: Share of the images that tuning never sees; the final score comes from them.
HELD_OUT = 0.2


def model(pixels: int, c: float, gamma: float, kernel: str) -> Pipeline:
    """Return the untrained classifier."""
    return make_pipeline(PCA(n_components=pixels, random_state=0), SVC(C=c, gamma=gamma, kernel=kernel))


def data() -> list[Any]:
    """Return training images, held-out images, training labels, held-out labels."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images / 16.0, labels, test_size=HELD_OUT, random_state=0, stratify=labels)


def held_out_score(parameters: dict[str, Any]) -> float:
    """Train on all training images and return the accuracy on the held-out ones."""
    train_images, test_images, train_labels, test_labels = data()
    return float(model(**parameters).fit(train_images, train_labels).score(test_images, test_labels))


def main() -> None:
    """Cross-validate one parameterization and report the accuracy with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--c", type=float, required=True)
    parser.add_argument("--gamma", type=float, required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--folds", type=int, required=True)
    parser.add_argument("--trial-idx", type=int, required=True)
    parser.add_argument("--tracker-base", required=True)
    a = parser.parse_args()
    images, _, labels, _ = data()
    scores = cross_val_score(model(a.pixels, a.c, a.gamma, a.kernel), images, labels, cv=a.folds)
    result = {"accuracy/mean": float(scores.mean()), "accuracy/sem": float(scores.std(ddof=1) / np.sqrt(a.folds))}
    FsspecResultTracker(a.tracker_base)[a.trial_idx] = result
    print(f"trial {a.trial_idx}: {result}")


if __name__ == "__main__":
    main()
