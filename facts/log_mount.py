"""Read what else mounts something on ``/var/log``, and why the log share is not mounted."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts import fstab
from chaos_engine.facts.health import LIMIT_SECONDS, Check
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.share import CONFINED, TARGET
from chaos_engine.facts.text import decoded

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
    + link: where it leads if it is a symbolic link, "" if it is not
    """

    claims: tuple[str, ...]
    reason: str
    link: str = ""


class LogShares(NodeFact[LogShare]):
    """What else mounts something on ``/var/log``, and why the log share is not mounted.

    A mount unit that systemd made of ``/etc/fstab`` is named by its line there. One that systemd
    made of an existing mount has no file, and is not listed.

    **Example:** ``host.get_fact(LogShares)``
    """

    @override
    def command(self) -> StringCommand:
        return StringCommand(_COMMAND)

    @staticmethod
    @override
    def default() -> LogShare:
        return LogShare((), "")

    @override
    def parse(self, lines: list[str]) -> LogShare:
        return parse_log_share(lines)


def parse_log_share(lines: list[str]) -> LogShare:
    """Read ``claim WHAT``, ``reason WHY`` and ``link WHERE`` lines, ``fstab TEXT`` in base64, and
    ``generated UNIT`` if systemd made a mount unit for ``/var/log`` of that text."""
    words = ("claim", "reason", "link", "fstab", "generated")
    found: dict[str, list[str]] = {word: [] for word in words}
    for line in lines:
        word, _, text = line.partition(" ")
        found[word].append(text)
    table = decoded(found["fstab"][0]) if found["fstab"] else ""
    mounted = [f"line {one.number} of {fstab.PATH}" for one in fstab.mounted_at(table, TARGET)]
    if found["generated"] and not mounted:
        mounted = [f"a line of {fstab.PATH} whose target leads there"]
    return LogShare((*mounted, *found["claim"]), " ".join(found["reason"]), " ".join(found["link"]))


LOG_SHARE_WRITABLE = Check(
    "log_mount",
    f"{CONFINED}confined {LIMIT_SECONDS} {TARGET} "
    # Others write the share: only a new name is certain to be free
    f"'new=$(mktemp {TARGET}/.chaos-engine-verify.XXXXXX) && rm -f -- \"$new\"'",
    "/var/log cannot be written; look at: systemctl status var-log",
)
