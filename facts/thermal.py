"""Read how warm a node is, and whether its power supply is too weak."""

from __future__ import annotations

import re
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd_files import texts_of

_ALARM = re.compile(r"(/sys/class/hwmon/[^/]+)/in0_lcrit_alarm")
_ZONE = re.compile(r"/sys/class/thermal/[^/]+/temp")

THROTTLED = {
    0: "too low voltage now",
    1: "slower now, because the voltage is too low",
    2: "throttled now",
    3: "at the soft temperature limit now",
    16: "too low voltage since the boot",
    17: "slower at some time since the boot",
    18: "throttled at some time since the boot",
    19: "at the soft temperature limit at some time since the boot",
}
"""The meaning of the bits of ``vcgencmd get_throttled``
(https://www.raspberrypi.com/documentation/computers/os.html#get_throttled)."""


@dataclass(frozen=True)
class ThermalState(Value):
    """A node's temperature and power supply.

    + celsius: the temperature of the warmest sensor, ``None`` if there is none
    + undervoltage: whether the kernel's driver rpi_volt has found the voltage too low in the last
      few seconds, ``None`` if there is no such driver
    + throttled: the meaning of each bit that the firmware has set (`THROTTLED`), ``None`` if
      vcgencmd is missing or does not answer
    """

    celsius: float | None
    undervoltage: bool | None
    throttled: tuple[str, ...] | None


class FirmwareThrottled(NodeFact["int | None"]):
    """The bits that ``vcgencmd get_throttled`` prints; ``None`` if vcgencmd is missing or fails.

    **Example:** ``host.get_fact(FirmwareThrottled)``
    """

    program = "vcgencmd"

    @override
    def command(self) -> str:
        return "timeout -k 1 3 vcgencmd get_throttled 2>/dev/null || true"

    @override
    def parse(self, lines: list[str]) -> int | None:
        """Parse the line ``throttled=0x50000``. Return ``None`` for an error message."""
        found = (line.removeprefix("throttled=") for line in lines if line[:10] == "throttled=")
        return next((int(word, 16) for word in found), None)


class Thermal(ComposedFact[ThermalState]):
    """The node's temperature, and whether its voltage is too low.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.thermal.Thermal``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        patterns = (
            "/sys/class/thermal/*/temp",
            "/sys/class/hwmon/*/name",
            "/sys/class/hwmon/*/in0_lcrit_alarm",
        )
        return Read.of(Texts, patterns=patterns), Read.of(FirmwareThrottled)

    @override
    def compose(self, found: dict[str, bytes | None], throttled: int | None) -> ThermalState:
        texts = {path: text.strip() for path, text in texts_of(found).items()}
        millidegrees = [int(text) for path, text in texts.items() if _ZONE.fullmatch(path)]
        alarms = [
            texts[path] != "0"
            for path in texts
            if (match := _ALARM.fullmatch(path)) and texts.get(f"{match[1]}/name") == "rpi_volt"
        ]
        return ThermalState(
            celsius=max(millidegrees) / 1000 if millidegrees else None,
            undervoltage=any(alarms) if alarms else None,
            throttled=None if throttled is None else throttled_words(throttled),
        )


def throttled_words(bits: int) -> tuple[str, ...]:
    """Return the meaning of each bit that is set in the number from the firmware.

    This is a pure function.

    **Example:** ``throttled_words(0x10000) == ("too low voltage since the boot",)``
    """
    return tuple(words for bit, words in THROTTLED.items() if bits >> bit & 1)
