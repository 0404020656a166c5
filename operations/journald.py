"""Configure the systemd journal."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from chaos_engine.facts.journald import DropIns
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.operations import files
from chaos_engine.operations.arguments import AbsolutePath
from chaos_engine.operations.converge import Commands, converge
from chaos_engine.operations.files import File, Unit

# static in every distribution: neither enabled nor disabled
_NAME = "systemd-journald.service"


def reads(path: str, config: str) -> list[Read]:
    """What `configure` will observe for the same arguments."""
    unit = Unit(_NAME, reads=(path,), enabled=None)
    return [Read.of(DropIns), *files.reads([File(path, config)], units=[unit])]


@converge(reads=reads)
def configure(path: AbsolutePath, config: str) -> Commands:
    """Have journald run with a drop-in of ``journald.conf``.

    + path: of the drop-in, in ``/etc/systemd/journald.conf.d``
    + config: its text

    Raises `NodeError` if another drop-in sets the same and counts more: of all folders, the file
    whose name sorts last wins (journald.conf(5)).

    **Example:** ``configure(name="Keep the journal in RAM", path=..., config="[Journal]\\n...")``
    """
    drop_ins = observe(DropIns)
    stronger = overrides(path, config, drop_ins)
    if stronger:
        raise NodeError(
            f"{'; '.join(f'{other} sets {setting}' for other, setting in stronger)}, which counts "
            f"more than {path}; remove that and run again"
        )
    unit = Unit(_NAME, reads=(path,), enabled=None)
    yield from files.transaction([File(path, config)], units=[unit])


def overrides(path: str, config: str, found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What other drop-ins set after `path`, of what `config` sets, to another value."""
    own = dict(line.split("=", 1) for line in config.splitlines() if "=" in line and line[0] != "#")
    result = []
    for other, setting in found:
        name, _, value = setting.partition("=")
        later = posixpath.basename(other) > posixpath.basename(path)
        if later and name in own and own[name] != value:
            result.append((other, setting))
    return result
