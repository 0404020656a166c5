"""Test cri-dockerd: its tarball, which versions work together, and what is put on the node."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import tracemalloc
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.cri_dockerd import CriDockerdSettings, program
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.text import named
from chaos_engine.operations.compatibility import (
    kubernetes_misfit,
    major,
    misfit,
    outdated,
)
from chaos_engine.operations.cri_dockerd import install_cri_dockerd
from chaos_engine.operations.cri_dockerd.install import PROGRAM, UNITS, check, require_docker
from chaos_engine.operations.cri_dockerd.tarball import (
    CHECKSUMS,
    MACHINES,
    MAX_MEMBERS,
    MEMBER,
    MIB,
    extract,
)
from chaos_engine.templates import render
from tests.unit.nodes import Nodes

VERSION = "0.4.3"


def elf(architecture: str = "arm64", bits: int = 64) -> bytes:
    """Return the beginning of a program's ELF header."""
    head = b"\x7fELF" + bytes([bits // 32, 1]) + bytes(10) + (2).to_bytes(2, "little")
    return head + MACHINES[architecture].to_bytes(2, "little") + b"\0program"


def tarball(
    content: bytes | None = None, name: str = MEMBER, extra: tarfile.TarInfo | None = None
) -> bytes:
    """Pack a release as upstream does: a folder with the program in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("cri-dockerd/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        if extra is not None:
            tar.addfile(extra)
        member = tarfile.TarInfo(name)
        data = elf() if content is None else content
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def zeros(size: int, name: str = "cri-dockerd/zeros", kind: bytes = tarfile.REGTYPE) -> bytes:
    """Pack a tarball with a member of this many zeros; 300 MiB of zeros become 0.3 MB."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    head, block, end = (
        gzip.compress(part, mtime=0)
        for part in (member.tobuf(tarfile.GNU_FORMAT), bytes(MIB), bytes(2 * tarfile.BLOCKSIZE))
    )
    return head + size // MIB * block + end


ZEROS = zeros(300 * MIB)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_program_of_a_good_tarball(architecture: str) -> None:
    data = tarball(elf(architecture))
    assert extract(data, sha256(data).upper(), architecture) == elf(architecture)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (tarball()[:-1], "the file is not a complete gzipped tar archive"),
        (tarball()[:60], "the file is not a complete gzipped tar archive"),
        (tarball()[:-8] + bytes(8), "the file is not a complete gzipped tar archive"),
        (b"", "the file is not a complete gzipped tar archive"),
        (b"<html>not found</html>", "the file is not a complete gzipped tar archive"),
        (
            gzip.compress(b"not a tar archive", mtime=0),
            "the file is not a complete gzipped tar archive",
        ),
        (gzip.compress(b"", mtime=0), "the file is not a complete gzipped tar archive"),
        (tarball(name="cri-dockerd/other"), f"the tarball has no {MEMBER}"),
        (tarball(name="/cri-dockerd/cri-dockerd"), "leads out of the tarball"),
        (tarball(name="cri-dockerd/../../etc/cron.d/x"), "leads out of the tarball"),
        (tarball(extra=link("cri-dockerd/x", tarfile.SYMTYPE)), "neither a file nor a folder"),
        (tarball(extra=link(MEMBER, tarfile.LNKTYPE)), "neither a file nor a folder"),
        (tarball(extra=link("cri-dockerd/x", tarfile.CHRTYPE)), "neither a file nor a folder"),
        (tarball(b"#!/bin/sh\necho cri-dockerd\n"), "not a 64-bit ELF program"),
        (tarball(b""), "not a 64-bit ELF program"),
        (tarball(elf()[:18]), "not a 64-bit ELF program"),
        (tarball(elf(bits=32)), "not a 64-bit ELF program"),
        (tarball(elf("amd64")), "is for amd64, not for arm64"),
        (tarball(elf()[:18] + b"\xf3\0program"), "is for ELF machine 243, not for arm64"),
    ],
    # by number: the processes that share the tests have to name them alike
    ids=range(19),
)
def test_a_tarball_that_is_not_one_is_told_why(data: bytes, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        extract(data, sha256(data), "arm64")


def test_what_follows_the_archive_is_looked_at_too() -> None:
    release = tarball()
    for wrong in (
        release + b"<html>",
        release[:-3],
        release[:-8] + b"\1" * 8,
        release + b"\x1f\x8b",
    ):
        with pytest.raises(ValueError, match="the file is not a complete gzipped tar archive"):
            extract(wrong, sha256(wrong), "arm64")
    # gzip takes zeros for padding, and reads several members one after the other
    for right in (release + bytes(512), release + gzip.compress(bytes(1024), mtime=0)):
        assert extract(right, sha256(right), "arm64") == elf()


def test_a_program_that_is_there_twice_is_refused() -> None:
    member = tarfile.TarInfo(MEMBER)
    data = tarball(extra=member)
    with pytest.raises(ValueError, match="the tarball has cri-dockerd/cri-dockerd twice"):
        extract(data, sha256(data), "arm64")


def test_a_member_with_control_characters_in_its_name_is_shown_without_them() -> None:
    data = tarball(name="../\x1b[2J")
    with pytest.raises(ValueError, match=re.escape(r"the member '../\x1b[2J' leads out")):
        extract(data, sha256(data), "arm64")


def test_more_members_than_a_release_has_are_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(MAX_MEMBERS + 1):
            tar.addfile(tarfile.TarInfo(f"cri-dockerd/{number}"))
    data = gzip.compress(buffer.getvalue(), mtime=0)
    with pytest.raises(ValueError, match="the tarball has more than 256 members"):
        extract(data, sha256(data), "arm64")


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (ZEROS, "the tarball unpacks to more than 192 MiB"),
        (zeros(300 * MIB, MEMBER), "the program cri-dockerd/cri-dockerd is larger than 128 MiB"),
        # read by tarfile before anybody sees the member
        (zeros(64 * MIB, kind=tarfile.GNUTYPE_LONGNAME), "headers and padding exceed 1 MiB"),
        (zeros(64 * MIB, kind=tarfile.XHDTYPE), "headers and padding exceed 1 MiB"),
        (gzip.compress(bytes(64 * MIB), 1, mtime=0), "headers and padding exceed 1 MiB"),
        (
            tarball() + gzip.compress(bytes(64 * MIB), 1, mtime=0),
            "headers and padding exceed 1 MiB",
        ),
        (zeros(190 * MIB), "the tarball has no cri-dockerd/cri-dockerd"),
    ],
    ids=["file", "program", "long name", "extended header", "zeros", "behind", "skipped"],
)
def test_a_large_archive_takes_little_memory(data: bytes, wrong: str) -> None:
    digest = sha256(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(wrong)):
            extract(data, digest, "arm64")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB, f"{peak / MIB:.1f} MiB"


def test_another_checksum_is_told_before_anything_is_unpacked() -> None:
    with pytest.raises(
        ValueError, match=f"^the tarball's sha256 is {sha256(b'x')}, not {'0' * 64}$"
    ):
        extract(b"x", "0" * 64, "arm64")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Make a folder `files` with a release and its checksum."""
    folder = tmp_path / "files"
    folder.mkdir()
    for architecture in MACHINES:
        name = f"cri-dockerd-{VERSION}.{architecture}.tgz"
        (folder / name).write_bytes(tarball(elf(architecture)))
        with (folder / "SHA256SUMS").open("a") as sums:
            sums.write(f"{sha256((folder / name).read_bytes())}  {name}\n")
    return folder


def load(files: Path, architecture: str = "arm64", **values: Any) -> bytes:
    values = {"cri_dockerd_version": VERSION, **values}
    run = Nodes("pi1")
    run.state.cwd = str(files.parent)
    with run.on():
        return program(CriDockerdSettings(**values), architecture)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_tarball_of_the_version_and_architecture_is_found(
    files: Path, architecture: str
) -> None:
    assert load(files, architecture) == elf(architecture)


def test_all_hosts_share_one_copy(files: Path) -> None:
    assert load(files) is load(files)


def test_a_tarball_elsewhere_is_found(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "else")
    shutil.rmtree(files)
    assert load(files, cri_dockerd_tarball=f"{tmp_path}/else/cri-dockerd-{{version}}.{{arch}}.tgz")


@pytest.mark.parametrize(
    "sums", ["{} *{}\n", "{}  {}", "# mine\n\n{}  {}\r\n"], ids=["binary", "no newline", "Windows"]
)
def test_reads_the_checksums_as_sha256sum_writes_them(files: Path, sums: str) -> None:
    name = f"cri-dockerd-{VERSION}.arm64.tgz"
    (files / "SHA256SUMS").write_text(sums.format(sha256((files / name).read_bytes()), name))
    assert load(files)


def test_the_setting_counts_before_the_file_and_the_file_before_kubespray(files: Path) -> None:
    right = sha256((files / f"cri-dockerd-{VERSION}.arm64.tgz").read_bytes())
    with pytest.raises(SettingsError, match="sha256 is from chaos_cri_dockerd_sha256"):
        load(files, cri_dockerd_sha256={"arm64": "0" * 64})
    (files / "SHA256SUMS").unlink()
    assert load(files, cri_dockerd_sha256={"arm64": right})
    known = files / "cri-dockerd-0.3.17.arm64.tgz"
    shutil.copy(files / f"cri-dockerd-{VERSION}.arm64.tgz", known)
    with pytest.raises(SettingsError, match="sha256 is from kubespray's checksums"):
        load(files, cri_dockerd_version="0.3.17")
    (files / "SHA256SUMS").write_text(f"{right}  {known.name}\n")
    assert load(files, cri_dockerd_version="0.3.17")


def test_a_missing_tarball_is_fetched_once_and_kept_if_it_is_right(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files / f"cri-dockerd-{VERSION}.arm64.tgz"
    data = path.read_bytes()
    path.unlink()
    asked = []

    def urlopen(url: str, timeout: int) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(answers.pop(0))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    answers = [b"<html>log in first</html>", data]
    url = "https://example.org/{version}/{arch}.tgz"
    with pytest.raises(SettingsError, match="the tarball's sha256 is"):
        load(files, cri_dockerd_url=url)
    assert not path.exists()
    assert load(files, cri_dockerd_url=url) == load(files, cri_dockerd_url=url) == elf()
    assert asked == ["https://example.org/0.4.3/arm64.tgz"] * 2
    assert path.read_bytes() == data
    assert [p.name for p in files.iterdir() if p.name.endswith(".part")] == []


def test_the_built_in_checksums_are_well_formed() -> None:
    assert len(set(CHECKSUMS.values())) == len(CHECKSUMS)
    for name, digest in CHECKSUMS.items():
        assert re.fullmatch(r"cri-dockerd-0\.3\.\d+\.(amd64|arm64)\.tgz", name)
        assert re.fullmatch(r"[0-9a-f]{64}", digest)


@pytest.mark.parametrize(
    ("shim", "docker", "fits"),
    [
        ("0.3.15", "28.5.2", True),
        ("0.3.15", "29.0.0-1", False),
        ("0.3.15", "29.1.3-0ubuntu3~24.04.2", False),
        ("0.3.15", "29.2.1", False),
        ("0.3.15", "29.3.0", True),
        ("0.3.15", "5:29.7.2-1~debian.13~trixie", True),
        ("0.3.15", "29.20.0", True),
        ("0.3.15", "30.0.0", True),
        ("0.3.0", "29.2.1", False),
        ("0.3.0", "29.3.0", True),
        ("0.3.11", "29.2.1", False),
        ("0.3.12", "29.2.1", True),
        ("0.3.13", "29.2.1", False),
        ("0.3.16", "29.1.3-0ubuntu3~24.04.2", True),
        ("0.3.17", "20.10.24+dfsg1-1+deb12u1", True),
        ("0.4.0", "20.10.24+dfsg1-1+deb12u1", False),
        ("0.4.1", "20.10.24", False),
        ("0.4.1", "26.1.5+dfsg1-9+deb13u1", True),
        ("0.4.2", "20.10.24", True),
        ("0.4.3", "29.1.3", True),
        ("0.3.15", "5:29.1.3-1", False),
        ("0.3.15", "unknown", True),
    ],
)
def test_docker_and_shim(shim: str, docker: str, fits: bool) -> None:
    problem = named(misfit(shim, docker), "chaos_")
    assert (problem == "") == fits
    if not fits:
        assert docker in problem
        assert "set chaos_cri_dockerd_version to" in problem


def test_reads_dockers_major_release_of_a_version_and_of_a_package() -> None:
    assert [major(text) for text in ("26.1.5+dfsg1", "5:29.1.3-1", "")] == [26, 29, None]


@pytest.mark.parametrize(
    ("shim", "kubernetes", "fits"),
    [
        ("0.3.17", "1.28.15", True),
        ("0.4.3", "1.36.2", True),
        ("0.2.6", "1.25.0", True),
        ("0.2.6", "1.26.0", False),
        ("0.3.16", "1.37.1", True),
        ("0.3.16", "1.38.0", False),
        ("0.3.17", "1.38.0", True),
    ],
)
def test_kubelet_and_shim(shim: str, kubernetes: str, fits: bool) -> None:
    assert (kubernetes_misfit(shim, kubernetes) == "") == fits
    values = {"cri_dockerd_version": shim, "kubernetes_version": kubernetes}
    if fits:
        CriDockerdSettings(**values)
        return
    with pytest.raises(
        SettingsError, match=rf"is {kubernetes} and chaos_cri_dockerd_version is {shim}"
    ):
        CriDockerdSettings(**values)


@pytest.mark.parametrize(
    ("version", "newer"),
    [("0.3.17", "0.3.25"), ("0.4.0", "0.4.3"), ("0.3.25", ""), ("0.4.3", ""), ("0.5.0", "")],
)
def test_an_old_version_is_worth_a_warning(version: str, newer: str) -> None:
    assert outdated(version).endswith(newer)
    assert bool(outdated(version)) == bool(newer)


def test_the_units_are_systemds(tmp_path: Path) -> None:
    service = render("cri-docker.service.j2", program=PROGRAM, infra_image=None)
    assert f"ExecStart={PROGRAM} --container-runtime-endpoint fd://\n" in service
    other = render("cri-docker.service.j2", program=PROGRAM, infra_image="k/pause:3.10")
    assert "fd:// --pod-infra-container-image=k/pause:3.10\nExecReload=" in other
    socket = render("cri-docker.socket.j2")
    assert "ListenStream=%t/cri-dockerd.sock\nSocketMode=0660" in socket
    assert service.endswith("\n")
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    (tmp_path / "cri-docker.service").write_text(service.replace(PROGRAM, "/bin/true"))
    (tmp_path / "cri-docker.socket").write_text(socket)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "cri-docker.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not [line for line in ran.stderr.splitlines() if str(tmp_path) in line], ran.stderr


def test_the_service_records_the_program_that_it_runs() -> None:
    assert UNITS[1].reads == (PROGRAM,)
    assert f"cat -- {PROGRAM}" in str(UNITS[1].record.content)


def test_nobody_reads_the_program_for_a_diff() -> None:
    run = Nodes("pi1")
    run.state.config.DIFF = True
    with run.on():
        asked = install_cri_dockerd.reads(VERSION, lambda _: b"")  # type: ignore[attr-defined]
    contents = [read for read in asked if read.fact.__name__ == "Content"]
    assert contents
    assert not [read for read in contents if dict(read.arguments)["path"] == PROGRAM]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("cri-dockerd 0.4.3 (483e3b6)", 0),
        ("cri-dockerd 0.4.30 (483e3b6)", 1),
        ("cri-dockerd 0.3.17 (483e3b6)", 1),
        ("exec format error", 1),
    ],
)
def test_a_program_of_another_version_is_refused(tmp_path: Path, said: str, status: int) -> None:
    new = tmp_path / ".cri-dockerd.chaos"
    text = check(VERSION).replace("/usr/local/bin/.cri-dockerd.chaos", str(new))
    assert subprocess.run(["sh", "-c", text], check=False).returncode == 0, "only units differ"
    new.write_text(f"#!/bin/sh\necho '{said}'\n")
    new.chmod(0o755)
    ran = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert ran.returncode == status
    assert ran.stdout == f"the new cri-dockerd reports: {said}\n"


@pytest.mark.parametrize(
    ("version", "docker", "group", "problem"),
    [
        (VERSION, "26.1.5+dfsg1", True, ""),
        (VERSION, "29.1.3", True, ""),
        (VERSION, "26.1.5", False, "Docker is not installed; deploy chaos_engine.deploys.docker"),
        (VERSION, "", True, "Docker does not answer"),
        ("0.4.1", "20.10.24+dfsg1", True, "cri-dockerd 0.4.1 does not fit Docker 20.10.24"),
        ("0.3.15", "29.1.3", True, "cri-dockerd 0.3.15 does not fit Docker 29.1.3"),
        ("0.3.15", "29.0.0-rc.1", True, "cri-dockerd 0.3.15 does not fit Docker 29.0.0-rc.1"),
        ("0.3.15", "29.2.1", True, "cri-dockerd 0.3.15 does not fit Docker 29.2.1"),
        ("0.3.15", "29.3.0", True, ""),
        ("0.3.15", "29.20.0", True, ""),
        ("0.3.12", "29.2.1", True, ""),
        ("0.3.15", "28.0.0", True, ""),
    ],
)
def test_docker_is_looked_at_before_the_units_start(
    version: str, docker: str, group: bool, problem: str
) -> None:
    stand_ins = f"""
    getent() {{ {"true" if group else "false"}; }}
    docker() {{ :; }}
    timeout() {{ [ -n '{docker}' ] && echo '{docker}'; }}
    """
    ran = subprocess.run(
        ["sh", "-c", f"{stand_ins}\nset -e\n{require_docker(version)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode == 0) == (problem == "")
    assert problem in ran.stderr
    assert bool(ran.stderr) == bool(problem)
