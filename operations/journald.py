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
    """Return what `configure_journald` will observe for the same arguments."""
    unit = Unit(_NAME, reads=(path,), enabled=None)
    return [Read.of(DropIns), *files.reads([File(path, config)], units=[unit])]


@converge(reads=reads)
def configure_journald(path: AbsolutePath, config: str) -> Commands:
    """Have journald run with a drop-in of ``journald.conf``.

    + path: path of the drop-in, in ``/etc/systemd/journald.conf.d``
    + config: text of the drop-in

    Raises `NodeError` if another drop-in has other values for the same settings and wins. The
    drop-in whose name sorts last wins, in whatever folder it is (journald.conf(5)). The kernel's
    command line wins over all drop-ins.

    **Example:** ``configure_journald(name="Keep the journal in RAM", path=..., config="...")``
    """
    drop_ins = observe(DropIns)
    stronger = overrides(path, config, drop_ins)
    if stronger:
        raise NodeError(
            f"{'; '.join(f'{other} sets {setting}' for other, setting in stronger)}, which counts "
            f"more than {path}; remove that and run again"
        )
    unit = Unit(_NAME, reads=(path,), enabled=None)
    todo = files.decide([File(path, config)], units=[unit])
    yield from files.transaction(todo, noop=f"{path}: as wanted")


def overrides(path: str, config: str, found: Iterable[DropIn]) -> list[DropIn]:
    """Return the settings of other drop-ins that override ours: a pure function.

    + path, config: path and text of our drop-in
    + found: the settings of all drop-ins, in the order in which they apply

    A setting with the same meaning as ours does not count.
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
    """Return the same text for all values of a setting that mean the same.

    + name, value: a setting of journald, as "MaxLevelSyslog" and "debug" or "7"

    Returns ``None`` for a value that journald ignores with a warning. An earlier value of the same
    setting then stays in effect (journald.conf(5), systemd.syntax(7)).
    """
    if not value:  # in some releases an empty value means the default
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
