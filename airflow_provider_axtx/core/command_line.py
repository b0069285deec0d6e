"""The command of a trial as its author writes it: words with placeholders such as ``{lr}`` for the trial's values."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_axtx.core.records import ParameterValue

#: The word that stands for the flags of all parameters that the command does not name.
FLAGS = "{flags}"
#: How a parameter is written as a flag unless the author says otherwise.
DEFAULT_FLAG = "--{name}={value}"
#: Placeholders that are no parameters; ``replica_id`` is known to the scheduler only.
BUILTIN = ("trial_idx", "experiment_name", "tracker_base", "checkpoint_dir", "replica_id")

# ``${HOME}`` belongs to a shell, and ``\{word}`` is how an author writes braces that are meant literally.
_PLACEHOLDER = re.compile(r"\\(?P<literal>\{[^{}]*\})|(?<!\$)\{(?P<name>[^\W\d]\w*)(?P<format>[:!][^{}]*)?\}")

#: A text that a shell gives to a command as its input, up to a line that is the mark.
_HERE_DOCUMENT = re.compile(
    r"(?<!<)<<-?[ \t]*(?P<quoted>['\"\\]?)(?P<mark>[^\W\d]\w*)[^\n]*\n(?P<body>(?:.*\n)*?)\t*(?P=mark)[ \t]*(?:\n|$)"
)


def value_text(value: ParameterValue) -> str:
    """Return how a value is written on a command line: ``true`` and ``false``, and numbers without loss."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def placeholders(text: str) -> list[str]:
    """Return the names of the placeholders in a text, in their order."""
    return [found["name"] for found in _PLACEHOLDER.finditer(text) if found["name"]]


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with the values in place of its placeholders."""
    return _PLACEHOLDER.sub(lambda found: found["literal"] or values[found["name"]], text)


@dataclass(frozen=True)
class CommandLine:
    """Words with placeholders.

    :param words: the words; ``{flags}`` as a word of its own stands for the flags of all parameters that no other word
        names. Without it and without a parameter's placeholder they follow the last word.
    :param flag: how a parameter is written as a flag, with ``{name}`` and ``{value}``.
    """

    words: tuple[str, ...]
    flag: str = DEFAULT_FLAG

    def named(self) -> list[str]:
        """Return the placeholders of all words but ``{flags}``."""
        return [name for word in self.words if word != FLAGS for name in placeholders(word)]

    def fill(self, values: Mapping[str, str], parameters: Collection[str]) -> list[str]:
        """Return the words of one trial.

        :param values: text of each parameter and of each other placeholder.
        :param parameters: names of the parameters.
        """
        named = set(self.named())
        flags = [filled(self.flag, {"name": name, "value": values[name]}) for name in parameters if name not in named]
        words = self.words if FLAGS in self.words or named & set(parameters) else (*self.words, FLAGS)
        return [one for word in words for one in (flags if word == FLAGS else [filled(word, values)])]

    def problems(self, parameters: Collection[str], where: str) -> Iterator[str]:
        """Yield what does not fit the parameters of an experiment.

        :param parameters: their names.
        :param where: the argument that holds the words, for the messages.
        """
        named = self.named()
        yield from _format_problems(self.words, where)
        known = (*parameters, *BUILTIN)
        for name in dict.fromkeys(named):
            if name == FLAGS[1:-1]:
                yield f"{FLAGS} in {where} has to be a word of its own"
            elif name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {{{near[0]}}}? " if near else ""
                yield (
                    f"{{{name}}} in {where} is not a parameter of the experiment ({hint}known: {', '.join(known)}; "
                    f"write \\{{{name}}} for the text itself)"
                )
        left_out = [name for name in parameters if name not in named]
        if left_out and FLAGS not in self.words and set(named) & set(parameters):
            yield (
                f"{', '.join(left_out)} would not reach the program: write {{{left_out[0]}}} in {where}, or the word "
                f"{FLAGS} for the flags of all parameters that it does not name"
            )
        if sorted(placeholders(self.flag)) not in (["value"], ["name", "value"]):
            yield f"flag is {self.flag!r}, and has to contain {{name}} and {{value}} once each, such as {DEFAULT_FLAG}"


def split(text: str) -> tuple[str, ...]:
    """Return the words of a command that is written as one text, as a shell reads it; no shell runs it.

    :raises ValueError: a quotation mark is not closed.
    """
    return tuple(shlex.split(text))


def shell_text(text: str, values: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a shell command whose placeholders are positional parameters of the shell, and the values of these.

    So the shell never reads a value as part of the command. Outside quotation marks the parameter is quoted here, but
    for a here-document, in which quotation marks are text.

    :raises ValueError: a placeholder stands where a shell replaces nothing: between single quotes, or in a
        here-document whose mark is quoted.
    """
    given: list[str] = []
    parts: list[str] = []
    documents = list(_HERE_DOCUMENT.finditer(text))
    quote, at = "", 0
    for found in _PLACEHOLDER.finditer(text):
        before = text[at : found.start()]
        document = next((one for one in documents if one.start("body") <= found.start() < one.end("body")), None)
        quote, at = _open_quote(_outside(documents, text, at, found.start()), quote), found.end()
        parts.append(before)
        if found["literal"]:
            parts.append(found["literal"])
            continue
        if document is not None and document["quoted"]:
            raise ValueError(
                f"{found[0]} stands in a here-document in which a shell replaces nothing: write <<{document['mark']}"
            )
        if quote == "'":
            raise ValueError(f"{found[0]} stands between single quotes, where a shell replaces nothing")
        given.append(values[found["name"]])
        parts.append(f"${{{len(given)}}}" if quote or document else f'"${{{len(given)}}}"')
    return "".join([*parts, text[at:]]), given


def _outside(documents: Iterable[re.Match[str]], text: str, start: int, end: int) -> str:
    """Return the part of a text that stands in no here-document."""
    parts = []
    for document in documents:
        first, last = document.span("body")
        if last > start and first < end:
            parts.append(text[start : max(first, start)])
            start = min(last, end)
    return "".join([*parts, text[start:end]])


def _open_quote(text: str, quote: str) -> str:
    """Return the quotation mark that is open at the end of a text, given the one that is open at its beginning."""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return quote


def _format_problems(texts: Sequence[str], where: str) -> Iterator[str]:
    for text in texts:
        for found in _PLACEHOLDER.finditer(text):
            if found["format"]:
                yield (
                    f"{found[0]} in {where} has a format, but values arrive as they are: write {{{found['name']}}}, "
                    f"or \\{found[0]} for the text itself"
                )
