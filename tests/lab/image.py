"""What the nodes of a suite are made from: pieces in the cache, built where they are missing."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import (
    apt_repository,
    builders,
    cache,
    chroot,
    cri_dockerd,
    haproxy_image,
    kubectl,
    kubernetes_repository,
    paths,
    plan,
    programs,
    registry,
    registry_storage,
)
from tests.lab.errors import LabError


@dataclass(frozen=True)
class Images:
    """Where the cache has what the nodes of one suite are made from."""

    base: Path
    worker: Path
    storage: Path
    archive: Path
    """Document root of deb.debian.org in the lab."""
    kubernetes: Path
    """Document root of pkgs.k8s.io in the lab."""
    cri_dockerd: Path
    registry: Path
    """docker-registry, and the images that it serves in the lab."""
    kubectl: Path
    """The real kubectl, for the computer on the LAN."""
    archive_key: Path
    """The public key that the lab's archive is signed with."""

    def to_json(self) -> str:
        return json.dumps({key: str(value) for key, value in asdict(self).items()}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Images:
        try:
            return cls(**{key: Path(value) for key, value in json.loads(text).items()})
        except TypeError as error:
            raise LabError(
                "the lab was started by another version of this program; remove it: lab down"
            ) from error

    def layers(self, role: str) -> list[Path]:
        """Return the overlay layers of a node of ROLE, topmost first."""
        top = self.worker if role == "worker" else self.storage
        return [top / "layer", self.base / "layer"]


def build(suite: str, userland: str) -> Images:
    """Return the images of SUITE and USERLAND, building what the cache does not have."""
    with ThreadPoolExecutor() as pool:
        keys = paths.cache() / "keys"
        with cache.locked(paths.cache() / ".keys.lock"):
            archive_key = apt_repository.SigningKey.load_or_create(keys, "lab-archive")
            kubernetes_key = apt_repository.SigningKey.load_or_create(keys, "lab-kubernetes")
        kubernetes = pool.submit(_kubernetes, kubernetes_key)
        shim = pool.submit(_cri_dockerd)
        container_images = pool.submit(_registry)
        client = pool.submit(kubectl.piece)
        base = _base(suite)
        storage = pool.submit(layer, suite, base, "storage")
        name = "worker" if userland == plan.USERLANDS[0] else userland
        worker = layer(suite, base, name)
        archive = _archive(suite, name, base, worker, archive_key)
        return Images(
            base=base,
            worker=worker,
            storage=storage.result(),
            archive=archive,
            kubernetes=kubernetes.result(),
            cri_dockerd=shim.result(),
            registry=container_images.result(),
            kubectl=client.result(),
            archive_key=archive_key.public,
        )


def _base(suite: str) -> Path:
    return cache.piece(
        f"base-{suite}",
        _recipe("base", suite),
        lambda place: builders.build_base(suite, place),
        what=f"image base ({suite})",
    )


def layer(suite: str, base: Path, name: str) -> Path:
    return cache.piece(
        f"{name}-{suite}",
        # The worker image has the modules of this computer's kernel.
        [*_recipe(name, suite), base.name, platform.release()],
        lambda place: builders.build_layer(suite, base / "layer", name, place),
        what=f"image {name} ({suite})",
    )


def _archive(
    suite: str, name: str, base: Path, worker: Path, key: apt_repository.SigningKey
) -> Path:
    packages = [*base.glob("packages/*.deb"), *worker.glob("packages/*.deb")]
    return cache.piece(
        f"archive-{name}-{suite}",
        [worker.name, Path(builders.__file__), Path(apt_repository.__file__), key.public],
        lambda place: builders.build_archive(suite, packages, key, place),
        what=f"archive of packages ({suite})",
    )


def _kubernetes(key: apt_repository.SigningKey) -> Path:
    sources: list[str | Path] = [
        Path(kubernetes_repository.__file__),
        Path(apt_repository.__file__),
        Path(programs.__file__),
        key.public,
    ]
    return cache.piece(
        "kubernetes",
        [*sources, *_beside("kubernetes")],
        lambda place: kubernetes_repository.build(place, key),
        what="stand-in for pkgs.k8s.io",
    )


def _cri_dockerd() -> Path:
    sources: list[str | Path] = [
        Path(cri_dockerd.__file__),
        Path(programs.__file__),
        *_beside("cri_dockerd.c"),
    ]
    return cache.piece("cri-dockerd", sources, cri_dockerd.build, what="stand-in for cri-dockerd")


def _registry() -> Path:
    modules = (registry, registry_storage, haproxy_image, builders)
    return cache.piece(
        "registry",
        [*(Path(str(module.__file__)) for module in modules), platform.machine()],
        registry.build,
        what="registry of container images",
    )


def _beside(name: str) -> Iterator[Path]:
    """Yield the file or folder NAME of the lab's sources, if there is one."""
    if (paths.LAB / name).exists():
        yield paths.LAB / name


def _recipe(name: str, suite: str) -> list[str | Path]:
    """Return what an image is made from, for the name of its piece."""
    own = [builders.IMAGES / name, builders.IMAGES / "apt.conf"]
    if name in plan.USERLANDS:
        own.append(builders.IMAGES / "worker")
    modules = [Path(builders.__file__), Path(chroot.__file__)]
    return [*own, *modules, suite, platform.machine()]
