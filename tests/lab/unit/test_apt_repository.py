"""Signed archives with components."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.apt_repository import SigningKey, index

TOOLS = ("apt-ftparchive", "dpkg-deb", "gpg", "gpgv")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.load_or_create(tmp_path_factory.mktemp("keys"), "archive")


def _package(pool: Path, architecture: str) -> None:
    tree = pool / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: p-{architecture}\nVersion: 1\nArchitecture: {architecture}\n"
        "Maintainer: nobody <nobody@lab.invalid>\nDescription: a package\n"
    )
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", tree, pool / f"p_1_{architecture}.deb"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(tree)


def test_archive_of_two_suites(tmp_path: Path, key: SigningKey) -> None:
    pool = tmp_path / "pool" / "main"
    for architecture in ("amd64", "arm64", "all"):
        _package(pool, architecture)
    for codename, suite in (("trixie", "stable"), ("trixie-updates", "stable-updates")):
        index(tmp_path, key, origin="Debian", suite=suite, codename=codename, components=("main",))
        release = tmp_path / "dists" / codename
        content = (release / "Release").read_text()
        for line in (f"Suite: {suite}", f"Codename: {codename}", "Components: main"):
            assert f"{line}\n" in content
        assert " main/binary-arm64/Packages.gz\n" in content
        assert "Release.gpg" not in content
        subprocess.run(["gpgv", "-q", "--keyring", key.public, release / "InRelease"], check=True)
        for architecture, other in (("amd64", "arm64"), ("arm64", "amd64")):
            packages = (release / "main" / f"binary-{architecture}" / "Packages").read_text()
            assert f"Filename: pool/main/p_1_{architecture}.deb\n" in packages
            assert "Package: p-all\n" in packages
            assert f"Package: p-{other}\n" not in packages


def test_indexing_again_finds_new_packages_only(tmp_path: Path, key: SigningKey) -> None:
    pool = tmp_path / "pool" / "main"
    for architecture in ("amd64", "all"):
        _package(pool, architecture)
        index(tmp_path, key, origin="o", suite="s", codename="c", components=("main",))
    (pool / "p_1_amd64.deb").unlink()
    index(tmp_path, key, origin="o", suite="s", codename="c", components=("main",))
    packages = (tmp_path / "dists/c/main/binary-amd64/Packages").read_text()
    assert packages.count("Package: ") == 1
    assert packages.startswith("Package: p-all\n")


def test_key_is_made_once_and_leaves_no_agent(key: SigningKey) -> None:
    before = key.armored.read_bytes()
    again = SigningKey.load_or_create(key.home.parent, "archive")
    assert again == key
    assert key.armored.read_bytes() == before
    assert not list(key.home.glob("S.gpg-agent*"))
    assert os.stat(key.home).st_mode & 0o077 == 0


def test_failure_says_what_the_tool_said(tmp_path: Path, key: SigningKey) -> None:
    (tmp_path / "dists").write_text("in the way")
    with pytest.raises(OSError, match="dists"):
        index(tmp_path, key, origin="o", suite="s", codename="c", components=("main",))
    broken = SigningKey(tmp_path / "empty", key.public, key.armored)
    broken.home.mkdir(mode=0o700)
    release = tmp_path / "Release"
    release.touch()
    with pytest.raises(RuntimeError, match="No secret key"):
        broken.sign(release)
