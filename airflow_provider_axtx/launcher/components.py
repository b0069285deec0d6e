"""TorchX components: from a reference to a function, and from a trial's values to an AppDef.

The rules are those of ``ax.runners.torchx.TorchXRunner``: the experiment's parameters match the function's arguments by
name and type, constants come from ``component_args``, and ``trial_idx``, ``experiment_name`` and ``tracker_base`` are
passed when the signature declares them.
"""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchx.specs import AppDef

from airflow_provider_axtx.core import shipped
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import FLAGS
from airflow_provider_axtx.core.numbers import as_number, as_whole
from airflow_provider_axtx.core.records import ParameterValue
from airflow_provider_axtx.launcher.component_loading import load_function, resolved_signature
from airflow_provider_axtx.launcher.macros import keep_verbatim
from airflow_provider_axtx.launcher.shipped import SHIPPED
from airflow_provider_axtx.launcher.typecheck import SAMPLES, shown, type_name, type_problem

#: Arguments that are passed to every component that declares them.
RESERVED = ("trial_idx", "experiment_name", "tracker_base")
#: Passed to a component that declares it, unless the experiment or ``component_args`` give it: components had an
#: argument of this name before the provider did.
CHECKPOINT_DIR = "checkpoint_dir"

_FIX = (
    "use the names and types of the component's arguments for the experiment's parameters, and pass the constant "
    "arguments in component_args."
)


@dataclass(frozen=True)
class Component:
    """A TorchX component: a function that returns an AppDef.

    :param name: how the user refers to it; used in messages.
    :param function: the function.
    :param signature: its signature, annotations resolved where that is possible.
    """

    name: str
    function: Callable[..., Any]
    signature: inspect.Signature

    def check(self, parameter_types: Mapping[str, str], component_args: Mapping[str, object] | None = None) -> None:
        """Check that an experiment fits the component, before any trial has values.

        :param parameter_types: name of each experiment parameter and its type: ``float``, ``int``, ``str``, ``bool``.
        :param component_args: the constant arguments.
        :raises InvalidInputError: one error that lists everything that does not fit, and both sides.
        """
        constants = self._constants(component_args)
        samples = {name: SAMPLES.get(kind) for name, kind in parameter_types.items()}
        problems = self._name_problems(samples, constants)
        problems += [
            f"{name} is a {parameter_types[name]} in the experiment, the component declares {self._declared(name)}"
            for name, value in samples.items()
            if value is not None and self._problem(name, value, value_matters=False)
        ]
        problems += self._constant_problems(constants)
        problems += shipped.problems(self._shipped, parameter_types, constants)
        if problems:
            raise self._misfit(problems, parameter_types, constants)

    def build(
        self,
        parameters: Mapping[str, ParameterValue],
        component_args: Mapping[str, object] | None = None,
        *,
        trial_index: int,
        experiment: str,
        tracker_base: str,
        checkpoint_dir: str = "",
    ) -> AppDef:
        """Call the component for one trial.

        :param parameters: the trial's parameterization.
        :param component_args: the constant arguments.
        :param trial_index: passed as ``trial_idx`` when declared.
        :param experiment: the experiment's name, passed as ``experiment_name`` when declared.
        :param tracker_base: folder or URL for results, passed as ``tracker_base`` when declared.
        :param checkpoint_dir: folder or URL for the trial's checkpoints, passed as ``checkpoint_dir`` when declared.
        :return: an AppDef of its own, safe to change.
        :raises InvalidInputError: the values do not fit the signature (one error that lists everything and both
            sides), or the component raised, or it returned something else than an AppDef.
        """
        constants = self._constants(component_args)
        reserved: dict[str, object] = dict(zip(RESERVED, (trial_index, experiment, tracker_base), strict=True))
        if CHECKPOINT_DIR not in {*parameters, *constants}:
            reserved[CHECKPOINT_DIR] = checkpoint_dir
        problems = self._name_problems(parameters, constants)
        problems += self._value_problems(parameters, "the experiment gives")
        problems += self._value_problems({n: v for n, v in reserved.items() if self._declares(n)}, "it is passed as")
        problems += self._constant_problems(constants)
        problems += shipped.problems(self._shipped, parameters, constants)
        if problems:
            raise self._misfit(problems, {n: type(v).__name__ for n, v in parameters.items()}, constants)
        values = {
            # A component may change what it is given (``utils.sh`` adds to ``env``); the next trial must not see that.
            **copy.deepcopy(constants),
            **parameters,
            **{name: value for name, value in reserved.items() if self._declares(name)},
        }
        app = self._call(values)
        if self._shipped is None:
            keep_verbatim(
                app, [value for value in (*parameters.values(), *reserved.values()) if isinstance(value, str)]
            )
        return app

    @property
    def _shipped(self) -> str | None:
        """The reference, if it is a component of this package."""
        return next((name for name, function in SHIPPED.items() if function is self.function), None)

    def _call(self, values: Mapping[str, object]) -> AppDef:
        bound = self._bind(values)
        try:
            app = self.function(*bound.args, **bound.kwargs)
        except (Exception, SystemExit) as error:
            raise InvalidInputError(
                f"Component {self.name} raised {type(error).__name__}: {error}",
                fix="make the component accept these values, or correct the experiment or component_args.",
            ) from error
        if problem := _app_problem(app):
            raise InvalidInputError(
                f"Component {self.name} {problem}.", fix="return a torchx.specs.AppDef that a scheduler can run."
            )
        return copy.deepcopy(typing.cast("AppDef", app))

    def _bind(self, values: Mapping[str, object]) -> inspect.BoundArguments:
        """Return the call's arguments, in the order of the signature as ``BoundArguments`` needs them."""
        rest = dict(values)
        bound = inspect.BoundArguments(self.signature, {})
        for name, argument in self.signature.parameters.items():
            if argument.kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = rest
            elif name in rest:
                value: Any = rest.pop(name)
                bound.arguments[name] = tuple(value) if argument.kind is inspect.Parameter.VAR_POSITIONAL else value
        # Defaults in front of ``*args`` have to be given explicitly, or its values would take their places.
        bound.apply_defaults()
        return bound

    def _constants(self, component_args: object) -> dict[str, object]:
        """Return the constant arguments; text that a template or a form gave is read as the declared type."""
        constants = _constants(component_args)
        return {name: self._read(name, value) for name, value in constants.items()}

    def _read(self, name: str, given: object) -> object:
        if not isinstance(given, str) or self._problem(name, given) is None:
            return given
        read = (as_whole(given), as_number(given), FLAGS.get(given.strip().lower()))
        fitting = (value for value in read if value is not None and self._problem(name, value) is None)
        return next(fitting, given)

    # -- what does not fit ------------------------------------------------------------------------------------------

    def _declares(self, name: str) -> bool:
        argument = self.signature.parameters.get(name)
        return argument is not None and argument.kind not in _VARIABLE

    def _declared(self, name: str) -> str:
        return type_name(self.signature.parameters[name].annotation)

    def _takes_any_name(self) -> bool:
        return any(a.kind is inspect.Parameter.VAR_KEYWORD for a in self.signature.parameters.values())

    def _takes_list(self, name: str) -> bool:
        argument = self.signature.parameters.get(name)
        return argument is not None and argument.kind is inspect.Parameter.VAR_POSITIONAL

    def _name_problems(self, parameters: Mapping[str, object], constants: Mapping[str, object]) -> list[str]:
        problems = [
            f"{name} is passed to every component that declares it and cannot be "
            f"{'an experiment parameter' if name in parameters else 'an entry of component_args'}"
            for name in RESERVED
            if name in parameters or name in constants
        ]
        problems += [
            f"{name} is given twice, by the experiment and in component_args"
            for name in parameters
            if name in constants
        ]
        known = {*RESERVED, *(n for n in self.signature.parameters if self._declares(n))}
        for source, given in (("an experiment parameter", parameters), ("in component_args", constants)):
            problems += [
                f"{name} is {source}, but the component has no such argument"
                for name in given
                if name not in known
                and not self._takes_any_name()
                and not (given is constants and self._takes_list(name))
            ]
        problems += [
            f"argument {name} ({self._declared(name)}) is missing: pass it in the experiment or in component_args"
            for name, argument in self.signature.parameters.items()
            if argument.default is inspect.Parameter.empty
            and argument.kind not in _VARIABLE
            and name not in {*parameters, *constants, *RESERVED, CHECKPOINT_DIR}
        ]
        return problems

    def _value_problems(self, values: Mapping[str, object], giver: str) -> list[str]:
        return [
            f"{name} must be {self._declared(name)}, {giver} {shown(value)}: {problem}"
            for name, value in values.items()
            if (problem := self._problem(name, value))
        ]

    def _constant_problems(self, constants: Mapping[str, object]) -> list[str]:
        problems = self._value_problems(constants, "component_args give")
        for name, value in constants.items():
            if not self._takes_list(name):
                continue
            if not isinstance(value, (list, tuple)):
                problems.append(f"*{name} takes a list in component_args, not {shown(value)}")
                continue
            annotation = self.signature.parameters[name].annotation
            problems += [
                f"each of *{name} must be {self._declared(name)}, component_args give {shown(item)}: {problem}"
                for item in value
                if (problem := type_problem(annotation, item))
            ]
        return problems

    def _problem(self, name: str, value: object, *, value_matters: bool = True) -> str | None:
        if not self._declares(name):
            return None
        argument = self.signature.parameters[name]
        if value is None and argument.default is None:
            return None  # ``x: str = None`` is still common in components
        return type_problem(argument.annotation, value, value_matters=value_matters)

    def _misfit(
        self, problems: Sequence[str], parameter_types: Mapping[str, str], constants: Mapping[str, object]
    ) -> InvalidInputError:
        experiment = ", ".join(f"{n}: {t}" for n, t in parameter_types.items()) or "nothing"
        given = ", ".join(f"{n}: {type(v).__name__}" for n, v in constants.items()) or "nothing"
        return InvalidInputError(
            f"Component {self.name} does not fit: {'; '.join(problems)}. The experiment gives {experiment}; "
            f"component_args give {given}; the component takes {self._signature_text()}.",
            fix=_FIX,
        )

    def _signature_text(self) -> str:
        stars: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        return (
            ", ".join(
                f"{stars.get(a.kind, '')}{n}: {type_name(a.annotation)}"
                + ("" if a.default is inspect.Parameter.empty else " (optional)")
                for n, a in self.signature.parameters.items()
            )
            or "no argument"
        )


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def load_component(reference: object, allowed: Sequence[str] | None = None) -> Component:
    """Return the component that a reference names.

    :param reference: a registered name (``utils.booth``), a file and function (``components.py:trainer``; a relative
        file is looked for in the working directory, then in the folders of ``sys.path``), an import path and function
        (``my_pkg.components:trainer``), or the function itself.
    :param allowed: patterns (``fnmatch``) of which a reference that is a string must match one; None allows all, an
        empty list none. A function object is code of the DAG's author and always allowed.
    :raises InvalidInputError: no such component, or not allowed, or not a component.
    """
    if isinstance(reference, Component):
        return reference
    name, function = load_function(reference, allowed)
    return Component(name, function, resolved_signature(name, function))


def check_component(
    reference: object,
    parameter_types: Mapping[str, str],
    component_args: Mapping[str, object] | None = None,
    allowed: Sequence[str] | None = None,
) -> None:
    """Check a component reference against an experiment's parameters without building anything.

    Arguments as in ``load_component`` and ``Component.check``.

    :raises InvalidInputError: no such component, or it does not fit.
    """
    load_component(reference, allowed).check(parameter_types, component_args)


def _app_problem(app: object) -> str | None:
    """Return why TorchX could not run what a component returned; its own messages for these name nothing."""
    if not isinstance(app, AppDef):
        return f"returned {type(app).__name__}, not an AppDef"
    if not app.roles:
        return "returned an AppDef without roles"
    for role in app.roles:
        texts = [("args", v) for v in role.args] + [(f"env {name}", v) for name, v in role.env.items()]
        for place, value in [("entrypoint", role.entrypoint), *texts]:
            if not isinstance(value, str):
                return f"has {shown(value)} in {place} of role {role.name}, where only strings are allowed"
            if "\0" in value:
                return f"has a NUL character in {place} of role {role.name}, which cannot be passed to a process"
    return None


def _constants(component_args: object) -> dict[str, object]:
    if component_args is None:
        return {}
    if not isinstance(component_args, Mapping) or not all(isinstance(name, str) for name in component_args):
        raise InvalidInputError(
            f"component_args must be an object of argument names and values, not {shown(component_args)}.",
            fix='pass for example component_args={"epochs": 3}.',
        )
    return dict(component_args)
