"""make readme: write the table of docs/settings.md from the settings models.

The table stands between two markers; everything else on the page is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from chaos_engine import deploys
from chaos_engine.deploys.settings import PREFIX, Settings
from chaos_engine.deploys.summary import SummarySettings
from chaos_engine.deploys.worker import WorkerSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
BEGIN = "<!-- settings: written by `make readme` from the settings models -->"
END = "<!-- end of settings -->"

# Roles have the settings of all their concerns
ROLES = ("worker", "proxy")


def concerns() -> dict[str, type[Settings]]:
    """The settings model of each concern."""
    found: dict[str, type[Settings]] = {"any": SummarySettings}
    for name in sorted({*deploys.__all__} - {*ROLES}):
        module = import_module(f"chaos_engine.deploys.{name}")
        found[name] = getattr(module, f"{name.title().replace('_', '')}Settings")
    return found


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield key, default, description, type and concerns of each setting; the shared ones first."""
    users: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    for concern, model in concerns().items():
        for name, field in model.model_fields.items():
            users.setdefault(name, []).append(concern)
            # a concern that only looks at another's setting may have a default of its own
            fields[name] = WorkerSettings.model_fields.get(name, field)
    for name in sorted(fields, key=lambda name: (len(users[name]) == 1, users[name])):
        field = fields[name]
        default = "**required**" if field.is_required() else f"`{_value(field.default)}`"
        yield (
            f"`{PREFIX}{name}`",
            default,
            re.sub(r"https://\S+/\S+", r"`\g<0>`", str(field.description)),
            _type(field.annotation),
            ", ".join(users[name]),
        )


def table() -> str:
    """The table in Markdown."""
    head = ("setting", "default", "what it is", "type", "used by")
    lines = [head, ("---",) * len(head), *rows()]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n"
                   for line in lines)  # fmt: skip


def replaced(text: str) -> str:
    """Return the page's text with the table as it is now.

    Raises `ValueError` without the markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}, once each")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}"


def _type(annotation: Any) -> str:
    """A type as one writes its values in an inventory or in group data."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{_value(value)}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"dict, {_type(arguments[0])} to {_type(arguments[1])}"
    if annotation in (IPv4Address, IPv4Network):
        return "IPv4 address" if annotation is IPv4Address else "IPv4 network"
    if annotation is NoneType:
        return "None"
    return "dict" if issubclass(annotation, BaseModel) else str(annotation.__name__)


def _value(value: Any) -> str:
    """A default as one would write it in Python."""
    return repr(value) if value is None or isinstance(value, bool) else json.dumps(value)


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text()))
