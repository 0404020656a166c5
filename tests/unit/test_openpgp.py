"""Read OpenPGP keys and signatures without gpg."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_engine.facts.openpgp import PublicKey, dearmor, parse_keys, parse_signers
from tests.unit.openpgp_samples import (
    CAPTIVE,
    EXTENDED,
    SHORT,
    SIGNED_BY_SUBKEY,
    WITH_SUBKEY,
)

EXTENDED_KEY = dearmor(EXTENDED.encode())


def keys(text: str) -> list[PublicKey]:
    return parse_keys(dearmor(text.encode()))


def test_a_key_has_its_fingerprint_and_its_end() -> None:
    fingerprint = "E25885B347219719829041CE307E25152A503DBA"
    assert keys(SHORT) == [PublicKey(fingerprint, ("307E25152A503DBA",), 1735603200)]
    assert keys(SHORT)[0].expiry_date == "2024-12-31"
    assert keys(SHORT)[0].expired(1735603200)
    assert not keys(SHORT)[0].expired(1735603199)


def test_the_newest_signature_moves_the_end() -> None:
    assert keys(EXTENDED) == [
        PublicKey("E25885B347219719829041CE307E25152A503DBA", ("307E25152A503DBA",), 2347920000)
    ]
    both = dearmor(SHORT.encode()) + EXTENDED_KEY
    assert [key.expires for key in parse_keys(both)] == [1735603200, 2347920000]


def test_a_key_without_end_has_none() -> None:
    (key,) = keys(WITH_SUBKEY)
    assert key.expires is None
    assert key.expiry_date == "never"
    assert not key.expired(1e12)


def test_a_signature_is_known_as_a_subkeys() -> None:
    (key,) = keys(WITH_SUBKEY)
    assert key.ids == ("EEE18F1E6BD1B2F7", "AAEE7DC8674B9447")
    assert parse_signers(dearmor(SIGNED_BY_SUBKEY.encode(), "SIGNATURE")) == ["AAEE7DC8674B9447"]


def test_line_ends_of_windows_do_not_matter() -> None:
    assert dearmor(EXTENDED.replace("\n", "\r\n").encode()) == EXTENDED_KEY


@pytest.mark.parametrize("text", ["", CAPTIVE, SIGNED_BY_SUBKEY, SHORT[:300], SHORT + "x"])
def test_what_is_no_key_is_refused(text: str) -> None:
    if text == SHORT + "x":
        assert keys(text), "what follows the block does not matter"
    else:
        with pytest.raises(ValueError, match="there is no -----BEGIN PGP PUBLIC KEY BLOCK-----"):
            keys(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (CAPTIVE.encode(), "it is no binary OpenPGP data"),
        (EXTENDED.encode(), "it is no binary OpenPGP data"),
        (EXTENDED_KEY[:-1], "it is cut short"),
        (EXTENDED_KEY[:20], "it is cut short"),
        (dearmor(SIGNED_BY_SUBKEY.encode(), "SIGNATURE"), "the first packet is not a public key"),
    ],
)
def test_what_is_no_keyring_says_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_keys(data)


KEYRINGS = [
    path
    for distribution in ("debian", "raspbian", "ubuntu")
    for path in sorted(Path("/usr/share/keyrings").glob(f"{distribution}-archive-*.gpg"))
]


@given(st.binary(max_size=200), st.integers(0, len(EXTENDED_KEY)))
def test_no_damage_ends_in_another_error(noise: bytes, at: int) -> None:
    for data in (noise, EXTENDED_KEY[:at] + noise + EXTENDED_KEY[at + len(noise) :]):
        with suppress(ValueError):
            parse_keys(data)
        with suppress(ValueError):
            parse_signers(data)


@pytest.mark.skipif(not shutil.which("gpg"), reason="compares with gpg")
@pytest.mark.parametrize("path", KEYRINGS, ids=str)
def test_the_distributions_keyrings_are_read_as_gpg_reads_them(path: Path, tmp_path: Path) -> None:
    said = subprocess.run(
        ["gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = [line.split(":") for line in said.splitlines()]
    expected = [(line[4], line[6]) for line in found if line[0] == "pub"]
    assert [(key.ids[0], str(key.expires or "")) for key in parse_keys(path.read_bytes())] == (
        expected
    )
