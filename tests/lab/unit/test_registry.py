"""The registry of container images: its files, and HAProxy's image in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.lab import haproxy_image, registry, registry_storage
from tests.lab.errors import LabError

V2 = Path("docker/registry/v2")
HAPROXY = V2 / "repositories/library/haproxy"


def tree(storage: Path) -> Any:
    """Return a function that reads content by its digest, once it is that of the content."""

    def read(digest: str) -> bytes:
        name = digest.removeprefix("sha256:")
        content = (storage / V2 / "blobs/sha256" / name[:2] / name / "data").read_bytes()
        assert hashlib.sha256(content).hexdigest() == name
        return content

    return read


def linked(folder: Path) -> str:
    """Return the digest that a link has, which is the name of its folder, too."""
    digest = (folder / "link").read_text()
    assert digest == f"sha256:{folder.name}"
    return digest


def test_a_pull_finds_its_way_from_the_tag_to_the_layer(tmp_path: Path) -> None:
    image = registry_storage.Image("arm64", {"User": "x"}, b"layer", "2025-01-01T00:00:00Z")
    digest = registry_storage.add(tmp_path, "library/haproxy", ["3.0.11", "3.0"], image)
    read, repository = tree(tmp_path), tmp_path / HAPROXY
    for tag in ("3.0.11", "3.0"):
        assert (repository / "_manifests/tags" / tag / "current/link").read_text() == digest
    index = json.loads(read(digest))
    (entry,) = index["manifests"]
    assert entry["platform"] == {"architecture": "arm64", "os": "linux"}
    manifest = json.loads(read(entry["digest"]))
    config = json.loads(read(manifest["config"]["digest"]))
    layer = gzip.decompress(read(manifest["layers"][0]["digest"]))
    assert (config["config"], layer) == ({"User": "x"}, b"layer")
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    for part in (entry, manifest["config"], *manifest["layers"]):
        assert part["size"] == len(read(part["digest"]))
    revisions = (repository / "_manifests/revisions/sha256").iterdir()
    assert {linked(folder) for folder in revisions} == {digest, entry["digest"]}
    layers = (repository / "_layers/sha256").iterdir()
    assert {linked(folder) for folder in layers} == {
        part["digest"] for part in (manifest["config"], *manifest["layers"])
    }


def test_two_images_share_a_repository(tmp_path: Path) -> None:
    digests = {
        tag: registry_storage.add(
            tmp_path, "library/haproxy", [tag], registry_storage.Image("amd64", {}, layer, "")
        )
        for tag, layer in (("2.6", b"old"), ("3.0", b"new"))
    }
    tags = tmp_path / HAPROXY / "_manifests/tags"
    assert {tag.name: (tag / "current/link").read_text() for tag in tags.iterdir()} == digests


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("haproxy_3.0.11-1+deb13u4_amd64.deb", ("3.0.11", "amd64")),
        ("haproxy_2.6.12-1+deb12u3_arm64.deb", ("2.6.12", "arm64")),
        ("haproxy_1%3a3.2.1-1~bpo13+1_amd64.deb", ("3.2.1", "amd64")),
    ],
)
def test_a_package_tells_version_and_architecture(name: str, expected: tuple[str, str]) -> None:
    assert haproxy_image.parse_package(name) == expected


def test_a_package_without_revision_is_refused() -> None:
    with pytest.raises(LabError, match=r"haproxy_3\.0_amd64\.deb"):
        haproxy_image.parse_package("haproxy_3.0_amd64.deb")


TRACED = """\
\tlinux-vdso.so.1 (0x00007f41224b1000)
\tlibcrypt.so.1 => /lib/x86_64-linux-gnu/libcrypt.so.1 (0x00007f412246d000)
\tlibstdc++.so.6 => /lib/x86_64-linux-gnu/libstdc++.so.6 (0x00007f4121400000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f41224b3000)
"""


def test_libraries_are_those_that_the_linker_names() -> None:
    assert haproxy_image.libraries(TRACED) == {
        "/lib/x86_64-linux-gnu/libcrypt.so.1",
        "/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/lib64/ld-linux-x86-64.so.2",
    }


def test_an_image_without_a_library_is_not_made() -> None:
    with pytest.raises(LabError, match=r"libjemalloc\.so\.2"):
        haproxy_image.libraries(f"{TRACED}\tlibjemalloc.so.2 => not found\n")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages as they are unpacked, as far as the image reads them."""
    root = tmp_path_factory.mktemp("root")
    names = [
        "usr/sbin/haproxy",
        *("usr/bin/" + name for name in ("dash", "cat", "id", "ls", "sleep")),
        "usr/lib/os-release",
        "usr/lib/x86/libc.so.6.1",
        "etc/haproxy/errors/503.http",
    ]
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "usr/lib/x86/libc.so.6").symlink_to("libc.so.6.1")
    (root / "lib").symlink_to("usr/lib")
    return root


@pytest.fixture(scope="module")
def layer(unpacked: Path) -> tarfile.TarFile:
    content = haproxy_image.layer(unpacked, {"/lib/x86/libc.so.6"})
    return tarfile.open(fileobj=io.BytesIO(content))


def test_the_layer_has_what_is_loaded_by_the_name_that_it_is_loaded_by(
    layer: tarfile.TarFile,
) -> None:
    for name, content in (
        ("usr/lib/x86/libc.so.6", b"usr/lib/x86/libc.so.6.1"),
        ("usr/bin/sh", b"usr/bin/dash"),
        ("usr/local/sbin/haproxy", b"usr/sbin/haproxy"),
    ):
        file = layer.extractfile(name)
        assert file is not None
        assert file.read() == content
    assert layer.getmember("lib").linkname == "usr/lib"


def test_the_layer_lists_every_folder_before_what_is_in_it(layer: tarfile.TarFile) -> None:
    seen = {""}
    for member in layer.getmembers():
        assert os.path.dirname(member.name) in seen
        seen.add(member.name)


def test_the_home_of_haproxy_is_its_own(layer: tarfile.TarFile) -> None:
    home = layer.getmember("var/lib/haproxy")
    assert (home.uid, home.gid, stat.S_IMODE(home.mode)) == (99, 99, 0o755)
    others = [member for member in layer.getmembers() if member.uid and member is not home]
    assert others == []


@pytest.mark.parametrize(
    ("arguments", "executed"),
    [
        (["haproxy", "-f", "x y"], "haproxy -W -db -f x y"),
        (["-c", "-f", "x"], "haproxy -W -db -c -f x"),
        (["haproxy"], "haproxy -W -db"),
        (["echo", "haproxy", "-v"], "haproxy -v"),
    ],
)
def test_the_entrypoint_adds_options_to_haproxy_only(
    tmp_path: Path, layer: tarfile.TarFile, arguments: list[str], executed: str
) -> None:
    script = layer.extractfile("usr/local/bin/docker-entrypoint.sh")
    assert script is not None
    entrypoint, program = tmp_path / "entrypoint", tmp_path / "haproxy"
    entrypoint.write_bytes(script.read())
    program.write_text('#!/bin/sh\necho haproxy "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", str(entrypoint), *arguments],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{executed}\n"


def test_the_registry_takes_nothing(tmp_path: Path) -> None:
    text = registry.configuration(tmp_path, "10.0.0.3", Path("/a.crt"), Path("/a.key"))
    settings = json.loads(text)
    assert settings["storage"]["maintenance"]["readonly"]["enabled"] is True
    assert settings["http"]["addr"] == "10.0.0.3:443"
