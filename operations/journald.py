"""Configure the systemd journal."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from chaos_engine.facts.journald import KERNEL, DropIn, DropIns
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.facts.systemd_files import boolean, settings
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import AbsolutePath
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.files import File, Unit

# A static unit in every distribution, so it is neither enabled nor disabled
_NAME = "systemd-journald.service"

_STORAGES = ("auto", "volatile", "persistent", "none")
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")


def reads(path: str, config: str) -> list[Read]:
    """Return the facts that `configure_journald` reads when called with these arguments."""
    unit = Unit(_NAME, reads=(path,), enabled=None)
    return [Read.of(DropIns), *files.reads([File(path, config)], units=[unit])]


@converge(reads=reads)
def configure_journald(path: AbsolutePath, config: str) -> Commands:
    """Configure journald with a drop-in of ``journald.conf``.

    + path: path of the drop-in, in ``/etc/systemd/journald.conf.d``
    + config: text of the drop-in

    If several drop-ins have the same setting, the one whose file name sorts last wins, whatever
    its folder (journald.conf(5)). The kernel's command line wins over all drop-ins. Raises
    `NodeError` if another drop-in or the command line overrides a setting in `config` with a
    different value.

    **Example:** ``configure_journald(name="Keep the journal in RAM", path=..., config="...")``
    """
    drop_ins = observe(DropIns)
    stronger = overrides(path, config, drop_ins)
    if stronger:
        raise NodeError(
            f"settings in {path} are overridden, because "
            f"{' and '.join(f'{other} sets {setting}' for other, setting in stronger)}; remove the "
            "overriding settings and run again"
        )
    unit = Unit(_NAME, reads=(path,), enabled=None)
    todo = files.decide([File(path, config)], units=[unit])
    yield from files.transaction(todo, noop=f"{path}: as wanted")


def overrides(path: str, config: str, found: Iterable[DropIn]) -> list[DropIn]:
    """Return the settings of other drop-ins that override settings of this package's drop-in.

    + path, config: path and text of this package's drop-in
    + found: the settings of all drop-ins, in the order in which they apply

    A setting is left out if its value means the same as the value in this package's drop-in. This
    is a pure function.
    """
    own = {name: value for _, name, value in settings(config)}
    last: dict[str, DropIn] = {}
    for other, setting in found:
        name, _, value = setting.partition("=")
        later = other == KERNEL or posixpath.basename(other) > posixpath.basename(path)
        if later and name in own and _meaning(name, value) is not None:
            last[name] = other, setting
    return [
        (other, setting)
        for name, (other, setting) in last.items()
        if _meaning(name, setting.partition("=")[2]) != _meaning(name, own[name])
    ]


def _meaning(name: str, value: str) -> str | None:
    """Normalise the value of a journald setting, so that equal meanings become the same text.

    + name, value: the setting's name and value

    Returns ``None`` for a value that journald ignores with a warning. If journald ignores a value,
    an earlier value of the setting stays in effect (journald.conf(5), systemd.syntax(7)).

    **Example:** ``_meaning("MaxLevelSyslog", "7") == "debug"``
    """
    if not value:  # in some releases of systemd, an empty value means the default
        return ""
    if name == "Storage":
        return value if value in _STORAGES else None
    if name == "ForwardToSyslog":
        flag = boolean(value)
        return None if flag is None else str(flag)
    if name == "MaxLevelSyslog":
        level = _LEVELS[int(value)] if re.fullmatch("[0-7]", value) else value
        return level if level in _LEVELS else None
    size = re.fullmatch(r"([0-9]+)[ \t]*([KMGTPE]?)B?", value)
    if size:
        return str(int(size[1]) << 10 * " KMGTPE".index(size[2] or " "))
    return value
