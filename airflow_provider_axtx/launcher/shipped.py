"""The components that this package ships: a command, a Python script or module, the same on several processes.

They are referenced as ``axtx.command``, ``axtx.script`` and ``axtx.ddp``. They are not registered under TorchX's entry
point ``torchx.components``: as soon as any package registers one there, TorchX hides all of its own components.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torchx
from torchx import specs
from torchx.components import dist
from torchx.specs import AppDef, macros

from airflow_provider_axtx.core import shipped
from airflow_provider_axtx.core.command_line import DEFAULT_FLAG, CommandLine, filled, shell_text, split, value_text
from airflow_provider_axtx.core.function_source import packed, unpacked
from airflow_provider_axtx.core.records import ParameterValue
from airflow_provider_axtx.launcher import function_runner

# Stands for the replica's number until the ``$`` of everything else is protected; no argument of a process holds a NUL.
_REPLICA = "\0replica\0"
_CHANGE_FOLDER = 'mkdir -p -- "$0" && cd -- "$0" && exec "$@"'


def command(
    trial_idx: int,
    experiment_name: str,
    tracker_base: str,
    command: list[str] | tuple[str, ...] | str,
    shell: bool = False,
    flag: str = DEFAULT_FLAG,
    cwd: str | None = None,
    num_replicas: int = 1,
    cpu: int = 1,
    gpu: int = 0,
    memMB: int | None = None,
    named_resource: str | None = None,
    image: str | None = None,
    env: dict[str, str] | None = None,
    mounts: list[str] | None = None,
    checkpoint_dir: str = "",
    **parameters: Any,
) -> AppDef:
    """Run a command for each trial.

    Args:
        trial_idx: passed by the provider
        experiment_name: passed by the provider
        tracker_base: passed by the provider
        command: its words with placeholders such as {lr}; one text is split as a shell would, without running a shell
        shell: run one text with sh; values reach it as parameters of the shell, never as part of the command
        flag: how a parameter that no placeholder names is written
        cwd: folder in which it runs, made when it is missing, with placeholders; None is the scheduler's
        num_replicas: number of copies
        cpu: cores for each replica
        gpu: GPUs for each replica
        memMB: memory for each replica in MB; None leaves it to the scheduler
        named_resource: a resource that is registered with TorchX, in place of cpu, gpu and memMB
        image: image for schedulers that use one
        env: environment variables
        mounts: as in TorchX: type=bind, src=/host, dst=/in/container, readonly
        checkpoint_dir: passed by the provider
        parameters: the experiment's parameters
    """
    values = _values(parameters, trial_idx, experiment_name, tracker_base, checkpoint_dir)
    if shell:
        text, given = shell_text(str(command), values)
        words = ["sh", "-c", text, "sh", *given]
    else:
        given_words = split(command) if isinstance(command, str) else tuple(command)
        words = CommandLine(given_words, flag).fill(values, parameters)
    role = _role("command", _in_folder(words, cwd, values), image, env, mounts)
    role.num_replicas = num_replicas
    role.resource = _resource(cpu, gpu, memMB, named_resource)
    return AppDef("command", [role])


def script(
    trial_idx: int,
    experiment_name: str,
    tracker_base: str,
    script: str | None = None,
    m: str | None = None,
    args: list[str] | tuple[str, ...] | None = None,
    flag: str = DEFAULT_FLAG,
    python: str | None = None,
    cwd: str | None = None,
    num_replicas: int = 1,
    cpu: int = 1,
    gpu: int = 0,
    memMB: int | None = None,
    named_resource: str | None = None,
    image: str | None = None,
    env: dict[str, str] | None = None,
    mounts: list[str] | None = None,
    checkpoint_dir: str = "",
    **parameters: Any,
) -> AppDef:
    """Run a Python file or module for each trial.

    Args:
        trial_idx: passed by the provider
        experiment_name: passed by the provider
        tracker_base: passed by the provider
        script: the file; without an image, a relative one is looked for as component files are
        m: the module, in place of a file
        args: its arguments, with placeholders such as {lr}; without any, all parameters are passed as flags
        flag: how a parameter that no placeholder names is written
        python: the interpreter; None is Airflow's own without an image, and python with one
        cwd: see axtx.command
        num_replicas: number of copies
        cpu: cores for each replica
        gpu: GPUs for each replica
        memMB: memory for each replica in MB; None leaves it to the scheduler
        named_resource: see axtx.command
        image: image for schedulers that use one
        env: environment variables
        mounts: see axtx.command
        checkpoint_dir: passed by the provider
        parameters: the experiment's parameters
    """
    values = _values(parameters, trial_idx, experiment_name, tracker_base, checkpoint_dir)
    program = ["-m", str(m)] if script is None else [_script_file(script, image)]
    words = [python or _python(image), *program, *CommandLine(tuple(args or ()), flag).fill(values, parameters)]
    role = _role("script", _in_folder(words, cwd, values), image, env, mounts)
    role.num_replicas = num_replicas
    role.resource = _resource(cpu, gpu, memMB, named_resource)
    return AppDef("script", [role])


def ddp(
    trial_idx: int,
    experiment_name: str,
    tracker_base: str,
    script: str | None = None,
    m: str | None = None,
    args: list[str] | tuple[str, ...] | None = None,
    flag: str = DEFAULT_FLAG,
    j: str = "1x2",
    rdzv_port: int = 29500,
    rdzv_backend: str = "c10d",
    cpu: int = 2,
    gpu: int = 0,
    memMB: int | None = None,
    named_resource: str | None = None,
    image: str | None = None,
    env: dict[str, str] | None = None,
    mounts: list[str] | None = None,
    checkpoint_dir: str = "",
    **parameters: Any,
) -> AppDef:
    """Run a Python file or module on several processes for each trial, by TorchX's dist.ddp (torchrun).

    Args:
        trial_idx: passed by the provider
        experiment_name: passed by the provider
        tracker_base: passed by the provider
        script: see axtx.script
        m: see axtx.script
        args: see axtx.script
        flag: see axtx.script
        j: replicas x processes of each replica, as in dist.ddp
        rdzv_port: port of the first replica at which they meet
        rdzv_backend: backend by which they meet
        cpu: cores for each replica
        gpu: GPUs for each replica
        memMB: memory for each replica in MB; None leaves it to the scheduler
        named_resource: see axtx.command
        image: image for schedulers that use one
        env: environment variables
        mounts: see axtx.command
        checkpoint_dir: passed by the provider
        parameters: the experiment's parameters
    """
    values = _values(parameters, trial_idx, experiment_name, tracker_base, checkpoint_dir)
    words = CommandLine(tuple(args or ()), flag).fill(values, parameters)
    app = dist.ddp(
        # Twice: torchrun replaces a macro of its own in the arguments, ``${local_rank}``.
        *(_verbatim(word.replace("$", "$$")) for word in words),
        script=None if script is None else _script_file(script, image),
        m=m,
        image=image or torchx.IMAGE,
        j=j,
        rdzv_port=rdzv_port,
        rdzv_backend=rdzv_backend,
        env={name: _verbatim(value) for name, value in (env or {}).items()},
        mounts=mounts,
    )
    (role,) = app.roles
    role.name = "ddp"
    role.resource = _resource(cpu, gpu, memMB, named_resource)
    if image is None:
        # The folder of Airflow's interpreter, where torchrun is, need not be on PATH.
        role.args[1] = f"{shlex.join([sys.executable, '-m', 'torch.distributed.run'])} {role.args[1].partition(' ')[2]}"
    return app


def function(
    trial_idx: int,
    experiment_name: str,
    tracker_base: str,
    function: str,
    constants: dict[str, Any] | None = None,
    report: str | None = None,
    metric: str | None = None,
    python: str | None = None,
    num_replicas: int = 1,
    cpu: int = 1,
    gpu: int = 0,
    memMB: int | None = None,
    named_resource: str | None = None,
    image: str | None = None,
    env: dict[str, str] | None = None,
    mounts: list[str] | None = None,
    **parameters: Any,
) -> AppDef:
    """Call a Python function for each trial, in a process of its own; the component of @task.ax_optimize.

    Args:
        trial_idx: passed by the provider
        experiment_name: passed by the provider
        tracker_base: passed by the provider
        function: its source or its module, packed
        constants: arguments that are not tuned
        report: the argument that gets what reports progress
        metric: name of a number that the function returns
        python: see axtx.script
        num_replicas: number of copies
        cpu: cores for each replica
        gpu: GPUs for each replica
        memMB: memory for each replica in MB; None leaves it to the scheduler
        named_resource: see axtx.command
        image: image for schedulers that use one
        env: environment variables
        mounts: see axtx.command
        parameters: the experiment's parameters
    """
    call = {
        "function": unpacked(function),
        "arguments": {**(constants or {}), **parameters},
        "report": report,
        "metric": metric,
        "tracker_base": tracker_base,
        "trial_idx": trial_idx,
    }
    runner = Path(function_runner.__file__).read_text()
    role = _role("function", [python or _python(image), "-c", runner, packed(call)], image, env, mounts)
    role.num_replicas = num_replicas
    role.resource = _resource(cpu, gpu, memMB, named_resource)
    return AppDef("function", [role])


#: By reference. What they return is verbatim: a ``$`` in a value or in the command is doubled already.
SHIPPED: Mapping[str, Callable[..., AppDef]] = {
    shipped.COMMAND: command,
    shipped.SCRIPT: script,
    shipped.FUNCTION: function,
    shipped.DDP: ddp,
}


def _values(
    parameters: Mapping[str, ParameterValue], trial_idx: int, experiment_name: str, tracker_base: str, checkpoint: str
) -> dict[str, str]:
    """Return the text of every placeholder."""
    builtin = {"trial_idx": str(trial_idx), "experiment_name": experiment_name, "tracker_base": tracker_base}
    builtin |= {"checkpoint_dir": checkpoint, "replica_id": _REPLICA}
    return {**{name: value_text(value) for name, value in parameters.items()}, **builtin}


def _in_folder(words: list[str], cwd: str | None, values: Mapping[str, str]) -> list[str]:
    return words if cwd is None else ["sh", "-c", _CHANGE_FOLDER, filled(cwd, values), *words]


def _role(
    name: str, words: list[str], image: str | None, env: Mapping[str, str] | None, mounts: list[str] | None
) -> specs.Role:
    entrypoint, *arguments = words  # TorchX replaces nothing in the entrypoint
    return specs.Role(
        name=name,
        image=image or torchx.IMAGE,
        entrypoint=entrypoint,
        args=list(map(_verbatim, arguments)),
        env={key: _verbatim(value) for key, value in (env or {}).items()},
        mounts=specs.parse_mounts(mounts) if mounts else [],
    )


def _verbatim(text: str) -> str:
    """Return a text that TorchX, which replaces macros such as ``${app_id}``, leaves as it is."""
    return text.replace("$", "$$").replace(_REPLICA, macros.replica_id)


def _resource(cpu: int, gpu: int, memMB: int | None, named_resource: str | None) -> specs.Resource:
    if named_resource is not None:
        return specs.resource(h=named_resource)
    return specs.Resource(cpu=cpu, gpu=gpu, memMB=-1 if memMB is None else memMB)


def _python(image: str | None) -> str:
    return sys.executable if image is None else "python"


def _script_file(script: str, image: str | None) -> str:
    """Return the path of a script; without an image a relative one is found where component files are found."""
    if image is not None or Path(script).is_absolute():
        return script
    for folder in (Path(), *map(Path, sys.path)):
        if (folder / script).is_file():
            return os.path.abspath(folder / script)  # noqa: PTH100 - resolve() would follow links
    raise FileNotFoundError(
        f"there is no file {script} in the working directory or the folders of sys.path (a file of an image needs the "
        "argument image)"
    )
