"""How trials are generated: the arguments of Ax's ``Client.configure_generation_strategy`` and of ``Client`` itself."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import MAX_COUNT
from airflow_provider_axtx.core.numbers import Whole
from airflow_provider_axtx.spec.model import Frozen
from airflow_provider_axtx.spec.problems import Problem

#: Ax's default, needed to compare with ``min_observed_initialization_trials``.
DEFAULT_INITIALIZATION_BUDGET = 5

_Count = Annotated[Whole, Field(ge=1, le=MAX_COUNT)]
_Seed = Annotated[Whole, Field(ge=0, lt=2**32)]


def check_factory(factory: str | None, allowed: Sequence[str] | None) -> None:
    """Refuse a factory that the DAG's code does not allow: it is code, and a form or the store may name it.

    :param factory: the definition's ``generation.factory``; None is always allowed.
    :param allowed: patterns (``fnmatch``); None allows all.
    :raises InvalidInputError: when no pattern matches.
    """
    if factory is None or allowed is None or any(fnmatch.fnmatchcase(factory, pattern) for pattern in allowed):
        return
    raise InvalidInputError(
        f"generation.factory {factory!r} is not allowed; allowed_factories are {list(allowed)}.",
        fix=f"if it is to run, pass allowed_factories=[{factory!r}] to each operator of the experiment.",
    )


class GenerationSpec(Frozen):
    """How trials are generated; names and defaults are Ax's.

    :param factory: instead of all that defines a strategy here: ``my_pkg.module:function``, which returns any Ax
        ``GenerationStrategy`` without trials, the same one at each call. It is code that the generating tasks call, so
        the operator that creates the experiment must allow it.
    :param method: ``fast`` (Bayesian optimization), ``quality`` (slower, fully Bayesian) or ``random_search``.
    :param initialization_budget: number of Sobol trials before the model takes over; None lets Ax decide (5).
    :param initialization_random_seed: seed of the Sobol sequence.
    :param initialize_with_center: whether the first trial is the center of the search space.
    :param use_existing_trials_for_initialization: whether attached trials count towards the budget.
    :param min_observed_initialization_trials: completed trials that the model needs, without those that were stopped
        early; None is half the budget, and 1 with ``successive_halving``.
    :param allow_exceeding_initialization_budget: continue with Sobol trials instead of waiting for results.
    :param torch_device: device that the model is fitted on, for example ``cpu`` or ``cuda:0``.
    :param simplify_parameter_changes: prune changes that do not matter.
    :param random_seed: seed of everything that Ax does, set anew at each generation.
    :param max_parallelism: trials that may be in flight at once; None means no limit. Ax does not have this field.
    """

    factory: str | None = None
    method: Literal["quality", "fast", "random_search"] = "fast"
    initialization_budget: _Count | None = None
    initialization_random_seed: _Seed | None = None
    initialize_with_center: bool = True
    use_existing_trials_for_initialization: bool = True
    min_observed_initialization_trials: _Count | None = None
    allow_exceeding_initialization_budget: bool = False
    torch_device: str | None = None
    simplify_parameter_changes: bool = False
    random_seed: _Seed | None = None
    max_parallelism: _Count | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this part."""
        if self.factory is not None:
            yield from self._factory_problems(self.factory)
        budget = self.initialization_budget or DEFAULT_INITIALIZATION_BUDGET
        observed = self.min_observed_initialization_trials
        if observed is not None and observed > budget and not self.allow_exceeding_initialization_budget:
            # Ax would wait forever: the budget forbids the trials whose results it waits for.
            yield Problem(
                "min_observed_initialization_trials",
                observed,
                f"is more than the initialization_budget of {budget}, so the model could never start",
                "lower it, raise initialization_budget, or set allow_exceeding_initialization_budget.",
            )
        if self.torch_device is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", self.torch_device):
            yield Problem("torch_device", self.torch_device, "is not a torch device", "write cpu, mps, cuda or cuda:0.")

    def _factory_problems(self, factory: str) -> Iterator[Problem]:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", factory):
            yield Problem("factory", factory, "is not a reference to a function", "write 'package.module:function'.")
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in ("factory", "random_seed", "max_parallelism") and value != info.default:
                fix = "remove it; the factory's strategy decides that."
                yield Problem(name, value, "has no effect together with factory", fix)
