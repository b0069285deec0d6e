"""Values of a trial that TorchX would take for its macros.

TorchX reads the arguments, the environment and the metadata of a role as templates: ``${app_id}`` is replaced and
``$$`` becomes ``$``. The component gets a trial's values as they are; here, in what it returns, they are protected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torchx.specs import AppDef, macros

_NOTHING = macros.Values(img_root="", app_id="", replica_id="", rank0_env="")


def keep_verbatim(app: AppDef, values: Iterable[str]) -> None:
    """Double the ``$`` of each value wherever it stands in an app, so that it arrives as it is.

    Only of values that TorchX would change. Macros that the component wrote itself keep their meaning, unless a value
    has the very same text.

    :param app: what the component returned; changed.
    :param values: the texts that it was called with.
    """
    changed = sorted({value for value in values if _is_changed(value)}, key=len, reverse=True)
    if not changed:
        return
    pattern = re.compile("|".join(map(re.escape, changed)))
    for role in app.roles:
        role.args = _protected(role.args, pattern)
        role.env = _protected(role.env, pattern)
        role.metadata = _protected(role.metadata, pattern)


def _is_changed(value: str) -> bool:
    # A value that ends with ``$`` could become a macro together with what the component writes behind it.
    return _NOTHING.substitute(value) != value or (len(value) > 1 and value.endswith("$"))


def _protected(content: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(content, str):
        return pattern.sub(lambda found: found[0].replace("$", "$$"), content)
    if isinstance(content, dict):
        return {name: _protected(value, pattern) for name, value in content.items()}
    if isinstance(content, list):
        return [_protected(value, pattern) for value in content]
    return content
