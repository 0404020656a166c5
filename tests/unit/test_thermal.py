"""Read the temperature, and whether the voltage is too low."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos_engine.facts.thermal import FirmwareThrottled, Thermal, ThermalState, throttled_words
from tests.unit.asking import ask, files_below


def compose(files: dict[str, str], throttled: int | None = None) -> ThermalState:
    return Thermal().compose({path: text.encode() for path, text in files.items()}, throttled)


PI = {
    "/sys/class/thermal/thermal_zone0/temp": "48686\n",
    "/sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "/sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
}


def test_a_pi_that_is_well() -> None:
    assert compose(PI, 0) == ThermalState(48.686, False, ())


def test_a_pi_whose_voltage_is_too_low() -> None:
    found = compose(PI | {"/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"}, 0x50005)
    assert found.undervoltage is True
    assert found.throttled == (
        "too low voltage now",
        "throttled now",
        "too low voltage since the boot",
        "throttled at some time since the boot",
    )


def test_the_warmest_sensor_counts() -> None:
    zones = {f"/sys/class/thermal/thermal_zone{n}/temp": f"{n}1500" for n in (3, 7, 5)}
    assert compose(zones).celsius == 71.5


def test_the_alarm_of_another_sensor_does_not_count() -> None:
    other = PI | {"/sys/class/hwmon/hwmon1/name": "ina219", "/sys/class/hwmon/hwmon1/x": "1"}
    assert compose(other).undervoltage is None


def test_a_node_without_sensors_has_gaps() -> None:
    assert compose({}) == ThermalState(None, None, None)


def test_a_bit_without_meaning_is_left_out() -> None:
    assert throttled_words(1 << 5 | 1 << 31) == ()


@pytest.mark.parametrize(
    ("lines", "bits"),
    [
        (["throttled=0x50000"], 0x50000),
        (["throttled=0x0"], 0),
        (["VCHI initialization failed"], None),
        ([], None),
    ],
)
def test_what_vcgencmd_says_is_read(lines: list[str], bits: int | None) -> None:
    assert FirmwareThrottled().parse(lines) == bits


def test_this_computer_is_read_without_an_error(tmp_path: Path) -> None:
    with files_below(tmp_path):
        assert ask(Thermal).celsius is None
    ask(Thermal)
