"""Every derived name: submission keys, request keys, tracker keys."""

from __future__ import annotations

import hashlib
import re

#: Docker, Kubernetes, Slurm and the local scheduler all accept names up to this length.
MAX_SUBMISSION_KEY = 40
_MAX_REQUEST_KEY = 200
_HASH_CHARACTERS = 10
_UNIQUE_TAIL = re.compile(rf"-(?P<trial>[0-9a-f]{{{_HASH_CHARACTERS}}}-t[0-9]+)-a(?P<attempt>[0-9]+)$")


def slug(text: str, length: int) -> str:
    """Return ``text`` in lower case with only ``a-z``, ``0-9`` and single dashes, at most ``length`` characters.

    Starts with a letter (Kubernetes refuses a name that starts with a digit).
    """
    cleaned = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not cleaned or not cleaned[0].isalpha():
        cleaned = f"x{cleaned}"
    return cleaned[:length].rstrip("-")


def submission_key(experiment: str, experiment_uid: str, trial_index: int, attempt: int) -> str:
    """Return the name under which one attempt of a trial is submitted: ``<slug>-<hash>-t<index>-a<attempt>``.

    The hash covers the experiment's ``uid``, not only its name: two stores may each have an experiment ``digits`` and
    submit to the same cluster, and neither may adopt the other's app.

    :param experiment: the experiment's name.
    :param experiment_uid: the random id that the store gave the experiment.
    :param trial_index: index of the trial, from 0.
    :param attempt: number of the attempt, from 1.
    :return: at most 40 characters, lower case, usable as an app name on every scheduler.
    """
    digest = hashlib.sha256(f"{experiment_uid}/{experiment}".encode()).hexdigest()[:_HASH_CHARACTERS]
    tail = f"-{digest}-t{trial_index}-a{attempt}"
    return slug(experiment, MAX_SUBMISSION_KEY - len(tail)) + tail


def cut_submission_key(key: str, length: int) -> str:
    """Return a submission key cut to a scheduler's limit: less of the slug, all of what makes it unique.

    :param key: a submission key; any other text is cut and made unique by a hash.
    :param length: characters, at least ``shortest_cut(key)``.
    """
    if len(key) <= length:
        return key
    tail = _unique_tail(key)
    return slug(key.removesuffix(tail), length - len(tail)) + tail


def shortest_cut(key: str) -> int:
    """Return the smallest length to which ``cut_submission_key`` can cut a key, with a letter in front."""
    return min(len(key), len(_unique_tail(key)) + 1)


def attempt_of_key(key: str) -> int:
    """Return the number of the attempt that a submission key names; 1 for any other text."""
    found = _UNIQUE_TAIL.search(key)
    return int(found["attempt"]) if found else 1


def checkpoint_dir_for(tracker_base: str, key: str) -> str:
    """Return where the apps of a trial keep their checkpoints: one place for all attempts of the trial.

    It is beside the tracker bases of the attempts, or in the tracker base that the attempts share. Its name leaves out
    the slug, which is cut shorter for the tenth attempt.

    :param tracker_base: the tracker base of one attempt.
    :param key: the submission key of that attempt.
    """
    return f"{tracker_base.rstrip('/').removesuffix(f'/{key}')}/{checkpoint_name(key)}"


def checkpoint_name(key: str) -> str:
    """Return the name of the folder that holds the checkpoints of the trial to which a submission key belongs."""
    found = _UNIQUE_TAIL.search(key)
    return f"checkpoint-{found['trial'] if found else key}"


def _unique_tail(key: str) -> str:
    found = _UNIQUE_TAIL.search(key)
    return found[0] if found else f"-{hashlib.sha256(key.encode()).hexdigest()[:_HASH_CHARACTERS]}"


def dag_run_key(dag_id: str, run_id: str, installation: str = "", generation: int = 0) -> str:
    """Return the identity of a DAG run, at most 57 characters: an id may be 250 long, and an index has a limit.

    :param installation: identity of the Airflow deployment: two deployments may share a store and have equal DAG ids.
    :param generation: how often a DAG run of this id was deleted and created again before this one.
    """
    whose = f"{dag_id}/{run_id}"
    if installation or generation:
        whose = f"{installation}/{generation}/{whose}"
    return f"{slug(dag_id, 40)}-{hashlib.sha256(whose.encode()).hexdigest()[:16]}"


def task_key(dag_run: str, task_id: str, map_index: int) -> str:
    """Return the identity of a task instance without its try number, the same for every retry.

    :param dag_run: the DAG run, see ``dag_run_key``.
    """
    return f"{dag_run}/{task_id}/{map_index}"


def dag_run_of(task: str) -> str:
    """Return the DAG run's part of a task key."""
    return task.partition("/")[0]


def request_key(task: str, slot: int) -> str:
    """Return the key of one requested trial: the requesting task and the slot within its request.

    A database index has a limit on its key's length, so a long key is cut and made unique by a hash.
    """
    return _indexable(f"{task}#{slot}")


def loop_key(task: str) -> str:
    """Return the key of the loop that a task runs over an experiment."""
    return _indexable(task)


def _indexable(key: str) -> str:
    if len(key) <= _MAX_REQUEST_KEY:
        return key
    return f"{key[: _MAX_REQUEST_KEY - 41]}~{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def attempt_tracker_base(root: str, experiment: str, experiment_uid: str, trial_index: int, attempt: int) -> str:
    """Return the tracker base of one attempt under a shared root (a folder or an fsspec URL).

    Each attempt has its own, so that a result which a cancelled or lost attempt wrote is never read as a later one's.
    """
    return f"{root.rstrip('/')}/{submission_key(experiment, experiment_uid, trial_index, attempt)}"


def tracker_base_for(key: str, root: str, explicit: str | None = None, *, shared: bool = False) -> str:
    """Return where the app of one attempt reports.

    An app writes its results under the trial's index. Two experiments, or two attempts, that share a tracker base would
    overwrite and delete each other's, so each attempt gets a folder of its own, named after its submission key.

    :param key: the attempt's submission key.
    :param root: the connection's root: a folder or an fsspec URL.
    :param explicit: the tracker base that the task names; it takes the root's place.
    :param shared: take ``explicit`` as it is, as Ax's ``TorchXRunner`` does: its owner keeps experiments apart. What an
        earlier attempt left there has to be removed before the next one starts.
    """
    if explicit and shared:
        return explicit
    return f"{(explicit or root).rstrip('/')}/{key}"


def tracker_key(trial_index: int) -> str:
    """Return the key under which an app reports its results, as in ``ax.metrics.torchx.TorchXMetric``."""
    return str(trial_index)


def tracker_step_key(trial_index: int, step: int | str) -> str:
    """Return the key under which an app reports progressive results at ``step``; an empty step returns their folder."""
    return f"{trial_index}.steps/{step}"
