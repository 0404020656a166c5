"""Signed apt repositories, made of a directory of packages by apt's own tools."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import linux

ARCHITECTURES = ("amd64", "arm64")


@dataclass(frozen=True)
class SigningKey:
    """A key that signs repositories, in a GnuPG home of its own."""

    home: Path
    public: Path
    """The public key as a binary keyring, for `Signed-By` or gpgv."""
    armored: Path
    """The same, ASCII armoured, as repositories publish it (`Release.key`)."""

    @classmethod
    def load_or_create(cls, directory: Path, name: str) -> SigningKey:
        """Return the key NAME that is kept in DIRECTORY, made there if it is not there yet."""
        key = cls(
            home=directory / f"{name}.gnupg",
            public=directory / f"{name}.gpg",
            armored=directory / f"{name}.asc",
        )
        # The armoured file is written last: where it is, everything is.
        if not key.armored.exists():
            key.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with key._agent():
                user = f"{name} (lab) <{name}@lab.invalid>"
                key._gpg("--yes", "--passphrase", "", "--quick-generate-key", user,
                         "rsa3072", "sign", "never")  # fmt: skip
                key._gpg("--yes", "--output", str(key.public), "--export")
                key._gpg("--yes", "--armor", "--output", str(key.armored), "--export")
        return key

    def sign(self, release: Path) -> None:
        """Write `Release.gpg` (detached) and `InRelease` (clear-signed) beside RELEASE."""
        with self._agent():
            detached, inline = release.with_name("Release.gpg"), release.with_name("InRelease")
            self._gpg("--yes", "--armor", "--output", str(detached), "--detach-sign", str(release))
            self._gpg("--yes", "--output", str(inline), "--clear-sign", str(release))

    def _gpg(self, *arguments: str) -> None:
        _run(["gpg", "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", *arguments],
             environment={"GNUPGHOME": str(self.home)})  # fmt: skip

    @contextmanager
    def _agent(self) -> Iterator[None]:
        """End the agent that gpg starts in the background: it would outlive the lab."""
        try:
            yield
        finally:
            _run(["gpgconf", "--kill", "all"], environment={"GNUPGHOME": str(self.home)})
            # The agent answers before it ends, and removes its sockets last
            linux.wait_until(
                lambda: not list(self.home.glob("S.gpg-agent*")),
                seconds=30,
                otherwise=f"the gpg-agent of {self.home} does not end",
            )


def index(
    root: Path,
    key: SigningKey,
    *,
    origin: str,
    suite: str,
    codename: str,
    components: tuple[str, ...] | None,
) -> None:
    """Write and sign the indices of the repository at ROOT.

    With COMPONENTS it is laid out as an archive: `dists/CODENAME/COMPONENT/binary-ARCH` over
    `pool/COMPONENT`; several suites over one pool are several calls. With None it is a flat
    repository (`Suites: /`) with its indices beside the packages, as pkgs.k8s.io is.
    """
    if components is None:
        release = root
        _write_packages(root, root, ".", architecture=None)
    else:
        release = root / "dists" / codename
        for component in components:
            (root / "pool" / component).mkdir(parents=True, exist_ok=True)
            for architecture in ARCHITECTURES:
                folder = release / component / f"binary-{architecture}"
                _write_packages(folder, root, f"pool/{component}", architecture=architecture)
    fields = {
        "Origin": origin,
        "Label": origin,
        "Suite": suite,
        "Codename": codename,
        "Architectures": " ".join(ARCHITECTURES),
        "Description": f"{origin} (lab)",
    }
    if components is not None:
        fields["Components"] = " ".join(components)
    for stale in ("Release", "Release.gpg", "InRelease"):
        # apt-ftparchive would list the old ones among the files of the new one.
        (release / stale).unlink(missing_ok=True)
    options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    content = _run(["apt-ftparchive", *options, "release", "."], directory=release)
    (release / "Release").write_bytes(content)
    key.sign(release / "Release")


def _write_packages(folder: Path, root: Path, pool: str, *, architecture: str | None) -> None:
    """Write the index of the packages under ROOT/POOL (of one architecture) into FOLDER.

    What was read of the packages is kept beside them, so that the index of a large pool is quick
    to renew, and that of its second architecture to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    only = [] if architecture is None else ["--arch", architecture]
    cache = root / ".packages.db"
    content = _run(["apt-ftparchive", "--db", str(cache), *only, "packages", pool], directory=root)
    # As repositories have it: relative to the root, without a leading "./".
    content = content.replace(b"\nFilename: ./", b"\nFilename: ")
    (folder / "Packages").write_bytes(content)
    (folder / "Packages.gz").write_bytes(gzip.compress(content, mtime=0))


def _run(
    command: list[str],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run COMMAND and return its output; what it complained about is in the error."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}): {complaint}")
    return done.stdout
