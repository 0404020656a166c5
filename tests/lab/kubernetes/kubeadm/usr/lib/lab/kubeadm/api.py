"""The API server, asked with the credentials of a kubeconfig."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from . import cluster, files, node
from .node import Fatal

Result = TypeVar("Result")

CONFIG = f"/api/v1/namespaces/{cluster.SYSTEM}/configmaps/kubeadm-config"
_MERGE = "application/strategic-merge-patch+json"


class Unanswered(Exception):
    """The API server is away, or it refuses; the text says why."""


class Client:
    """A client of the API with the kubeconfig at PATH."""

    def __init__(self, path: str) -> None:
        try:
            text = node.at(path).read_text()
        except OSError:
            raise Fatal(
                f'couldn\'t create a Kubernetes client from file "{path}": failed to load admin '
                f"kubeconfig: open {path}: no such file or directory"
            ) from None
        content = yaml.safe_load(text)
        server, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self.url = str(server["server"])
        self.user = str(content["contexts"][0]["context"]["user"])
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        with tempfile.TemporaryDirectory() as folder:
            pair = [_file(user, each, folder) for each in ("client-certificate", "client-key")]
            self._context.load_cert_chain(*pair)

    def ask(self, path: str, patch: object = None) -> Any:
        """Return the object at PATH, after it was merged with a PATCH; None if there is none.

        Raises `Unanswered`.
        """
        verb = "Get" if patch is None else "Patch"
        try:
            status, answer = cluster.request(
                self.url, path, self._context, patch, method="PATCH", kind=_MERGE
            )
        except OSError as error:
            raise Unanswered(
                f'{verb} "{self.url}{path}?timeout=10s": {cluster.why(error)}'
            ) from None
        if status == 404:
            return None
        if status != 200:
            try:
                raise Unanswered(str(json.loads(answer)["message"]))
            except (ValueError, KeyError, TypeError):
                raise Unanswered(f"the server responded with the status code {status}") from None
        return json.loads(answer)

    def version(self) -> str:
        """Return the version of the API server that answers, as v1.36.2."""
        return str((self.ask("/version") or {})["gitVersion"])

    def items(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a list."""
        return (self.ask(path) or {}).get("items") or []


def administrator() -> None:
    """Refuse a node without the administrator's kubeconfig, which only controllers have."""
    path = f"{files.ETC}/admin.conf"
    if not node.at(path).exists():
        raise Fatal(f"failed to load admin kubeconfig: open {path}: no such file or directory")


def patiently(ask: Callable[[], Result | None], seconds: float) -> Result | Unanswered:
    """Return what ASK returns once it is neither None nor False; after so long, why not."""
    deadline = time.monotonic() + seconds
    while True:
        problem = Unanswered("context deadline exceeded")
        try:
            found = ask()
            if found:
                return found
        except Unanswered as error:
            problem = error
        if time.monotonic() > deadline:
            return problem
        time.sleep(0.3)


def _file(user: dict[str, str], name: str, folder: str) -> str:
    """Return the path of a credential, which a kubeconfig names or contains."""
    if name in user:
        return str(node.at(user[name]))
    path = Path(folder, name)
    path.write_bytes(base64.b64decode(user[f"{name}-data"]))
    return str(path)
