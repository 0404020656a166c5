"""Read what mounts something else on ``/var/log``, and why the log share is not mounted."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts import fstab
from chaos_engine.facts.health import LIMIT_SECONDS, Check
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.share import CONFINED, TARGET
from chaos_engine.facts.text import decoded, grouped

REASON = "/run/chaos-engine/var-log.reason"

_COMMAND = f"""\
[ ! -L {TARGET} ] || echo "link $(readlink -f {TARGET} || readlink {TARGET})"
[ ! -e {fstab.PATH} ] || echo "fstab $(base64 -w0 {fstab.PATH})"
systemctl show --property=Id,FragmentPath,UnitFileState -- \\
  var-log.mount log2ram.service armbian-ramlog.service folder2ram.service 2>/dev/null |
while IFS='=' read -r key value; do
  case "$unit $key $value" in
    *" Id $value") unit=$value ;;
    "var-log.mount FragmentPath /run/systemd/generator/"*) echo "generated $value" ;;
    "var-log.mount FragmentPath /"*) echo "claim $value" ;;
    "var-log.mount "*) ;;
    *" UnitFileState "*)
      case $value in # those that systemctl is-enabled takes for enabled
        enabled | enabled-runtime | static | alias | indirect | generated | transient)
          echo "claim $unit" ;;
      esac ;;
  esac
done
sed 's/^/reason /' {REASON} 2>/dev/null
true
"""


@dataclass(frozen=True)
class LogShare(Value):
    """The state of ``/var/log`` besides its mounts.

    + claims: units and lines of ``/etc/fstab`` that mount something else on it at boot
    + reason: why the last attempt to mount the log share failed, "" if it did not fail
    + link: what ``/var/log`` leads to if it is a symbolic link, "" if it is not
    """

    claims: tuple[str, ...]
    reason: str
    link: str = ""


class LogShares(NodeFact[LogShare]):
    """What mounts something else on ``/var/log``, and why the log share is not mounted.

    If systemd made a mount unit from a line of ``/etc/fstab``, the fact names the line. A unit that
    systemd made for an existing mount has no file, and is not listed.

    **Example:** ``host.get_fact(LogShares)``
    """

    @override
    def command(self) -> str:
        return _COMMAND

    @override
    def parse(self, lines: list[str]) -> LogShare:
        """Read the lines ``claim WHAT``, ``reason WHY``, ``link WHERE`` and ``fstab TEXT``.

        TEXT is the content of ``/etc/fstab`` in base64. A line ``generated UNIT`` means that
        systemd has made a mount unit for ``/var/log`` from ``/etc/fstab``.
        """
        found = grouped(lines, "claim reason link fstab generated")
        table = decoded(found["fstab"][0]) if found["fstab"] else ""
        mounted = [f"line {one.number} of {fstab.PATH}" for one in fstab.mounted_at(table, TARGET)]
        if found["generated"] and not mounted:
            mounted = [f"a line of {fstab.PATH} whose target leads there"]
        return LogShare(
            (*mounted, *found["claim"]), " ".join(found["reason"]), " ".join(found["link"])
        )


LOG_SHARE_WRITABLE = Check(
    "log_mount",
    f"{CONFINED}confined {LIMIT_SECONDS} {TARGET} "
    # Others write the share: only a new name is certain to be free
    f"'new=$(mktemp {TARGET}/.chaos-engine-verify.XXXXXX) && rm -f -- \"$new\"'",
    "/var/log cannot be written; look at: systemctl status var-log",
)
