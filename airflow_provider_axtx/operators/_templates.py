"""How operators render their templates: a value keeps its type, and no text is guessed to be something else."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.sdk import BaseOperator

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import is_templated, shorten

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

_T = TypeVar("_T")


class TypedTemplatesMixin(BaseOperator):
    """Base of all operators.

    In a DAG with ``render_template_as_native_obj=True`` Airflow reads every text as a Python literal, also one that is
    no template: the choice ``"16"`` becomes the number 16, and the name ``"1.10"`` becomes 1.1. Here a text of the DAG
    file stays as it is, and a template gives the value of its expression, or text, which each argument reads as the
    type that it declares. Text that is a list or an object is read as one, as Airflow does.
    """

    #: Arguments that are templates in the DAG file.
    _templated: frozenset[str] = frozenset()

    def note_template(self, field: str, value: object) -> None:
        """Note whether an argument is a template, before Airflow renders it."""
        if is_templated(value):
            self._templated |= {field}

    def came_from_template(self, field: str) -> bool:
        """Return whether the value of an argument is not that of the DAG file.

        A form, an XCom or a Variable may have chosen it: the argument is a template, or is mapped over one.
        """
        return field in self._templated or self._is_mapped_over(field, getattr(self, field))

    def of_dag_file(self, field: str, value: _T) -> _T:
        """Return an argument that only the DAG file may give, since it says what others may name.

        :param value: what the operator was given.
        :raises InvalidInputError: when the operator is mapped over an XCom that gives it.
        """
        if value and self._is_mapped_over(field, value):
            raise InvalidInputError(
                f"{field} of {self.task_id} comes from what the task is mapped over: {shorten(value)}.",
                fix=f"pass {field} to partial(); it says what others may name, so that only the DAG file may give it.",
            )
        return value

    def _is_mapped_over(self, field: str, value: object) -> bool:
        """Return whether an XCom may have given the value of an argument, because the operator is mapped over one."""
        dag = self.get_dag()
        # An operator that was unmapped has got its values already; the DAG has the operator with the templates.
        mapped: Any = dag.task_dict.get(self.task_id) if dag else None
        expanded = getattr(mapped, "expand_input", None)
        if dag is None or expanded is None:
            return False
        group = mapped.task_group.default_args if mapped.task_group else None
        written = {**dag.default_args, **(group or {}), **mapped.partial_kwargs}
        # Compared, because an XCom may replace it: a default, and with expand_kwargs(..., strict=False) every argument.
        if field in written and written[field] == value:
            return False
        given = expanded.value
        items = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        return any(is_templated(item.get(field) if isinstance(item, Mapping) else item) for item in items)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value of a template field; Airflow calls it, for each text in a list or an object too."""
        if not isinstance(content, str) or content.endswith(tuple(self.template_ext)):
            return super().render_template(content, context, jinja_env, seen_oids)
        environment = jinja_env or self.get_template_env()
        if not _holds_template(content, environment):
            return content
        if not self._renders_native():
            return super().render_template(content, context, environment, seen_oids)
        return _native_value(environment.from_string(content), context)

    def _renders_native(self) -> bool:
        # The operator's own setting is younger than Airflow 3.2.
        dag, own = self.get_dag(), getattr(self, "render_template_as_native_obj", None)
        return bool(own if own is not None else dag is not None and dag.render_template_as_native_obj)


def _holds_template(text: str, environment: jinja2.Environment) -> bool:
    marks = (
        environment.variable_start_string,
        environment.block_start_string,
        environment.comment_start_string,
        environment.line_statement_prefix,
        environment.line_comment_prefix,
    )
    return any(mark in text for mark in marks if mark)


def _native_value(template: jinja2.Template, context: Context) -> Any:
    """Return what ``airflow.sdk.definitions.context.render_template`` does, without reading text as a scalar."""
    from jinja2 import Undefined

    environment = template.environment
    names = cast("MutableMapping[str, Any]", copy.copy(context))
    names.update((name, value) for name, value in template.globals.items() if name not in names)
    known: Any = environment.context_class(environment, names, template.name, template.blocks)  # type: ignore[arg-type]
    nodes: list[Any] = list(template.root_render_func(known))
    if len(nodes) == 1 and not isinstance(nodes[0], (str, Undefined)):
        return nodes[0]
    # Of an undefined name this raises, or gives an empty text, as the DAG's template_undefined says.
    text = "".join(str(node) for node in nodes)
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
    return found if isinstance(found, (list, tuple, dict, set)) else text
