"""Read and check settings: the keys of ``host.data`` that begin with ``chaos_``.

A settings model is a pydantic model. Its fields lack the prefix ``chaos_``. For example, users set
the field ``docker_log_max_size`` by the key ``chaos_docker_log_max_size`` in the inventory, in
group data or by ``--data``. The model of a role inherits from the models of its concerns. So a role
can pass its settings to each concern.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pyinfra.api.exceptions import PyinfraError
from typing_extensions import Self

from chaos_engine.facts.observe import current
from chaos_engine.facts.observe.host import PREFIX
from chaos_engine.operations.engine import arguments

if TYPE_CHECKING:
    from pyinfra.api.host import Host

S = TypeVar("S", bound="Settings")

_ABSENT = object()


class SettingsError(PyinfraError):
    """One or several mistakes in settings, in the inventory or in files on this computer.

    The error stops the run before any change. Its message has a line for each mistake, with the
    host or group, the key, the value and what to do.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self.set_lines(*lines)

    def set_lines(self, *lines: str) -> None:
        """Replace the lines of the message.

        This lets one error collect the lines of all hosts of a run.
        """
        self.lines = lines
        self.args = ("\n    ".join(lines),)


class InvalidSettings(SettingsError, ValueError):
    """Wrong values in a settings model. The attribute `mistakes` is the error from pydantic."""

    def __init__(self, *lines: str, mistakes: ValidationError) -> None:
        super().__init__(*lines)
        self.mistakes = mistakes


@contextmanager
def collecting(found: list[str]) -> Iterator[None]:
    """Catch a `SettingsError`, and append its lines to a list.

    + found: the list

    The caller collects the lines of several checks, and then raises one `SettingsError` with all
    lines.
    """
    try:
        yield
    except SettingsError as error:
        found += [line for line in error.lines if line not in found]


def merge_lines(mistakes: Mapping[str, Sequence[str]]) -> list[str]:
    """Merge the lines of several hosts, so that equal lines appear once. This is a pure function.

    + mistakes: lines by host name. Lines count as equal if they differ only in the host's name at
      the beginning

    **Example:** ``merge_lines({"pi1": ["pi1: no key"], "pi2": ["pi2: no key"]})`` is
    ``["pi1 and 1 more: no key"]``
    """
    hosts: dict[tuple[bool, str], list[str]] = {}
    for host, lines in mistakes.items():
        for line in lines:
            named = line.startswith((f"{host}:", f"{host},"))
            hosts.setdefault((named, line.removeprefix(host) if named else line), []).append(host)
    return [
        f"{first}{f' and {len(others)} more' if others else ''}{rest}" if named else rest
        for (named, rest), (first, *others) in hosts.items()
    ]


class Settings(BaseModel):
    """The base class of all settings models.

    Every field has a description. Messages and the table in docs/settings.md show the description.
    """

    # With defer_build, pydantic builds a model only when it is used. A run uses the models of
    # roles. They inherit from the models of concerns, which then need not be built
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each conflict between values that are valid by themselves.

        The base class has no conflicts. If a subclass overrides this method, the new method has to
        yield the messages of ``super().conflicts()`` too.
        """
        yield from ()

    @model_validator(mode="after")
    def _values_go_together(self) -> Self:
        if found := list(dict.fromkeys(self.conflicts())):
            raise ValueError("\n".join(found))
        return self

    if not TYPE_CHECKING:  # type checkers know the fields

        def __init__(self, **fields: Any) -> None:
            """Check the values. Raise `InvalidSettings` if a value is wrong.

            pydantic's own error is not raised, because pyinfra would print a traceback for it.
            """
            try:
                super().__init__(**fields)
            except ValidationError as error:
                lines = describe(type(self), error, lambda name: f"{type(self).__name__}: {name}")
                raise InvalidSettings(*lines, mistakes=error) from None

    @classmethod
    def resolve(cls: type[S], given: Mapping[str, Any] | None = None, by: str = "") -> S:
        """Return the current host's settings: those in `given`, and all others from ``host.data``.

        + given: values by field name
        + by: the name of the deploy whose call gave the values in `given`. Messages name this
          deploy

        Raises `SettingsError` for a wrong value, for a ``chaos_`` key that no model has, and for a
        name in `given` that this model does not have.
        """
        host, given = current()[1], dict(given or {})
        lines = list(wrong_names(host))
        for name in given.keys() - cls.model_fields.keys():
            hint = did_you_mean(name, cls.model_fields)
            lines.append(f"{host.name}: {by} has no setting {name}{hint}")
            del given[name]
        # None is passed on and refused, because the user may have meant an empty list. Each value
        # is read once, because pyinfra copies a value at each access
        values = ((name, getattr(host.data, PREFIX + name, _ABSENT)) for name in cls.model_fields)
        found = {name: value for name, value in values if value is not _ABSENT}

        def where(name: str) -> str:
            if name in given:
                return f"{host.name}, call of {by}: {name}"
            return f"{origin(host, PREFIX + name)}: {PREFIX}{name}"

        try:
            settings = cls(**{**found, **given})
        except InvalidSettings as error:
            lines += describe(cls, error.mistakes, where, host.name)
        if lines:
            raise SettingsError(*lines)
        return settings


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" with the most similar known name, "" if none is similar."""
    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def describe(
    model: type[Settings],
    error: ValidationError,
    where: Callable[[str], str],
    host: str = "",
) -> Iterator[str]:
    """Yield a message for each mistake. The message names the key and says what is wrong.

    The message also says where the value comes from, and what is wanted.

    + model: the model whose values were checked
    + error: the error from pydantic
    + where: function that takes a field's name, and returns the source and the key of the value
    + host: the host's name, "" if the settings are not for a host
    """
    for mistake in error.errors(include_url=False, include_context=False):
        message = mistake["msg"].removeprefix("Value error, ")
        if not mistake["loc"]:
            yield from (f"{host or model.__name__}: {line}" for line in message.split("\n"))
            continue
        name = str(mistake["loc"][0])
        if name not in model.model_fields:
            hint = did_you_mean(name, model.model_fields)
            yield f"{model.__name__} has no setting {name}{hint}"
            continue
        place, wanted = where(name), model.model_fields[name].description
        within = "".join(f"[{part!r}]" for part in mistake["loc"][1:] if part != "[key]")
        if mistake["type"] == "missing" and host and not within:
            yield (
                f"{host}: {PREFIX}{name} is not set; set it in the inventory or in group_data/; "
                f"wanted: {wanted}"
            )
        elif mistake["type"] == "missing":
            yield f"{place}{within} is missing; wanted: {wanted}"
        else:
            message = _WORDS.get(mistake["type"], message)
            if mistake["input"] is None:
                message = "None is not a value"
                if not model.model_fields[name].is_required():
                    message += "; remove the key to use the default"
            yield f"{place}{within} = {shown(mistake['input'])}: {message}; wanted: {wanted}"


_WORDS = {
    "string_type": "it has to be text, in quotes",
    "tuple_type": 'it has to be a list, such as ["a", "b"], even for one element',
    "dict_type": 'it has to be a dict, such as {"a": "b"}',
    "model_type": 'it has to be a dict, such as {"a": "b"}',
    "int_type": "it has to be a whole number",
    "int_parsing": "it has to be a whole number",
    "int_from_float": "it has to be a whole number",
    "float_type": "it has to be a number",
    "float_parsing": "it has to be a number",
    "bool_type": "it has to be True or False",
    "bool_parsing": "it has to be True or False",
    "too_short": "it is empty",
    "extra_forbidden": "there is no such key",
}
"""Messages for pydantic's error types. pydantic's own messages name Python types."""


def shown(value: object) -> str:
    """Return a value as text to print: at most 120 characters, and never a private key."""
    if "PRIVATE KEY" in repr(value):
        return "(a private key, not shown)"
    return arguments.shown(value, 120)


def origin(host: Host, key: str) -> str:
    """Return a host's name and the source of one of its settings, such as "pi1, group workers".

    + key: the setting's key in ``host.data``
    """
    source = next((source for source, data in _sources(host) if key in data), "default")
    return f"{host.name}, {source}"


def _sources(host: Host) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each source of a host's data with its values. A source overrides all later sources."""
    inventory: Any = host.inventory
    yield "--data", inventory.get_override_data()
    yield "inventory", inventory.get_host_data(host.name)
    for group in reversed(list(host.groups)):  # pyinfra lets the last group win
        yield f"group {group}", inventory.get_group_data(group)
    yield "group all", inventory.get_data()


def wrong_names(host: Host) -> Iterator[str]:
    """Yield a message for each wrong name in a host's data.

    Wrong names are:

    + a key that begins with ``chaos_``, but belongs to no settings model
    + a key in which ``chaos_`` is misspelt
    + a group that has settings but no hosts, if another group has hosts and a similar name
    """
    inventory: Any = host.inventory
    for key in sorted({key for _, data in _sources(host) for key in data}):
        if problem := key_problem(key, known_keys()):
            yield f"{origin(host, key)}: {problem}"
    members = {name for name, hosts in inventory.groups.items() if hosts}
    for name in sorted({*inventory.group_data} - members - {"all"}):
        near = difflib.get_close_matches(name.lower(), members, 1, 0.8)
        if near and any(key.startswith(PREFIX) for key in inventory.get_group_data(name)):
            yield (
                f"group {name}: the group has settings, but no hosts; did you mean "
                f"group_data/{near[0]}.py?"
            )


def key_problem(key: str, known: Collection[str]) -> str:
    """Return what is wrong with a key of host data. This is a pure function.

    + known: the keys of all settings

    Returns "" if the key is right, or if it does not look like a setting of this package.
    """
    if key in known:
        return ""
    head, _, rest = key.lower().replace("-", "_").partition("_")
    ours = key.startswith(PREFIX)
    if not ours and not difflib.get_close_matches(head, [PREFIX.rstrip("_")], 1, 0.6):
        return ""
    names = sorted(name.removeprefix(PREFIX) for name in known)
    near = difflib.get_close_matches(rest, names, 1, 0.5 if ours else 0.9)
    if not ours and not near:
        return ""
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/settings.md lists all settings"
    return f"{key} is no setting; {hint}"


@cache
def known_keys() -> frozenset[str]:
    """Return the keys of all settings models, including the models of other packages."""
    return frozenset(PREFIX + name for model in _below(Settings) for name in model.model_fields)


def _below(model: type[Settings]) -> Iterator[type[Settings]]:
    """Yield all direct and indirect subclasses of a settings model.

    A class that inherits from the model by several paths is yielded several times. No model of
    this package is missed: importing this module imports the package `deploys`, which imports
    every deploy.
    """
    for child in model.__subclasses__():
        yield child
        yield from _below(child)


def read_setting(key: str, path: Path, fix: str) -> bytes:
    """Return the content of a file that a setting needs. The file is on this computer.

    + key: beginning of the error message: the host's name, the setting's name, or both
    + path: path of the file, as `local_path` returns it
    + fix: end of the error message: what to do if the file cannot be read

    Raises `SettingsError` if the file cannot be read or is larger than 1 MiB.
    """
    try:
        return read_file(path)
    except FileNotFoundError:
        problem = "there is no such file"
    except IsADirectoryError:
        problem = "that is a folder, not a file"
    except OSError as error:
        problem = f"it cannot be read: {error.strerror or error}"
    raise SettingsError(f"{key}: {path}: {problem}; {fix}")


def read_file(path: Path, limit: int = 1 << 20) -> bytes:
    """Return the content of a file on this computer.

    + path: path of the file, as `local_path` returns it
    + limit: largest size in bytes, 1 MiB by default. Certificates, keys and lists of checksums have
      only a few thousand bytes

    Raises ``OSError`` if the file cannot be read or is larger than the limit. The limit is for a
    wrong path in a setting: without a limit, a run could load a large file into memory, and send
    the file to nodes.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit} bytes"
        raise OSError(f"it is larger than {size}")
    return data


def local_path(path: str | Path) -> Path:
    """Return a path on this computer, resolved against the folder in which pyinfra runs.

    + path: absolute path, or path relative to that folder
    """
    return Path(current()[0].cwd or ".") / path
