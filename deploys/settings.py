"""Settings: typed, checked, flat keys of ``host.data`` that begin with ``chaos_``.

A concern's model declares the field ``docker_log_max_size`` and its users write
``chaos_docker_log_max_size`` in their inventory, group data or ``--data``. A role's model inherits
from the models of its concerns, so one object is resolved once and handed down to all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pyinfra.api.exceptions import PyinfraError

from chaos_engine.facts.observe import current
from chaos_engine.facts.observe.host import PREFIX
from chaos_engine.operations.engine import arguments

if TYPE_CHECKING:
    from pyinfra.api.host import Host

S = TypeVar("S", bound="Settings")


class SettingsError(PyinfraError):
    """A setting, the inventory or a file on this computer is wrong: the run stops before any
    change. Each of its lines names host or group, key, value and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self.say(*lines)

    def say(self, *lines: str) -> None:
        """Have it tell these lines and no others: hosts share one error."""
        self.lines = lines
        self.args = ("\n    ".join(lines),)


class InvalidSettings(SettingsError, ValueError):
    """A model was made with values that do not fit: with these `mistakes`."""

    def __init__(self, *lines: str, mistakes: ValidationError) -> None:
        super().__init__(*lines)
        self.mistakes = mistakes


@contextmanager
def collecting(found: list[str]) -> Iterator[None]:
    """Add the lines of a `SettingsError` to a list and go on, for the next mistake to be found too.

    + found: the list. If it has any in the end, the caller raises a `SettingsError` with all
    """
    try:
        yield
    except SettingsError as error:
        found += [line for line in error.lines if line not in found]


def together(mistakes: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines about several hosts, each once: a pure function.

    + mistakes: lines by host, most of which begin with its name

    **Example:** ``together({"pi1": ["pi1: no key"], "pi2": ["pi2: no key"]})`` is
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
    """Base of all settings models. Every field has a description: the README's table is made of
    them."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    if not TYPE_CHECKING:  # type checkers know the fields

        def __init__(self, **fields: Any) -> None:
            """Check the values. Raises `InvalidSettings`: pydantic's own is a traceback."""
            try:
                super().__init__(**fields)
            except ValidationError as error:
                lines = describe(type(self), error, lambda name: f"{type(self).__name__}: {name}")
                raise InvalidSettings(*lines, mistakes=error) from None

    @classmethod
    def like(cls, name: str) -> str:
        """The end of a message about a name that no field has: the one that may be meant."""
        near = difflib.get_close_matches(name.removeprefix(PREFIX), cls.model_fields, 1, 0.5)
        return f"; did you mean {near[0]}?" if near else ""

    @classmethod
    def resolve(cls: type[S], given: Mapping[str, Any] | None = None, by: str = "") -> S:
        """The current host's settings: those that are given, the others from its data.

        + given: values by the names of fields
        + by: the deploy that was called with them

        Raises `SettingsError` for a value that does not fit, for a ``chaos_`` key that no model
        knows, and for a given name that this one does not have.
        """
        host, given = current()[1], dict(given or {})
        lines = list(misnamed(host))
        for name in given.keys() - cls.model_fields.keys():
            lines.append(f"{host.name}: {by} has no setting {name}{cls.like(name)}")
            del given[name]
        # None too: who takes it for an empty list is told, and not given the default
        found = {
            name: getattr(host.data, PREFIX + name)
            for name in cls.model_fields
            if hasattr(host.data, PREFIX + name)
        }

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


def describe(
    model: type[Settings],
    error: ValidationError,
    where: Callable[[str], str],
    host: str = "",
) -> Iterator[str]:
    """One line a mistake: where the value comes from, the key, the value, what is wrong and what
    is wanted.

    + where: says of a field's name where its value comes from, and how it is called there
    + host: the host's name, "" if it is for none
    """
    for mistake in error.errors(include_url=False, include_context=False):
        message = mistake["msg"].removeprefix("Value error, ")
        if not mistake["loc"]:
            yield f"{host or model.__name__}: {message}"
            continue
        name = str(mistake["loc"][0])
        if name not in model.model_fields:
            yield f"{model.__name__} has no setting {name}{model.like(name)}"
            continue
        place, wanted = where(name), model.model_fields[name].description
        within = "".join(f"[{part!r}]" for part in mistake["loc"][1:] if part != "[key]")
        if mistake["type"] == "missing" and within:
            yield f"{place}{within} is missing; wanted: {wanted}"
        elif mistake["type"] == "missing" and host:
            yield f"{host}: {PREFIX}{name} is not set; put it into group_data/: {wanted}"
        elif mistake["type"] == "missing":
            yield f"{place} is missing; wanted: {wanted}"
        else:
            message = _WORDS.get(mistake["type"], message)
            if mistake["input"] is None:
                message = "None is no value"
                if not model.model_fields[name].is_required():
                    message += "; leave the key out to have the default"
            yield f"{place}{within} = {shown(mistake['input'])}: {message}; wanted: {wanted}"


# What pydantic says in terms of Python's types
_WORDS = {
    "string_type": "it has to be text, in quotes",
    "tuple_type": 'it has to be a list, as ["a", "b"], also if it has one element',
    "dict_type": 'it has to be a dict, as {"a": "b"}',
    "model_type": 'it has to be a dict, as {"a": "b"}',
    "int_type": "it has to be a whole number",
    "int_parsing": "it has to be a whole number",
    "int_from_float": "it has to be a whole number",
    "bool_type": "it has to be True or False",
    "bool_parsing": "it has to be True or False",
    "too_short": "it is empty",
    "extra_forbidden": "there is no such key",
}


def shown(value: object) -> str:
    """A value as it may be printed: short, and not if somebody took a key for its path."""
    if "PRIVATE KEY" in repr(value):
        return "(a private key, not shown)"
    return arguments.shown(value, 120)


def origin(host: Host, key: str) -> str:
    """Where `key` has its value from, as its owner would look for it."""
    inventory: Any = host.inventory
    if key in inventory.get_override_data():
        return f"{host.name}, --data"
    if key in inventory.get_host_data(host.name):
        return f"{host.name}, inventory"
    for group in reversed(list(host.groups)):  # the last one holds
        if key in inventory.get_group_data(group):
            return f"{host.name}, group {group}"
    if key in inventory.get_data():
        return f"{host.name}, group all"
    return f"{host.name}, default"


def misnamed(host: Host) -> Iterator[str]:
    """What is wrong with names in a host's data.

    That is a ``chaos_`` key that no settings model of the package has, a misspelt ``chaos_``, or
    group data of a misspelt group, which nobody would get.
    """
    inventory: Any = host.inventory
    layers: list[Mapping[str, Any]] = [
        inventory.get_override_data(),
        inventory.get_host_data(host.name),
        inventory.get_groups_data(host.groups),
        inventory.get_data(),
    ]
    for key in sorted({key for layer in layers for key in layer}):
        if problem := misspelt(key, known_keys()):
            yield f"{origin(host, key)}: {problem}"
    members = {name for name, hosts in inventory.groups.items() if hosts}
    for name in sorted({*inventory.group_data} - members - {"all"}):
        near = difflib.get_close_matches(name.lower(), members, 1, 0.8)
        if near and any(key.startswith(PREFIX) for key in inventory.get_group_data(name)):
            yield (
                f"group {name}: no host is in it, so nobody gets its settings; did you mean "
                f"group_data/{near[0]}.py?"
            )


def misspelt(key: str, known: Collection[str]) -> str:
    """What is wrong with a key of host data, "" if it is known or not ours: a pure function."""
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
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "README.md lists the settings"
    return f"{key} is no setting; {hint}"


@cache
def known_keys() -> frozenset[str]:
    """All keys that some settings model has, those of other packages' concerns too."""
    return frozenset(PREFIX + name for model in _models() for name in model.model_fields)


def all_models() -> list[type[Settings]]:
    """Every settings model of this package, in the order of their modules."""
    return [model for model in _models() if model.__module__.startswith("chaos_engine.")]


def _models() -> list[type[Settings]]:
    # They are all there: to import this module is to import the package first, with all deploys
    def below(model: type[Settings]) -> Iterator[type[Settings]]:
        for child in model.__subclasses__():
            yield child
            yield from below(child)

    return list(dict.fromkeys(below(Settings)))


def read_file(path: Path, limit: int = 1 << 20) -> bytes:
    """Return the content of a file on this computer.

    + path: as `controller_path` gives it
    + limit: how many bytes it may have; a certificate, key or list of checksums has a few thousand

    Raises ``OSError`` if it cannot be read or is larger: it is not what it is taken for, and would
    be held in memory, and sent to nodes. `unread` says so.

    **Example:** ``read_file(controller_path("files/ca.crt"))``
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit} bytes"
        raise OSError(f"it is larger than {size}")
    return data


def unread(error: OSError) -> str:
    """Why a file on this computer could not be read, for a message that goes on with the mend."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "that is a directory, not a file"
    return f"it cannot be read: {error.strerror or error}"


def controller_path(path: str | Path) -> Path:
    """A file on this computer, relative to the directory that pyinfra runs in, as pyinfra's own
    operations take it."""
    return Path(current()[0].cwd or ".") / path
