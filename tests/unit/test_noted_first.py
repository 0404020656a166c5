"""What undo needs is noted before files change.

If the power is cut in between, the node boots with the new files. The next run then finds their
effects, and could not note what was before.
"""

from __future__ import annotations

import re

from tests.unit.test_hostile_values import CALLS, OPERATIONS, commands

INSTALLS = {"forward_logs", "install_docker", "install_kubernetes", "remove_packages"}
"""Operations whose scripts note what apt changes, right before they call apt."""

_NOTE = re.compile(r"(?:^|[ ;{])(?:note|keep|sysctl_was|unit_was|folders) ", re.MULTILINE)


def test_only_changes_of_packages_are_noted_after_files_changed() -> None:
    late, transactions = set(), 0
    for name, arguments in CALLS.items():
        for script in commands(OPERATIONS[name], arguments):
            _, swap_in, rest = script.partition("\nrestore_files() {")
            transactions += bool(swap_in)
            if _NOTE.search(rest):
                late.add(name)
    assert transactions > 10
    assert late == INSTALLS
