"""Images in the files that docker-registry serves: content by its digest, and links to it.

Paths as in its documentation of the `filesystem` driver, whose layout is the same since 2.0:
github.com/distribution/distribution, registry/storage/paths.go.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OCI = "application/vnd.oci.image"


@dataclass(frozen=True)
class Image:
    """An image of one layer."""

    architecture: str
    """As Go calls it, which is as Debian does: `amd64`, `arm64`."""
    config: Mapping[str, Any]
    """What a container starts with: `User`, `Entrypoint` and so on."""
    layer: bytes
    """A tar archive."""
    created: str
    """When, as in RFC 3339."""


def add(storage: Path, repository: str, tags: Iterable[str], image: Image) -> str:
    """Put IMAGE into STORAGE as REPOSITORY (`library/NAME`) with TAGS; return its digest.

    Tags name an index with one image, as those of the official images name one of many.
    """
    root = storage / "docker/registry/v2"
    layer = gzip.compress(image.layer, mtime=0)
    config = _json(
        {
            "architecture": image.architecture,
            "os": "linux",
            "created": image.created,
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": [_digest(image.layer)]},
            "history": [{"created": image.created}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [_descriptor("layer.v1.tar+gzip", layer)],
        }
    )
    platform = {"architecture": image.architecture, "os": "linux"}
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.index.v1+json",
            "manifests": [{**_descriptor("manifest.v1+json", manifest), "platform": platform}],
        }
    )
    place = root / "repositories" / repository
    for content, kind in (
        (layer, "_layers"),
        (config, "_layers"),
        (manifest, "_manifests/revisions"),
        (index, "_manifests/revisions"),
    ):
        algorithm, _, digest = _digest(content).partition(":")
        _write(root / "blobs" / algorithm / digest[:2] / digest / "data", content)
        _link(place / kind, content)
    for tag in tags:
        tagged = place / "_manifests/tags" / tag
        _write(tagged / "current/link", _digest(index).encode())
        _link(tagged / "index", index)
    return _digest(index)


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": f"{_OCI}.{kind}", "digest": _digest(content), "size": len(content)}


def _link(folder: Path, content: bytes) -> None:
    """Say in FOLDER that CONTENT belongs to it."""
    digest = _digest(content)
    _write(folder.joinpath(*digest.split(":"), "link"), digest.encode())


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
