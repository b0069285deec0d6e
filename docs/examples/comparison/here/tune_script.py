from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import AxOptimizeOperator

C = {"type": "range", "name": "c", "parameter_type": "float", "bounds": [1e-3, 1e3], "scaling": "log"}
GAMMA = {"type": "range", "name": "gamma", "parameter_type": "float", "bounds": [1e-5, 1.0], "scaling": "log"}


@dag(schedule=None)
def tune_script():
    AxOptimizeOperator(
        task_id="optimize",
        experiment={"name": "wine-{{ run_id }}", "parameters": [C, GAMMA], "objective": "accuracy"},
        component="axtx.script",
        component_args={"script": "train.py"},
        metrics={"accuracy": {"regex": r"accuracy=([0-9.]+)"}},
        max_trials=12,
        parallelism=4,
    )


tune_script()
