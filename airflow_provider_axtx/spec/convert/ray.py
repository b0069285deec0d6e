"""Ray Tune's ``param_space``: its own objects, or as data the functions of ``ray.tune`` with their arguments.

``{"lr": {"loguniform": [1e-5, 0.1]}, "depth": {"randint": [1, 10]}, "kernel": {"choice": ["rbf", "poly"]}}``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_axtx.core.numbers import as_whole
from airflow_provider_axtx.spec.convert.source import NO_BOUNDS, Foreign, are_multiples
from airflow_provider_axtx.spec.problems import closest

#: For each function of two bounds and perhaps a quantum: the type, whether it is logarithmic or quantized.
_RANGES: dict[str, tuple[type[int] | type[float], bool, bool]] = {
    "uniform": (float, False, False),
    "quniform": (float, False, True),
    "loguniform": (float, True, False),
    "qloguniform": (float, True, True),
    "randint": (int, False, False),
    "qrandint": (int, False, True),
    "lograndint": (int, True, False),
    "qlograndint": (int, True, True),
}
_REFUSED = {
    "randn": ("has no bounds", NO_BOUNDS),
    "qrandn": ("has no bounds", NO_BOUNDS),
    "grid_search": ("tries every value, and Ax chooses values", "write choice in place of grid_search."),
    "sample_from": ("is a function", "compute the value in the program, or write a derived parameter."),
}
_FUNCTIONS = (*_RANGES, "choice", *_REFUSED)
_CONSTANT = "pass it to the program as one of its component_args."


def read(given: object, source: Foreign) -> None:
    """Read ``{parameter: domain}``; a number, a text or a boolean is a constant."""
    if not isinstance(given, Mapping) or not given:
        source.refuse("param_space", given, "must be an object", 'write {"lr": {"loguniform": [1e-5, 0.1]}}.')
        return
    for name, domain in given.items():
        _read_domain(str(name), as_data(domain), source)


def as_data(domain: Any) -> Any:
    """Return an object of Ray Tune as data; anything else as it is."""
    kind = type(domain).__name__
    if kind == "Categorical" and hasattr(domain, "categories"):
        return {"choice": list(domain.categories)}
    if kind == "Function" and hasattr(domain, "func"):
        return {"sample_from": [getattr(domain.func, "__name__", "function")]}
    if kind not in ("Float", "Integer") or not hasattr(domain, "get_sampler"):
        return domain
    sampler = domain.get_sampler()
    quantum = [sampler.q] if hasattr(sampler, "q") else []
    inner = getattr(sampler, "sampler", sampler)
    name = {"Uniform": "uniform" if kind == "Float" else "randint", "Normal": "randn"}.get(str(inner))
    if name is None:
        name = "loguniform" if kind == "Float" else "lograndint"
    return {("q" if quantum else "") + name: [domain.lower, domain.upper, *quantum]}


def _read_domain(name: str, domain: Any, source: Foreign) -> None:
    if isinstance(domain, (bool, int, float, str)):
        source.add_choice(name, name, [domain])
    elif not isinstance(domain, Mapping):
        source.refuse(name, domain, "is neither a domain of Ray Tune nor a number, a text or a boolean", _CONSTANT)
    elif len(domain) != 1 or next(iter(domain)) not in _FUNCTIONS:
        if domain and all(isinstance(one, Mapping) for one in domain.values()):
            fix = f"write its parameters at the top, such as {name}_x for its parameter x."
            source.refuse(name, domain, "is a nested space", fix)
        else:
            source.refuse(
                name, domain, "is not one function of ray.tune", closest(next(iter(domain), None), _FUNCTIONS)
            )
    else:
        ((function, arguments),) = domain.items()
        _read_function(name, function, arguments, source)


def _read_function(name: str, function: str, arguments: Any, source: Foreign) -> None:
    path = f"{name}.{function}"
    if function in _REFUSED:
        text, fix = _REFUSED[function]
        source.refuse(path, arguments, text, fix)
        return
    if function == "choice":
        source.add_choice(path, name, arguments)
        return
    kind, log, quantized = _RANGES[function]
    if not isinstance(arguments, (list, tuple)) or len(arguments) != 2 + quantized:
        wanted = "[lower, upper, q]" if quantized else "[lower, upper]"
        source.refuse(path, arguments, "must have its arguments as a list", f"write {wanted}.")
        return
    low, high, *rest = arguments
    quantum = rest[0] if rest else None
    if quantum is not None and not are_multiples(quantum, low, high):
        source.refuse(path, arguments, "has bounds that are no multiples of q", "round the bounds to multiples of q.")
        return
    if kind is int and not quantized and (first_left_out := as_whole(high)) is not None:
        # The only functions whose upper bound is left out. It may be of numpy, or a text.
        high = first_left_out - 1
    source.add_range(path, name, kind, (low, high), log=log, step=quantum)
