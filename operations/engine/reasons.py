"""Print why an operation changes a node, in a preview and again in the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos_engine.facts.observe import current, of_host
from chaos_engine.facts.text import printable, title_of


@dataclass
class Reasons:
    """The reasons for the changes on a host.

    + given: the current operation's reasons that are not printed yet
    + printed: the reasons printed so far, by the operation's name. ``printed[False]`` has the
      reasons of the preview, ``printed[True]`` the reasons of the run
    """

    given: list[str] = field(default_factory=list)
    printed: dict[bool, dict[str, list[str]]] = field(default_factory=dict)


SHOWN = 12
"""The maximum number of reasons that are shown for one operation, if ``-v`` is not given."""


def because(*reasons: str) -> None:
    """Give the reasons for the next command that the current operation will yield.

    + reasons: each reason is printed on its own line. It says what will be done and, where needed,
      what was found: ``"hold docker.io"``, ``"restart docker.service: /etc/docker/daemon.json
      changes"``

    **Example:** ``because(f"pull {image}")``
    """
    given = of_host(Reasons).given
    given += [one for one in reasons if one not in given]


def print_reasons() -> None:
    """Print the reasons that `because` received since the previous call of `print_reasons`.

    Each line begins with the operation's name.
    """
    state, host = current()
    own = of_host(Reasons)
    reasons, own.given = own.given, []
    if not reasons or host.current_op_hash is None:
        return
    arguments = host.current_op_global_arguments
    name = arguments["name"] if arguments else None
    title = title_of(state.get_op_meta(host.current_op_hash).names, name)
    own.printed.setdefault(state.is_executing, {}).setdefault(title, []).extend(reasons)
    for reason in shortened(reasons, all_of_them=state.print_noop_info):
        host.log(printable(f"{title}: {reason}"))


def shortened(reasons: Iterable[str], all_of_them: bool = False) -> list[str]:
    """Return the first `SHOWN` reasons. If there are more, add a line that says how many more.

    + all_of_them: whether to return all reasons

    This is a pure function.
    """
    reasons = list(reasons)
    if all_of_them or len(reasons) <= SHOWN:
        return reasons
    return [*reasons[:SHOWN], f"and {len(reasons) - SHOWN} more (shown with -v)"]


def listed(verb: str, names: Iterable[str], found: str = "") -> list[str]:
    """Return a list with one reason that names several things, [] if there are no names.

    + verb: what is done to the things, such as "write"
    + names: the names of the things
    + found: the state in which the things were found; the reason ends with this text

    **Example:** ``listed("write", ["/etc/a", "/etc/b"], "(not there)") ==
    ["write /etc/a, /etc/b (not there)"]``
    """
    names = list(names)
    return [f"{verb} {', '.join(names)} {found}".rstrip()] if names else []


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the differences between two JSON objects, one text for each key that differs.

    + prefix: text before each key

    This is a pure function.

    **Example:** ``differences({"log-opts": {"max-size": "10m"}}, {"log-opts": {"max-size": "1m"}})
    == ["log-opts.max-size 10m -> 1m"]``
    """
    found: list[str] = []
    for key in dict.fromkeys([*before, *after]):
        old, new, name = before.get(key), after.get(key), f"{prefix}{key}"
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            was, will = (one if isinstance(one, Mapping) else {} for one in (old, new))
            found += differences(was, will, f"{name}.")
        elif key not in after:
            found.append(f"without {name}")
        elif key not in before:
            found.append(f"{name} {_value(new)}")
        elif old != new:
            found.append(f"{name} {_value(old)} -> {_value(new)}")
    return found


def _value(value: object) -> str:
    """Return a JSON value as text, without quotes around a string."""
    return value if isinstance(value, str) else json.dumps(value)
