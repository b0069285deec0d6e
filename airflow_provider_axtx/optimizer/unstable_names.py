"""The names of Ax that this package uses outside Ax's stable API.

Ax promises stability only for ``ax.api.client.Client`` and ``ax.api.configs``. A new version of Ax may change the
names below in any release, so ``tests/optimizer/test_unstable_names.py`` checks that each one exists, and that no
module imports another one. Support for a newer Ax begins with this list.
"""

from __future__ import annotations

#: Module of Ax -> what is imported from it; ``Class.attribute`` is an attribute in use beyond the stable API.
UNSTABLE_NAMES: dict[str, tuple[str, ...]] = {
    # Public methods whose docstring says that they are not part of the API.
    "ax.api.client": ("Client.set_experiment", "Client.set_generation_strategy"),
    "ax.api.utils.generation_strategy_dispatch": ("choose_generation_strategy",),
    "ax.api.utils.instantiation.from_struct": ("experiment_from_struct",),
    "ax.api.utils.structs": ("ExperimentStruct", "GenerationStrategyDispatchStruct"),
    # Building the experiment from rows.
    "ax.core.arm": ("Arm",),
    "ax.core.data": ("Data", "DataRow"),
    "ax.core.experiment": (
        *("Experiment", "Experiment.attach_data", "Experiment.lookup_data", "Experiment.metrics"),
        *("Experiment.optimization_config", "Experiment.search_space", "Experiment.status_quo", "Experiment.trials"),
        *("Experiment.add_parameters_to_search_space", "Experiment.disable_parameters_in_search_space"),
    ),
    "ax.core.generator_run": ("GeneratorRun", "GeneratorRunType"),
    "ax.core.parameter": (
        *("ChoiceParameter", "ChoiceParameter.is_ordered", "DerivedParameter", "FixedParameter", "Parameter"),
        *("Parameter.is_numeric", "RangeParameter"),
        *("Parameter.cardinality", "Parameter.cast", "Parameter.python_type"),
        *("Parameter.default_value", "Parameter.is_disabled"),
    ),
    "ax.core.trial": ("Trial", "Trial.mark_as", "Trial.mark_running"),
    "ax.core.trial_status": ("TrialStatus",),
    # The generation strategy goes through JSON, which is how its state is restored without private attributes.
    "ax.generation_strategy.generation_strategy": (
        *("GenerationStrategy", "GenerationStrategy.current_node_name", "GenerationStrategy.fit"),
        "GenerationStrategy.nodes_by_name",
    ),
    "ax.storage.json_store.decoder": ("generation_strategy_from_json",),
    "ax.storage.json_store.encoder": ("object_to_json",),
    "ax.utils.common.constants": ("Keys", "Keys.FULL_PARAMETERIZATION"),
    "ax.utils.common.logger": ("ROOT_LOGGER", "ROOT_STREAM_HANDLER"),
    "ax.utils.common.random": ("with_rng_seed",),
    # Corrected in ``corrections``.
    "ax.adapter.transforms": ("int_to_float", "int_to_float.randomized_round_parameters"),
    "ax.adapter.transforms.choice_encode": (
        *("OrderedChoiceToIntegerRange", "OrderedChoiceToIntegerRange.transform_search_space"),
    ),
    "ax.core.parameter_constraint": ("ParameterConstraint", "ParameterConstraint.constraint_dict"),
    "ax.core.search_space": ("SearchSpace", "SearchSpace.set_parameter_constraints"),
    # Stopping.
    "ax.early_stopping.strategies": (
        *("BaseEarlyStoppingStrategy", "PercentileEarlyStoppingStrategy", "ThresholdEarlyStoppingStrategy"),
        "BaseEarlyStoppingStrategy.should_stop_trials_early",
    ),
    "ax.global_stopping.strategies.improvement": (
        *("ImprovementGlobalStoppingStrategy", "ImprovementGlobalStoppingStrategy.should_stop_optimization"),
    ),
    # Analysis cards.
    "ax.analysis.graphviz.graphviz_analysis": ("GraphvizAnalysisCard",),
    "ax.analysis.markdown.markdown_analysis": ("MarkdownAnalysisCard", "MarkdownAnalysisCard.get_markdown"),
    "ax.analysis.plotly.plotly_analysis": ("PlotlyAnalysisCard", "PlotlyAnalysisCard.get_figure"),
    "ax.core.analysis_card": (
        *("AnalysisCard", "AnalysisCardBase", "AnalysisCardGroup", "ErrorAnalysisCard"),
        "NotApplicableStateAnalysisCard",
    ),
    # Explanations.
    "ax.adapter.torch": ("TorchAdapter", "TorchAdapter.predict"),
    "ax.analysis.plotly.cross_validation": ("CrossValidationPlot", "CrossValidationPlot.compute"),
    "ax.analysis.plotly.sensitivity": ("SensitivityAnalysisPlot", "SensitivityAnalysisPlot.compute"),
    "ax.analysis.plotly.surface.utils": (
        *("get_features_for_slice_or_contour", "get_fixed_values_for_slice_or_contour", "get_parameter_values"),
    ),
    # Errors.
    "ax.exceptions.core": (
        *("AxError", "AxParameterWarning", "DataRequiredError", "OptimizationComplete", "UnsupportedError"),
        "UserInputError",
    ),
    "ax.exceptions.generation_strategy": (
        *("GenerationStrategyMisconfiguredException", "MaxParallelismReachedException"),
    ),
    "ax.exceptions.storage": ("JSONEncodeError",),
    "botorch.exceptions.errors": ("InfeasibilityError",),
}
