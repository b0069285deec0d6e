"""Submitting to Kubernetes: names that the API server accepts, and a label by which a job is found.

A pod is named ``<job>-<role>-<replica>-0``. That is also its host name and so has at most 63 characters. The job's name
is the submission key with TorchX's random ending; the key and the roles' names are cut as far as needed. The whole key
is the job's label.
"""

from __future__ import annotations

import hashlib
from typing import Any

from torchx.specs import AppDef
from torchx.util.strings import normalize_str

from airflow_provider_axtx.core.keys import cut_submission_key, shortest_cut

#: Holds the submission key.
KEY_LABEL = "axtx.io/submission-key"
_MAX_POD_NAME = 63
#: TorchX appends a dash and a random id of at most 14 characters to the app's name.
_RANDOM_CHARACTERS = 15
_HASH_CHARACTERS = 6


def fit_names(app: AppDef, key: str) -> None:
    """Give an app and its roles names with which the pods can be named.

    A role whose name is too long, or has other characters than lower-case letters, digits and dashes, gets one that is
    cut and made unique by a hash.

    :param app: the app; changed.
    :param key: its submission key.
    """
    room = _MAX_POD_NAME - _RANDOM_CHARACTERS
    endings = []
    for role in app.roles:
        replica = f"-{max(role.num_replicas - 1, 0)}-0"
        role.name = _role_name(role.name, room - shortest_cut(key) - len(f"-{replica}"))
        endings.append(f"-{role.name}{replica}")
    app.name = cut_submission_key(key, room - max(map(len, endings)))


def label_job(request: Any, key: str) -> None:
    """Give the job its submission key as a label.

    :param request: TorchX's ``KubernetesJob`` or ``KubernetesMCADJob``.
    """
    request.resource["metadata"].setdefault("labels", {})[KEY_LABEL] = key


def _role_name(name: str, length: int) -> str:
    if len(name) <= length and normalize_str(name) == name and name[:1].isalpha() and name[-1].isalnum():
        return name
    # Without dashes: TorchX makes a variable's name of it.
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARACTERS]
    letters = "".join(c for c in name.lower() if c.isascii() and c.isalnum()).lstrip("0123456789") or "role"
    return letters[: length - _HASH_CHARACTERS] + digest
