"""The provider's metadata, which Airflow reads through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

_PACKAGE = "airflow_provider_axtx"
#: How-to guides in the documentation, by integration.
_GUIDES = {
    "Ax": ["parallel", "warm_start", "early_stopping", "nightly", "steer", "explain", "retention"],
    "TorchX": ["scripts", "functions", "slurm", "kubernetes", "checkpoints", "killing"],
}


def _modules(ax: tuple[str, ...] = (), torchx: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [
        {"integration-name": integration, "python-modules": [f"{_PACKAGE}.{name}" for name in names]}
        for integration, names in (("Ax", ax), ("TorchX", torchx))
        if names
    ]


def _integration(name: str, url: str) -> dict[str, Any]:
    return {
        "integration-name": name,
        "external-doc-url": url,
        "how-to-guide": [f"/docs/howto/{page}.md" for page in _GUIDES[name]],
        "logo": "/docs/images/logo.svg",
        "tags": ["software", "machine-learning"],
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-axtx",
        "name": "Ax and TorchX",
        "description": "Hyperparameter and black-box optimization: Ax proposes parameters, TorchX runs the trials.",
        "integrations": [
            _integration("Ax", "https://ax.dev"),
            _integration("TorchX", "https://pytorch.org/torchx"),
        ],
        "operators": _modules(ax=("operators.ax",), torchx=("operators.torchx",)),
        "sensors": _modules(torchx=("sensors.torchx",)),
        "hooks": _modules(ax=("hooks.ax",), torchx=("hooks.torchx",)),
        "triggers": _modules(ax=("triggers.optimize",), torchx=("triggers.trial",)),
        "notifications": [f"{_PACKAGE}.notifications.new_best.NewBestTrialNotifier"],
        "asset-uris": [
            {
                "schemes": ["ax"],
                "handler": f"{_PACKAGE}.assets.sanitize_uri",
                "factory": f"{_PACKAGE}.assets.experiment_asset",
                "to_openlineage_converter": f"{_PACKAGE}.assets.convert_asset_to_openlineage",
            }
        ],
        "extra-links": [f"{_PACKAGE}.links.{name}" for name in ("ExperimentLink", "TrialLink", "AppLink")],
        "task-decorators": [
            {"name": name, "class-name": f"{_PACKAGE}.decorators.{name}_task"} for name in ("ax_optimize", "ax_trial")
        ],
        "cli": [f"{_PACKAGE}.cli.get_commands"],
        "connection-types": [_ax_connection(), _torchx_connection()],
        "config": {"axtx": _options()},
    }


def _options() -> dict[str, Any]:
    return {
        "description": "Options of the Ax and TorchX provider.",
        "options": {
            "installation": {
                "description": (
                    "Identity of this Airflow deployment in the experiment stores that it uses. It keeps the trials "
                    "and apps of two deployments that share a store apart, and must be the same in all processes of "
                    "one deployment. When it is empty, the Airflow Variable axtx_installation holds the identity, "
                    "which the first task makes with a random value."
                ),
                "version_added": "0.1.0",
                "type": "string",
                "example": "production",
                "default": "",
            },
            "mlflow_tracking_uri": {
                "description": (
                    "Address of an MLflow server in which each experiment is recorded as well: a parent run for it, "
                    "and a nested run for each attempt of a trial. Needs the extra mlflow on every worker."
                ),
                "version_added": "0.1.0",
                "type": "string",
                "example": "http://mlflow:5000",
                "default": "",
            },
            "mlflow_run_id": {
                "description": (
                    "Whether each app gets MLFLOW_RUN_ID and MLFLOW_TRACKING_URI as environment variables, so that "
                    "what it logs itself arrives in the run of its attempt."
                ),
                "version_added": "0.1.0",
                "type": "boolean",
                "example": "True",
                "default": "False",
            },
            "wandb_dir": {
                "description": (
                    "Folder in which each experiment is recorded as offline runs of Weights & Biases, for wandb sync: "
                    "a group for it, and in it a run for each attempt of a trial. Needs the extra wandb, and the same "
                    "folder on every worker."
                ),
                "version_added": "0.1.0",
                "type": "string",
                "example": "/shared/wandb",
                "default": "",
            },
            "tensorboard_log_dir": {
                "description": (
                    "Log directory of TensorBoard in which each experiment is recorded as well, for the pages Scalars "
                    "and HParams. Needs the extra tensorboard, and the same folder on every worker."
                ),
                "version_added": "0.1.0",
                "type": "string",
                "example": "/shared/tensorboard",
                "default": "",
            },
        },
    }


def _ax_connection() -> dict[str, Any]:
    return {
        "connection-type": "ax",
        "hook-class-name": f"{_PACKAGE}.hooks.ax.AxHook",
        "hook-name": "Ax experiment store",
        "conn-fields": {
            "drivername": {
                "label": "Database driver",
                "schema": {
                    "type": ["string", "null"],
                    "enum": ["sqlite", "postgresql+psycopg", "mysql+pymysql"],
                    "default": "sqlite",
                },
                "description": "SQLAlchemy driver of the database that stores the experiments.",
            }
        },
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {"schema": "Database, or path of the SQLite file"},
            "placeholders": {"schema": "axtx", "extra": '{"sslmode": "verify-full", "sslrootcert": "/certs/ca.pem"}'},
        },
    }


def _torchx_connection() -> dict[str, Any]:
    return {
        "connection-type": "torchx",
        "hook-class-name": f"{_PACKAGE}.hooks.torchx.TorchXHook",
        "hook-name": "TorchX scheduler",
        "conn-fields": {
            "scheduler": {
                "label": "Scheduler",
                "schema": {"type": ["string", "null"], "default": "local_detached"},
                "description": "TorchX scheduler: local_detached, slurm, kubernetes, local_docker, ...",
            },
            "scheduler_args": {
                "label": "Scheduler options",
                "schema": {"type": ["string", "null"], "format": "json"},
                "description": 'Run options as a JSON object, for example {"partition": "gpu"}.',
            },
            "tracker_base": {
                "label": "Tracker base",
                "schema": {"type": ["string", "null"]},
                "description": "Folder or fsspec URL where apps report results. Workers and apps must both reach it.",
            },
            "allowed_components": {
                "label": "Allowed components",
                "schema": {"type": ["string", "null"]},
                "description": "Comma-separated patterns of the components that may run. Empty: each component that "
                "the DAG file itself names, and none that a template names.",
            },
            "prices": {
                "label": "Prices",
                "schema": {"type": ["string", "null"], "format": "json"},
                "description": 'What an hour costs, as a JSON object: {"cpu_hour": 0.04, "gpu_hour": 2.5}.',
            },
        },
        "ui-field-behaviour": {
            "hidden-fields": ["host", "schema", "login", "password", "port", "extra"],
            "relabeling": {},
            "placeholders": {"tracker_base": "s3://bucket/tracker"},
        },
    }
