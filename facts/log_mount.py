"""Read why the log share is not mounted on ``/var/log``, and what mounts something else there."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts import fstab
from chaos_engine.facts.files import Texts
from chaos_engine.facts.health import LIMIT_SECONDS, Check
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.share import CONFINED, TARGET
from chaos_engine.facts.systemd import UnitProperties
from chaos_engine.facts.systemd_files import texts_of

REASON = "/run/chaos-engine/var-log.reason"

_MOUNT = "var-log.mount"
_OTHERS = ("log2ram.service", "armbian-ramlog.service", "folder2ram.service")
_GENERATED = "/run/systemd/generator/"

# The states for which ``systemctl is-enabled`` succeeds
_ENABLED = ("enabled", "enabled-runtime", "static", "alias", "indirect", "generated", "transient")


@dataclass(frozen=True)
class LogShare(Value):
    """The state of ``/var/log``, without its present mounts.

    + claims: what mounts something other than the log share on ``/var/log`` at boot. A claim
      names a unit, a unit's file, or a line of ``/etc/fstab``
    + reason: why the last attempt to mount the log share failed, "" if it did not fail
    + link: the target of ``/var/log`` if ``/var/log`` is a symbolic link, else ""
    """

    claims: tuple[str, ...]
    reason: str
    link: str = ""


class _Link(NodeFact[str]):
    """The target of ``/var/log`` if ``/var/log`` is a symbolic link, else ""."""

    @override
    def command(self) -> str:
        return f"[ ! -L {TARGET} ] || readlink -f {TARGET} || readlink {TARGET}"

    @override
    def parse(self, lines: list[str]) -> str:
        return " ".join(lines)


class LogShares(ComposedFact[LogShare]):
    """Why the log share is not mounted on ``/var/log``, and what mounts something else there.

    systemd makes mount units from lines of ``/etc/fstab``. For these units, the fact lists the
    lines. For an existing mount, systemd makes a mount unit that has no file. The fact does not
    list such units.

    **Example:** ``host.get_fact(LogShares)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (
            Read.of(UnitProperties, units=(_MOUNT, *_OTHERS)),
            Read.of(Texts, patterns=(fstab.PATH, REASON)),
            Read.of(_Link),
        )

    @override
    def compose(
        self, units: dict[str, dict[str, str]], found: dict[str, bytes | None], link: str
    ) -> LogShare:
        texts = texts_of(found)
        claims = [
            f"line {entry.number} of {fstab.PATH}"
            for entry in fstab.mounted_at(texts.get(fstab.PATH, ""), TARGET)
        ]
        file = units[_MOUNT].get("FragmentPath", "")
        if file.startswith(_GENERATED):
            claims = claims or [f"a line of {fstab.PATH} whose target leads to {TARGET}"]
        elif file:
            claims.append(file)
        others = (units[name] for name in _OTHERS)
        claims += [unit["Id"] for unit in others if unit.get("UnitFileState") in _ENABLED]
        return LogShare(tuple(claims), " ".join(texts.get(REASON, "").splitlines()), link)


LOG_SHARE_WRITABLE = Check(
    "log_mount",
    f"{CONFINED}confined {LIMIT_SECONDS} {TARGET} "
    # The file needs a new name, because other machines also make files on the share
    f"'new=$(mktemp {TARGET}/.chaos-engine-verify.XXXXXX) && rm -f -- \"$new\"'",
    "no file can be written to /var/log; look at: systemctl status var-log",
)
