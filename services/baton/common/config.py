"""Settings: a frozen dataclass read once from flags and environment, every problem in one error.

Each field is the flag `--field-name` and the variable `BATON_FIELD_NAME`; the flag wins. Knows no
process: argv and environ come in as arguments. A field is declared with `setting(...)`, whose help
says meaning, unit and why the default is what it is.
"""

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from baton.common.errors import ConfigError

ENVIRONMENT_PREFIX = "BATON_"
SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, slots=True)
class Rule:
    help: str
    at_least: float | None = None
    at_most: float | None = None


def setting(
    meaning: str,
    *,
    default: Any = dataclasses.MISSING,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A settings field; without `default` it must be given. Limits are inclusive."""
    return dataclasses.field(
        default=default, metadata={"rule": Rule(meaning, at_least=at_least, at_most=at_most)}
    )


def read_settings(
    kind: type[SettingsT], argv: Sequence[str], environ: Mapping[str, str], *, program: str
) -> SettingsT:
    """Build `kind` from flags, then environment, then defaults.

    Raises ConfigError with every problem found; exits only for --help (argparse's way).
    """
    fields = dataclasses.fields(typing.cast(Any, kind))
    hints = typing.get_type_hints(kind)
    parser = _parser(kind, fields, program)
    known, unknown = parser.parse_known_args(list(argv))
    problems = [f"unknown argument {argument!r}" for argument in unknown]
    values: dict[str, object] = {}
    for field in fields:
        text = getattr(known, field.name)
        origin = "--" + field.name.replace("_", "-")
        if text is None:
            origin = ENVIRONMENT_PREFIX + field.name.upper()
            text = environ.get(origin)
        if text is None:
            if field.default is dataclasses.MISSING:
                problems.append(f"--{field.name.replace('_', '-')} (or {origin}) is required")
            continue
        try:
            values[field.name] = _checked(_parsed(text, hints[field.name]), field.metadata["rule"])
        except ValueError as error:
            problems.append(f"{origin}={text!r}: {error}")
    if problems:
        raise ConfigError(problems)
    return kind(**values)


def _parser(
    kind: type[object], fields: Sequence[dataclasses.Field[Any]], program: str
) -> argparse.ArgumentParser:
    description = (kind.__doc__ or "").strip()
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    for field in fields:
        rule: Rule = field.metadata["rule"]
        shown = "required" if field.default is dataclasses.MISSING else f"default {field.default}"
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            dest=field.name,
            metavar="VALUE",
            help=f"{rule.help} ({shown})".replace("%", "%%"),
        )
    return parser


def _parsed(text: str, hint: Any) -> object:
    """`text` as the annotated type; ValueError says what was expected."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):  # X | None
        (hint,) = [option for option in typing.get_args(hint) if option is not type(None)]
    if typing.get_origin(hint) is tuple:
        (item, _) = typing.get_args(hint)
        return tuple(_parsed(part.strip(), item) for part in text.split(",") if part.strip())
    if hint is bool:
        return _parsed_bool(text)
    if isinstance(hint, type) and issubclass(hint, Enum):
        choices = [str(member.value) for member in hint]
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return hint(text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            kind = "a whole number" if hint is int else "a number"
            raise ValueError(f"must be {kind}") from None
    return Path(text) if hint is Path else text


def _parsed_bool(text: str) -> bool:
    match text.lower():
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no":
            return False
    raise ValueError("must be true or false")


def _checked(value: object, rule: Rule) -> object:
    if isinstance(value, int | float):
        if rule.at_least is not None and not value >= rule.at_least:
            raise ValueError(f"must be at least {rule.at_least}")
        if rule.at_most is not None and not value <= rule.at_most:
            raise ValueError(f"must be at most {rule.at_most}")
    return value
