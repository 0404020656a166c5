"""How much is written to a card a day, and how long it lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos_engine.operations.report.wear import (
    DAY,
    MB,
    Point,
    Rate,
    Sample,
    known_bytes,
    points,
    wear,
)

FIRST = Sample(1_000_000, "mmcblk0 SC64G", "boot-1", 100 * MB, DAY)
SECOND = replace(FIRST, time=FIRST.time + 2 * DAY, written=500 * MB, uptime=3 * DAY)
REBOOTED = replace(
    SECOND, time=SECOND.time + DAY, boot_id="boot-2", written=60 * MB, uptime=DAY / 2
)
OTHER_CARD = replace(REBOOTED, time=REBOOTED.time + DAY, card="mmcblk0 SN128", written=7 * MB)


def test_a_first_report_knows_only_the_time_since_the_boot() -> None:
    found = wear([FIRST], None)
    assert found.since_boot == Rate(100.0, DAY)
    assert found.since_report is None
    assert (found.years_least, found.years_most) == (None, None)


def test_a_second_report_compares_the_counters() -> None:
    found = wear([FIRST, SECOND], None)
    assert found.since_boot == Rate(166.667, 3 * DAY)
    assert found.since_report == Rate(200.0, 2 * DAY)
    assert found.known_bytes == 500 * MB


def test_counters_of_another_boot_or_card_are_not_compared() -> None:
    assert wear([FIRST, SECOND, REBOOTED], None).since_report is None
    assert wear([REBOOTED, OTHER_CARD], None).since_report is None
    # a device that came back within a boot counts from zero
    again = replace(SECOND, time=SECOND.time + 1, written=MB, uptime=SECOND.uptime + 1)
    assert wear([SECOND, again], None).since_report is None


def test_what_a_card_got_is_summed_over_boots_and_begins_anew_with_another_card() -> None:
    assert known_bytes([FIRST, SECOND, REBOOTED]) == 560 * MB
    assert known_bytes([FIRST, SECOND, REBOOTED, OTHER_CARD]) == 7 * MB
    assert known_bytes([]) == 0


def test_years_are_a_range_by_both_rates_and_less_what_was_written() -> None:
    found = wear([FIRST, SECOND], 1)
    left = 1_000_000 - 500  # MB
    assert found.years_least == round(left / 200 / 365.25, 2)
    assert found.years_most == round(left / 166.667 / 365.25, 2)


def test_a_card_beyond_its_rating_has_no_years_left() -> None:
    assert wear([FIRST], 0.00005).years_least == 0


def test_a_card_that_nothing_writes_has_no_estimate() -> None:
    assert wear([replace(FIRST, written=0)], 100).years_most is None


@pytest.mark.parametrize("uptime", [0, 0.5, 30, 3599])
def test_the_writes_of_a_boot_are_no_base_for_years(uptime: float) -> None:
    assert wear([replace(FIRST, uptime=uptime)], 100).years_least is None


def test_a_line_has_a_point_for_each_report() -> None:
    assert points([FIRST, SECOND, REBOOTED]) == [
        Point(FIRST.time, 100.0),
        Point(SECOND.time, 200.0),
        Point(REBOOTED.time, 120.0),
    ]
    assert points([]) == []


def test_two_reports_in_the_same_second_make_one_point() -> None:
    assert points([FIRST, replace(FIRST, time=FIRST.time + 1)]) == [Point(FIRST.time, 100.0)]
