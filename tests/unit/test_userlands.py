"""Whether this run tells anything of uutils' coreutils."""

from __future__ import annotations

import subprocess

import pytest

from tests.unit.userlands import wanted


@pytest.mark.skipif(
    not wanted(),
    reason="no script was run with uutils' coreutils; UNIT_UUTILS=1 and rust-coreutils do that",
)
def test_scripts_are_run_with_uutils_too(request: pytest.FixtureRequest) -> None:
    said = subprocess.run(["tr", "--version"], capture_output=True, text=True, check=True).stdout
    expected = "GNU coreutils" if request.node.callspec.params["coreutils"] == "gnu" else " 0."
    assert expected in said
