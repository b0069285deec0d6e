"""Attaches trials that Ax did not propose; the baseline is one of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Parameters, ParameterValue, Proposal, ProposedTrial
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.attachment import Attachment

with quiet_import():
    from ax.core.experiment import Experiment
    from ax.core.parameter import ChoiceParameter, Parameter
    from ax.exceptions.core import AxError

    from airflow_provider_axtx.optimizer.rebuild import RebuiltFacts, rebuild_without_strategy


def attach(snapshot: ExperimentSnapshot, attachments: Sequence[Attachment]) -> Proposal:
    """Return the trials as an Ax client attaches them; the generator state stays as it is.

    :param attachments: already checked by ``ExperimentSpec``, because Ax accepts values out of bounds.
    :raises InvalidInputError: when Ax refuses one, or the experiment has a baseline already.
    """
    rebuilt = rebuild_without_strategy(snapshot)
    return Proposal(tuple(attach_one(rebuilt, attachment) for attachment in attachments), snapshot.generator_state)


def attach_one(rebuilt: RebuiltFacts, attachment: Attachment) -> ProposedTrial:
    """Attach one trial to a rebuilt experiment.

    :raises InvalidInputError: when Ax refuses it, or it would be a second baseline.
    """
    client, experiment = rebuilt.client, rebuilt.experiment
    if attachment.baseline and experiment.status_quo is not None:
        raise InvalidInputError(
            f"Experiment {experiment.name!r} has a baseline already: {experiment.status_quo.parameters}.",
            fix="attach this one without baseline, or begin another experiment.",
        )
    parameters = _in_types_of_ax(experiment, attachment.parameters)
    attach_to_client = client.attach_baseline if attachment.baseline else client.attach_trial
    try:
        with warnings.catch_warnings():
            # ExperimentSpec has refused values that are outside the search space by more than a rounding error.
            warnings.simplefilter("ignore", RuntimeWarning)
            # A copy: in a hierarchical space Ax adds the parameters that do not exist with these values to the object.
            index = attach_to_client(dict(parameters))
    except (AxError, ValueError) as error:
        raise InvalidInputError(
            f"Ax refuses to attach {attachment.parameters}: {type(error).__name__}: {error}", fix="change the values."
        ) from error
    trial = experiment.trials[index]
    origin = "baseline" if attachment.baseline else "attached"
    return ProposedTrial(trial.arm.name, parameters, None, {}, origin, attachment.results)


def _in_types_of_ax(experiment: Experiment, given: Parameters) -> Parameters:
    space = experiment.search_space.parameters
    return {name: space[name].cast(_nearest_value(space[name], value)) for name, value in given.items()}


def _nearest_value(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    """Return Ax's own float for a value of a stepped parameter: multiples of a step carry rounding errors."""
    if not isinstance(value, float) or not isinstance(parameter, ChoiceParameter):
        return value
    return float(min(parameter.values, key=lambda known: abs(float(known) - value)))
