"""Resolving, checking and calling components."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torchx import specs

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.components import check_component, load_component

if TYPE_CHECKING:
    from decimal import Decimal

SOURCE = """
from __future__ import annotations
from torchx import specs

logger = validate = None

def trainer(x: float, epochs: int | None = None) -> specs.AppDef:
    return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="true", args=[str(x), str(epochs)])])

def untyped(x):
    return specs.AppDef("t", [])

text = "not a function"
"""


def app(*args: str, **role: Any) -> specs.AppDef:
    return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="true", args=list(args), **role)])


def component(
    x: float, choice: str, trial_idx: int, tracker_base: str, experiment_name: str, n: int = 1
) -> specs.AppDef:
    return app(str(x), choice, str(trial_idx), tracker_base, experiment_name, str(n))


def build(reference: object, parameters: dict[str, Any], component_args: Any = None) -> specs.AppDef:
    return load_component(reference).build(
        parameters, component_args, trial_index=7, experiment="digits", tracker_base="/trackers/a"
    )


def args(reference: object, parameters: dict[str, Any], component_args: Any = None) -> list[str]:
    return list(build(reference, parameters, component_args).roles[0].args)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "my_components.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop("my_components", None)


# -- seed semantics of Ax's TorchXRunner -----------------------------------------------------------------------------


def test_declared_reserved_arguments_and_constants_arrive() -> None:
    assert args(component, {"x": 0.5, "choice": "adam"}, {"n": 3}) == [
        "0.5",
        "adam",
        "7",
        "/trackers/a",
        "digits",
        "3",
    ]


def test_reserved_arguments_are_not_passed_where_they_are_not_declared() -> None:
    def plain(x: float) -> specs.AppDef:
        return app(str(x))

    assert args(plain, {"x": 1.0}) == ["1.0"]


def test_keyword_only_reserved_argument_is_passed() -> None:
    def keyword(*, x: float, trial_idx: int) -> specs.AppDef:
        return app(str(x), str(trial_idx))

    assert args(keyword, {"x": 1.0}) == ["1.0", "7"]


def test_an_untyped_function_is_good_enough_when_it_is_passed_itself() -> None:
    def untyped(x, y=2):  # type: ignore[no-untyped-def]
        return app(str(x), str(y))

    assert args(untyped, {"x": "a"}) == ["a", "2"]


def test_an_int_is_a_float() -> None:
    def plain(x: float) -> specs.AppDef:
        return app(str(x))

    assert args(plain, {"x": 3}) == ["3"]


def test_annotations_that_exist_for_type_checkers_only_are_not_checked() -> None:
    def typed(x: float, d: Decimal | None = None) -> specs.AppDef:
        return app(str(x))

    assert args(typed, {"x": 1.0}, {"d": "anything"}) == ["1.0"]
    with pytest.raises(InvalidInputError, match="x must be float"):
        build(typed, {"x": "no"})


def test_none_is_accepted_where_it_is_the_default() -> None:
    def implicit(x: float, name: str = None) -> specs.AppDef:  # type: ignore[assignment]  # noqa: RUF013
        return app(str(x), str(name))

    assert args(implicit, {"x": 1.0}, {"name": None}) == ["1.0", "None"]


def test_keyword_arguments_without_a_name_take_any_name() -> None:
    def anything(x: float, **rest: int) -> specs.AppDef:
        return app(str(x), str(sorted(rest.items())))

    assert args(anything, {"x": 1.0, "y": 2}, {"z": 3}) == ["1.0", "[('y', 2), ('z', 3)]"]


def test_positional_arguments_come_as_a_list() -> None:
    def many(x: float, n: int = 4, *rest: str, tracker_base: str) -> specs.AppDef:
        return app(str(x), str(n), *rest, tracker_base)

    assert args(many, {"x": 1.0}, {"rest": ["a", "b"]}) == ["1.0", "4", "a", "b", "/trackers/a"]
    assert args("utils.sh", {}, {"args": ["echo", "hi"]}) == ["-c", "echo hi"]


def test_a_partial_is_a_component() -> None:
    assert args(functools.partial(component, n=9), {"x": 0.5, "choice": "a"})[-1] == "9"


def test_constants_are_copied_for_each_trial() -> None:
    constants = {"args": ["true"], "env": {"A": "b"}}
    build("utils.sh", {}, constants)
    assert constants == {"args": ["true"], "env": {"A": "b"}}


def test_the_app_is_a_copy_even_if_the_component_returns_the_same_object() -> None:
    shared = app("a")

    def same() -> specs.AppDef:
        return shared

    build(same, {}).name = "changed"
    assert shared.name == "t"


def test_dollars_are_escaped_in_parameters_and_kept_in_constants() -> None:
    def two(choice: str, macro: str) -> specs.AppDef:
        return app(choice, macro)

    assert args(two, {"choice": "${app_id} $5"}, {"macro": "${app_id}"}) == ["$${app_id} $$5", "${app_id}"]


def test_component_sees_the_value_as_it_is() -> None:
    rates = {"US$": "1", "$$": "2", "${app_id}": "3"}

    def priced(currency: str) -> specs.AppDef:
        return app(rates[currency], currency, f"--currency={currency}", "${replica_id}")

    for currency, rate in rates.items():
        role = build(priced, {"currency": currency}).roles[0]
        values = specs.macros.Values(img_root="", app_id="ID", replica_id="7", rank0_env="")
        assert values.apply(role).args == [rate, currency, f"--currency={currency}", "7"]


@pytest.mark.parametrize(
    "value", ["$", "a$", "$$", "$$$", "${app_id}", "$app_id", "x${replica_id}y", "${unknown}", "$ {app_id}"]
)
def test_value_arrives_in_arguments_environment_and_metadata(value: str) -> None:
    def everywhere(value: str) -> specs.AppDef:
        made = app(value, f"[{value}]", f"{value}/${{app_id}}")
        made.roles[0].env = {"VALUE": value}
        made.roles[0].metadata = {"nested": {"value": [value]}}
        return made

    values = specs.macros.Values(img_root="", app_id="ID", replica_id="7", rank0_env="")
    role = values.apply(build(everywhere, {"value": value}).roles[0])
    expected = f"{value}/{value if value == '${app_id}' else 'ID'}"
    assert role.args == [value, f"[{value}]", expected]
    assert (role.env["VALUE"], role.metadata["nested"]["value"]) == (value, [value])


# -- references ------------------------------------------------------------------------------------------------------


def test_registered_name() -> None:
    assert "--x1" in args("utils.booth", {"x1": 1.0, "x2": 3.0})


@pytest.mark.parametrize("form", ["{file}:trainer", "my_components.py:trainer", "my_components:trainer"])
def test_file_and_import_path(source: Path, form: str) -> None:
    assert args(form.format(file=source), {"x": 0.25}, {"epochs": 2}) == ["0.25", "2"]


def test_relative_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    assert args("sub/../sub/c.py:trainer", {"x": 0.25}) == ["0.25", "None"]


def test_a_file_may_use_names_of_torchx_finder(source: Path) -> None:
    assert args(f"{source}:trainer", {"x": 0.25})
    assert "--x1" in args("utils.booth", {"x1": 1.0, "x2": 3.0})


def test_allowed_components(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for reference, allowed in (
        ("utils.booth", ["utils.*"]),
        (f"{source}:trainer", [f"{tmp_path}/*"]),
        ("my_components.py:trainer", [f"{tmp_path}/*:trainer"]),
        ("./my_components.py:trainer", ["my_components.py:*"]),
        ("my_components.py:trainer", ["./my_components.py:*"]),
        ("my_components:trainer", ["my_components:*"]),
        (component, []),
    ):
        load_component(reference, allowed)
    for reference, allowed in (
        ("utils.booth", []),
        ("utils.booth", ["dist.*"]),
        (f"{tmp_path}/allowed/../my_components.py:trainer", [f"{tmp_path}/allowed/*"]),
        ("my_components:trainer", ["my_components.py:*"]),
        ("os:system", ["my_components:*"]),
    ):
        with pytest.raises(InvalidInputError, match=r"is not allowed \(allowed_components: "):
            load_component(reference, allowed)


@pytest.mark.parametrize(
    ("reference", "allowed"),
    [
        # A registered name is no module and no file of that name.
        ("utils.x:trainer", ["utils.*"]),
        ("utils.py:trainer", ["utils.*"]),
        ("utils/x.py:trainer", ["utils*"]),
        ("my_components:trainer", ["my*"]),
        ("my_components.py:trainer", ["my*"]),
        ("my_components.py:trainer", ["my*:trainer"]),
        ("my_components:trainer", ["*.py:trainer"]),
        ("my_components:trainer", ["*"]),
        # What runs anything has to be named.
        ("utils.sh", ["utils.*"]),
        ("utils.python", ["utils.*"]),
        ("utils.binary", ["*"]),
        ("dist.ddp", ["dist.*"]),
        # What a module has only imported is not its own.
        ("my_components:sh", ["my_components:*"]),
        ("my_components.py:sh", ["my_components.py:*"]),
        ("my_components:booth_with_more", ["my_components:*"]),
    ],
)
def test_pattern_of_another_kind_allows_nothing(
    source: Path, monkeypatch: pytest.MonkeyPatch, reference: str, allowed: list[str]
) -> None:
    source.write_text(
        f"{source.read_text()}\nfrom torchx.components.utils import sh, booth\nimport functools\n"
        "booth_with_more = functools.partial(booth, image='x')\n"
    )
    monkeypatch.chdir(source.parent)
    Path("utils").mkdir()
    for file in ("utils.py", "utils/x.py"):
        Path(file).write_text(source.read_text())
    with pytest.raises(InvalidInputError, match=r"is not allowed \(allowed_components: "):
        load_component(reference, allowed)


@pytest.mark.parametrize(
    ("reference", "allowed"),
    [
        ("utils.sh", ["utils.*", "utils.sh"]),
        ("my_components:sh", ["my_components:sh"]),
        ("my_components:sh", ["my_components:*", "torchx.components.utils:sh"]),
        ("my_components.py:sh", ["*.py:sh"]),
        ("my_components.py:trainer", ["*.py"]),
    ],
)
def test_what_is_named_is_allowed(
    source: Path, monkeypatch: pytest.MonkeyPatch, reference: str, allowed: list[str]
) -> None:
    source.write_text(f"{source.read_text()}\nfrom torchx.components.utils import sh\n")
    sys.modules.pop("my_components", None)
    monkeypatch.chdir(source.parent)
    assert load_component(reference, allowed).name == reference


def broken(source: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        file = folder / "broken.py"
        file.write_text(source)
        return f"{file}:f"

    return write


MALFORMED_REFERENCES: list[tuple[Any, str]] = [
    (None, "must be a reference or a function, not None"),
    ("", "must be a reference or a function, not ''"),
    (3, "not 3"),
    ("utils.both", r"no component 'utils.both'.*utils.booth"),
    ("nothing", "no component 'nothing'"),
    (":trainer", "does not name a file or module and a function"),
    ("a.py:", "does not name a file or module and a function"),
    ("my_components:os.system", "does not name a file or module and a function"),
    ("absent.py:f", "no file absent.py in the working directory"),
    ("/absent/a.py:f", "no file /absent/a.py"),
    ("no_such_package.components:f", "no module 'no_such_package'"),
    ("my_components:absent", "has no absent"),
    ("my_components:text", "is not a function under the name text"),
    ("my_components:untyped", "not declared to return an AppDef; its signature declares nothing"),
    ("os:system", "not declared to return an AppDef"),
    ("my_components:specs", "is not a function under the name specs"),
    (broken("def f(:"), "SyntaxError"),
    (broken("import no_such_module_at_all"), "ModuleNotFoundError"),
    (broken("raise SystemExit(3)"), "SystemExit"),
    (broken("def f(x: float) -> int: ..."), "its signature declares int"),
]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(("reference", "message"), MALFORMED_REFERENCES)
def test_malformed_reference(reference: Any, message: str, tmp_path: Path) -> None:
    given = reference(tmp_path) if callable(reference) else reference
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_component(given)
    assert caught.value.fix


# -- what does not fit -----------------------------------------------------------------------------------------------

GOOD = {"x": 0.5, "choice": "adam"}
MISFITS: list[tuple[dict[str, Any], Any, str]] = [
    ({"x": 0.5}, None, r"argument choice \(str\) is missing"),
    ({**GOOD, "y": 1}, None, "y is an experiment parameter, but the component has no such argument"),
    (GOOD, {"epochs": 1}, "epochs is in component_args, but the component has no such argument"),
    ({**GOOD, "x": "0.5"}, None, r"x must be float, the experiment gives '0.5' \(str\)"),
    ({**GOOD, "x": True}, None, r"x must be float, the experiment gives True \(bool\)"),
    ({**GOOD, "choice": 3}, None, r"choice must be str, the experiment gives 3 \(int\)"),
    (GOOD, {"n": "3.5"}, r"n must be int, component_args give '3.5' \(str\)"),
    (GOOD, {"n": {"secret": "s3cr3t"}}, "n must be int, component_args give a dict"),
    (GOOD, {"x": 0.5}, "x is given twice"),
    (GOOD, {"trial_idx": 3}, "trial_idx is passed to every component .* cannot be an entry of component_args"),
    ({**GOOD, "tracker_base": "/a"}, None, "tracker_base is passed .* cannot be an experiment parameter"),
    (GOOD, ["n"], "component_args must be an object of argument names and values, not a list"),
    (GOOD, {1: 2}, "component_args must be an object"),
]


@pytest.mark.parametrize(("parameters", "component_args", "message"), MISFITS)
def test_misfit(parameters: dict[str, Any], component_args: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        build(component, parameters, component_args)
    assert "component_args" in caught.value.fix
    assert "s3cr3t" not in str(caught.value)


def test_one_error_names_everything_and_both_sides() -> None:
    with pytest.raises(InvalidInputError) as caught:
        build(component, {"x": "bad", "y": 1}, {"z": 2})
    said = caught.value.message
    assert "argument choice (str) is missing" in said
    assert "y is an experiment parameter" in said
    assert "z is in component_args" in said
    assert "x must be float" in said
    assert "The experiment gives x: str, y: int; component_args give z: int" in said
    assert "the component takes x: float, choice: str, trial_idx: int" in said


@pytest.mark.parametrize(
    ("value", "message"), [("a", r"\*rest takes a list"), ([1], r"each of \*rest must be str, component_args give 1")]
)
def test_misfit_of_positional_arguments(value: object, message: str) -> None:
    def many(x: float, *rest: str) -> specs.AppDef:
        return app(str(x), *rest)

    with pytest.raises(InvalidInputError, match=message):
        build(many, {"x": 1.0}, {"rest": value})


def test_reserved_argument_of_another_type_is_a_misfit() -> None:
    def odd(trial_idx: str) -> specs.AppDef:
        return app(trial_idx)

    with pytest.raises(InvalidInputError, match=r"trial_idx must be str, it is passed as 7 \(int\)"):
        build(odd, {})


def test_check_needs_no_values() -> None:
    types = {"x": "float", "choice": "str"}
    check_component(component, types, {"n": 2})
    check_component(component, {"x": "int", "choice": "str"})
    for wrong, component_args, message in (
        ({"x": "str", "choice": "str"}, None, "x is a str in the experiment, the component declares float"),
        ({"x": "float", "choice": "bool"}, None, "choice is a bool in the experiment, the component declares str"),
        ({"x": "float"}, None, "choice .* is missing"),
        ({**types, "lr": "float"}, None, "lr is an experiment parameter"),
        (types, {"n": 0.5}, "n must be int"),
        (types, {"x": 1}, "x is given twice"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            check_component(component, wrong, component_args)


# -- what a component returns ----------------------------------------------------------------------------------------


def raises() -> specs.AppDef:
    raise RuntimeError("no image")


def exits() -> specs.AppDef:
    raise SystemExit(2)


def returns_text() -> specs.AppDef:
    return "app"  # type: ignore[return-value]


def returns_nothing() -> specs.AppDef:
    return None  # type: ignore[return-value]


def without_roles() -> specs.AppDef:
    return specs.AppDef("t", [])


def with_a_number() -> specs.AppDef:
    return app("a", 1.5)  # type: ignore[arg-type]


def with_env_number() -> specs.AppDef:
    return app("a", env={"N": 1})


def with_nul() -> specs.AppDef:
    return app("a\0b")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raises, "raised RuntimeError: no image"),
        (exits, "raised SystemExit"),
        (returns_text, "returned str, not an AppDef"),
        (returns_nothing, "returned NoneType, not an AppDef"),
        (without_roles, "without roles"),
        (with_a_number, r"has 1.5 \(float\) in args of role trainer"),
        (with_env_number, r"has 1 \(int\) in env N of role trainer"),
        (with_nul, "NUL character in args"),
    ],
)
def test_component_that_gives_no_app(function: Callable[[], specs.AppDef], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        build(function, {})
    assert function.__name__ in str(caught.value)


def test_file_is_executed_once_for_each_version_of_it(tmp_path: Path) -> None:
    """A definition and each of its trials load the component: what the file does at its import is not repeated."""
    executed, file = tmp_path / "executed", tmp_path / "components.py"
    source = f"""
from torchx import specs
open({str(executed)!r}, "a").write("x")


def app(x: float = 0.0) -> specs.AppDef:
    return specs.AppDef("NAME", [specs.Role("r", "", entrypoint="true")])
"""
    for version, name in enumerate(["first", "second version"], start=1):
        file.write_text(source.replace("NAME", name))
        for _ in range(3):
            assert load_component(f"{file}:app").function().name == name
        assert executed.read_text() == "x" * version
    file.write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="ZeroDivisionError"):
            load_component(f"{file}:app")
