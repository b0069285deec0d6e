"""Placeholders in commands."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.command_line import CommandLine, shell_text, split, value_text
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.shipped import check_at_parse, problems

VALUES = {"lr": "1e-05", "depth": "3", "kernel": 'a\'b "$HOME"\n,', "trial_idx": "7"}
FLAGS = ("--lr=1e-05", "--depth=3", f"--kernel={VALUES['kernel']}")
PARAMETERS = ("lr", "depth", "kernel")
X = {"type": "range", "name": "lr", "parameter_type": "float", "bounds": [0.0, 1.0]}
EXPERIMENT = {"name": "e", "parameters": [X, {**X, "name": "depth"}], "objective": "-loss"}


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        (["t", "--lr={lr}", "{depth}", "{kernel}"], ["t", "--lr=1e-05", "3", VALUES["kernel"]]),
        (["t"], ["t", *FLAGS]),
        (["t", "{trial_idx}"], ["t", "7", *FLAGS]),
        (["t", "{flags}", "end"], ["t", *FLAGS, "end"]),
        (["t", "{lr}", "{flags}"], ["t", "1e-05", "--depth=3", f"--kernel={VALUES['kernel']}"]),
        (
            ["awk", "{print $1}", "${HOME}", "\\{lr}", '{"a": 1}', "{flags}"],
            ["awk", "{print $1}", "${HOME}", "{lr}", '{"a": 1}', *FLAGS],
        ),
    ],
)
def test_words_are_filled(words: list[str], filled: list[str]) -> None:
    line = CommandLine(tuple(words))
    assert list(line.problems(PARAMETERS, "command")) == []
    assert line.fill(VALUES, PARAMETERS) == filled


def test_flags_may_be_written_otherwise() -> None:
    assert CommandLine(("t",), "{name}={value}").fill(VALUES, ("lr",)) == ["t", "lr=1e-05"]


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (1, "1"), (0.1, "0.1"), (1e-05, "1e-05"), ("é", "é")])
def test_values_are_written_without_loss(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["{rate}"], "{rate} in command is not a parameter of the experiment"),
        (["{ler}", "{lr}", "{depth}", "{kernel}"], "did you mean {lr}?"),
        (["{lr}"], "depth, kernel would not reach the program"),
        (["{lr:.3f}", "{flags}"], "{lr:.3f} in command has a format"),
        (["--all={flags}"], "{flags} in command has to be a word of its own"),
    ],
)
def test_what_does_not_fit_is_named(words: list[str], problem: str) -> None:
    assert problem in "; ".join(CommandLine(tuple(words)).problems(PARAMETERS, "command"))


@pytest.mark.parametrize("flag", ["--{name}", "--{nam}={value}", "x"])
def test_a_flag_without_its_value_is_refused(flag: str) -> None:
    assert any("flag is" in one for one in CommandLine((), flag).problems(PARAMETERS, "args"))


@pytest.mark.parametrize("text", ["printf %s {kernel}", 'printf %s "{kernel}"', "printf %s \"'{kernel}'\" | tr -d x"])
def test_a_shell_never_reads_a_value(text: str) -> None:
    command, values = shell_text(text, {"kernel": "$(echo x) `id` \"'; exit 3 \\"})
    ran = subprocess.run(["sh", "-c", command, "sh", *values], capture_output=True, text=True, check=True)
    expected = "$(echo x) `id` \"'; exit 3 \\"
    assert ran.stdout == (f"'{expected}'".replace("x", "") if "tr" in text else expected)


HERE = """cat > c.yaml <<EOF
lr: {lr} # don't quote "it"
kernel: '{kernel}'
EOF
cat c.yaml; printf %s {kernel}"""


def test_a_here_document_has_the_value_as_it_is(tmp_path: Path) -> None:
    command, values = shell_text(HERE, {"lr": "0.1", "kernel": "$(echo x) `id` \\"})
    ran = subprocess.run(["sh", "-c", command, "sh", *values], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == ("lr: 0.1 # don't quote \"it\"\nkernel: '$(echo x) `id` \\'\n" + "$(echo x) `id` \\")


@pytest.mark.parametrize("mark", ["'EOF'", '"EOF"', "\\EOF", "-'EOF'"])
def test_a_value_in_a_here_document_without_replacement_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match=r"a shell replaces nothing: write <<EOF"):
        shell_text(f"cat <<{mark}\nlr: {{lr}}\nEOF\n", VALUES)


def test_a_word_given_with_three_signs_is_no_here_document() -> None:
    assert shell_text("cat <<<x\necho {lr}\nx\n", VALUES)[0] == 'cat <<<x\necho "${1}"\nx\n'


def test_a_value_between_single_quotes_is_refused() -> None:
    with pytest.raises(ValueError, match="between single quotes"):
        shell_text("echo '{lr}'", VALUES)


def test_one_text_is_split_without_a_shell() -> None:
    assert split("python t.py '--a b' $HOME") == ("python", "t.py", "--a b", "$HOME")


@pytest.mark.parametrize(
    ("component", "component_args", "problem"),
    [
        ("axtx.command", {}, "command has to be a list of words"),
        ("axtx.command", {"command": "echo 'x"}, "cannot be split"),
        ("axtx.command", {"command": ["x"], "shell": True}, "has to be one text"),
        ("axtx.command", {"command": "x {lr}", "shell": True}, "depth would not reach the program"),
        ("axtx.command", {"command": "x '{lr}' {depth}", "shell": True}, "between single quotes"),
        ("axtx.command", {"command": ["x"], "cpus": 1}, "did you mean cpu?"),
        ("axtx.command", {"command": ["x"], "cwd": "/a/{b}"}, "{b} in cwd is not a parameter"),
        ("axtx.script", {}, "needs either script (a file) or m (a module)"),
        ("axtx.script", {"script": "a.py", "m": "a"}, "needs either script"),
        ("axtx.ddp", {"script": "a.py", "args": "--lr={lr}"}, "args has to be a list"),
        ("axtx.ddp", {"m": "a", "args": ["{rate}"]}, "{rate} in args is not a parameter"),
    ],
)
def test_shipped_components_are_checked_at_parse(component: str, component_args: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match="does not fit") as raised:
        check_at_parse(component, EXPERIMENT, component_args)
    assert problem in str(raised.value)


def test_a_parameter_with_the_name_of_an_argument_is_refused() -> None:
    assert "the parameter env has the name of an argument" in problems("axtx.command", ["env"], {"command": ["x"]})[0]


@pytest.mark.parametrize(
    ("experiment", "component_args"),
    [
        (EXPERIMENT, "{{ params.args }}"),
        (EXPERIMENT, {"command": "{{ params.command }}"}),
        ("{{ params.experiment }}", {"command": ["{nosuch}"]}),
        ({**EXPERIMENT, "parameters": "{{ params.p }}"}, {"command": ["{nosuch}"]}),
    ],
)
def test_templates_wait_for_the_start_of_the_task(experiment: Any, component_args: Any) -> None:
    check_at_parse("axtx.command", experiment, component_args)


def test_other_components_are_not_looked_at() -> None:
    check_at_parse("utils.booth", EXPERIMENT, {"command": 1})
