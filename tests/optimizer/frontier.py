"""The Pareto frontier that Ax itself finds in the data of an experiment, which it is told through its public API."""

from __future__ import annotations

from ax.adapter.adapter_utils import observed_pareto_frontier
from ax.api.client import Client
from ax.core.experiment import Experiment
from ax.service.utils.best_point import get_tensor_converter_adapter

from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.rebuild import configured_client
from airflow_provider_axtx.spec.experiment import ExperimentSpec


def told(facts: ExperimentSnapshot) -> tuple[Client, Experiment]:
    """Return a client that was told everything one by one, and its experiment."""
    client, experiment = configured_client(ExperimentSpec.load(facts.spec), facts.name)
    for trial in facts.trials:
        attach = client.attach_baseline if trial.origin == "baseline" else client.attach_trial
        index = attach(dict(trial.parameters))
        final = [o for o in facts.observations if o.trial_index == trial.index and o.step is None]
        if trial.status == "COMPLETED":
            data = {o.metric: o.mean if o.sem is None else (o.mean, o.sem) for o in final}
            client.complete_trial(index, raw_data=data)
    return client, experiment


def observed_frontier(facts: ExperimentSnapshot) -> list[int]:
    """Return the trial indexes of Ax's observed frontier, in order."""
    _, experiment = told(facts)
    completed = [t.index for t in experiment.trials.values() if t.status.is_completed]
    adapter = get_tensor_converter_adapter(experiment=experiment, data=experiment.lookup_data(completed))
    frontier = observed_pareto_frontier(adapter=adapter, optimization_config=experiment.optimization_config)
    return sorted(int(observation.features.trial_index) for observation in frontier)
