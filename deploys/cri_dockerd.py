"""Install cri-dockerd on nodes. The release tarball is on the computer that runs pyinfra."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.settings import SettingsError, local_path, read_file, read_setting
from chaos_engine.deploys.site import VersionsSettings
from chaos_engine.deploys.values import LocalFile
from chaos_engine.facts.cri_dockerd import CRI_DOCKERD_ANSWERS
from chaos_engine.facts.observe import current
from chaos_engine.facts.observe.host import PREFIX
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.text import named
from chaos_engine.operations import apt
from chaos_engine.operations.compatibility import kubernetes_misfit, pause_image
from chaos_engine.operations.cri_dockerd import CHECKSUMS, MAX_PACKED, extract, install_cri_dockerd
from chaos_engine.operations.cri_dockerd.install import UNDO
from chaos_engine.operations.engine.arguments import Form, ImageName
from chaos_engine.operations.preflight import ARCHITECTURES

RELEASES = "https://github.com/Mirantis/cri-dockerd/releases/download"

Sha256 = Annotated[str, Form("[0-9a-fA-F]{64}", "a sha256 in 64 hex digits")]
Url = Annotated[str, Form(r"https://[!-~]+", "an https:// address")]

_downloading = Lock()


class CriDockerdSettings(RollingSettings, VersionsSettings):
    """Settings of `cri_dockerd`."""

    cri_dockerd_tarball: LocalFile = Field(
        "files/cri-dockerd-{version}.{arch}.tgz",
        description="path of the release tarball on your computer, with the placeholders {version} "
        "and {arch}; {arch} is amd64 or arm64",
    )
    cri_dockerd_url: Url | None = Field(
        None,
        description="https:// address from which your computer downloads the tarball if it is "
        f"missing, with the placeholders {{version}} and {{arch}}, such as {RELEASES}/v{{version}}/"
        "cri-dockerd-{version}.{arch}.tgz",
    )
    cri_dockerd_sha256: dict[Literal["amd64", "arm64"], Sha256] = Field(
        {},
        description="sha256 of the tarball for each architecture, 64 hex digits; if not set, the "
        "run looks for the sha256 in the file SHA256SUMS beside the tarball, and after that in "
        "kubespray's list, which has the versions 0.3.17 to 0.3.21",
    )
    cri_dockerd_infra_image: ImageName | None = Field(
        None,
        description="image of the pause container in each pod, with tag, digest or both; if not "
        "set, it is the image that kubeadm uses for the version in chaos_kubernetes_version",
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message if the versions of cri-dockerd and Kubernetes do not work together."""
        yield from super().conflicts()
        if problem := kubernetes_misfit(self.cri_dockerd_version, self.kubernetes_version):
            yield named(problem, PREFIX)


@concern("cri-dockerd", CriDockerdSettings, health=[CRI_DOCKERD_ANSWERS], undo=UNDO)
def cri_dockerd(settings: CriDockerdSettings) -> None:
    """Run cri-dockerd at the version in the settings, with the socket ``/run/cri-dockerd.sock``.

    This computer reads and checks the tarball before any node is changed. Raises `SettingsError` if
    the tarball is missing, has an unknown or wrong checksum, or has a program for another
    architecture than the node's.
    """
    require_tarball(settings)
    # cri-dockerd needs socat to forward ports, and conntrack to close the connections of ended
    # pods. Until 1.32, the package kubelet depended on both
    apt.install_packages(
        name="Install what cri-dockerd calls", present={"socat": None, "conntrack": None}
    )
    install_cri_dockerd(
        name="Run cri-dockerd",
        version=settings.cri_dockerd_version,
        program=partial(program, settings),
        infra_image=settings.cri_dockerd_infra_image or pause_image(settings.kubernetes_version),
        rolling=settings.rolling(),
    )


def require_tarball(settings: CriDockerdSettings) -> None:
    """Raise `SettingsError` if there is no tarball, and no address to download one from.

    A tarball for any architecture is enough, because the node's architecture is not known yet.
    """
    tarballs = [_fill(settings.cri_dockerd_tarball, settings, one) for one in ARCHITECTURES]
    there = any(os.path.lexists(local_path(tarball)) for tarball in tarballs)
    if not there and settings.cri_dockerd_url is None:
        raise _missing(settings, *dict.fromkeys(tarballs))


def _missing(settings: CriDockerdSettings, tarball: str, *others: str) -> SettingsError:
    """Return an error for missing tarballs: `tarball` and `others` are their paths."""
    release = _fill(f"{RELEASES}/v{{version}}/{Path(tarball).name}", settings, "")
    return SettingsError(
        f"{current()[1].name}: {tarball} is missing"
        f"{''.join(f', and so is {one}' for one in others)}; "
        f"download the tarball from {release}, or set chaos_cri_dockerd_tarball to its path"
    )


def program(settings: CriDockerdSettings, architecture: str) -> bytes:
    """Return the program cri-dockerd for an architecture, from the tarball on this computer.

    + architecture: "amd64" or "arm64"

    Downloads a missing tarball if the settings have an address. Raises `SettingsError` if the
    tarball cannot be read or downloaded, or is not the right tarball.
    """
    name = current()[1].name
    tarball = _fill(settings.cri_dockerd_tarball, settings, architecture)
    path = local_path(tarball)
    release = _fill(f"{RELEASES}/v{{version}}/{path.name}", settings, architecture)
    missing = not os.path.lexists(path)
    if missing and settings.cri_dockerd_url is None:
        raise _missing(settings, tarball)
    sha256, source = _checksum(settings, path, architecture)
    if not sha256:
        raise SettingsError(
            f"{name}: the sha256 of {tarball} is not known; check that you trust the tarball, "
            f"then run: (cd {path.parent} && sha256sum {path.name} >> SHA256SUMS)"
        )
    try:
        if missing and settings.cri_dockerd_url is not None:
            url = _fill(settings.cri_dockerd_url, settings, architecture)
            _download(url, path, sha256, architecture)
        return _program(path, sha256, architecture)
    except OSError as error:
        raise SettingsError(
            f"{name}: {tarball} could not be read or downloaded: {error}; download it yourself "
            f"from {release}"
        ) from None
    except ValueError as error:
        raise SettingsError(
            f"{name}: {tarball}: {error}; the expected sha256 is from {source}; if the tarball is "
            f"wrong, download it from {release}"
        ) from None


@lru_cache(maxsize=4)
def _program(path: Path, sha256: str, architecture: str) -> bytes:
    """Return the program in a tarball. The result is cached: a run reads each tarball once."""
    return extract(read_file(path, MAX_PACKED), sha256, architecture)


def _fill(text: str, settings: CriDockerdSettings, architecture: str) -> str:
    """Return a path or address, with ``{version}`` and ``{arch}`` replaced by their values."""
    text = text.replace("{version}", settings.cri_dockerd_version)
    return text.replace("{arch}", architecture)


def _checksum(settings: CriDockerdSettings, path: Path, architecture: str) -> tuple[str, str]:
    """Return the sha256 that a tarball must have, and where this sha256 is from.

    The sha256 is "" if it is not known.
    """
    given: Mapping[Any, str] = settings.cri_dockerd_sha256
    if architecture in given:
        return given[architecture], "chaos_cri_dockerd_sha256"
    sums = path.with_name("SHA256SUMS")
    if os.path.exists(sums):
        fix = "this file should have the output of sha256sum: fix or remove the file"
        data = read_setting(current()[1].name, sums, fix)
        for line in data.decode(errors="replace").splitlines():
            sha256, _, name = line.strip().partition(" ")
            if name.lstrip(" *") == path.name:
                return sha256, str(sums)
    return CHECKSUMS.get(path.name, ""), "kubespray's checksums"


def _download(url: str, path: Path, sha256: str, architecture: str) -> None:
    """Download a tarball to `path`, unless `path` exists.

    Raises ``OSError`` if the download fails, and ``ValueError`` if the downloaded file is not the
    right tarball.
    """
    # Imported here, because almost no run downloads anything
    import urllib.request
    from http.client import HTTPException

    with _downloading:  # hosts are prepared in parallel; the first host downloads for all
        if os.path.lexists(path):
            return
        try:
            what = f"fetching {path.name} to this computer"
            with waiting(current()[1], what), urllib.request.urlopen(url, timeout=30) as answer:
                data = answer.read(MAX_PACKED + 1)
        except (HTTPException, OverflowError, ValueError) as error:
            # The URL itself may be wrong: its port may be too large, or not a number
            raise OSError(f"{url}: {str(error) or type(error).__name__}") from None
        if len(data) > MAX_PACKED:
            raise OSError(f"{url}: the download is larger than {MAX_PACKED >> 20} MiB")
        extract(data, sha256, architecture)  # a wrong tarball raises ValueError and is not saved
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        os.replace(part, path)
