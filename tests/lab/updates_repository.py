"""A repository of made-up packages with a security pocket, laid out as Debian's archive.

`build` writes version 1.0 of each package into the suite, and newer versions where `PACKAGES` says.
The packages have no function but what their names say.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab import apt_repository
from tests.lab.apt_repository import SigningKey

NEW_ABI = f"linux-image-99.1-{platform.release().partition('-')[2] or 'lab'}"
"""The package that the new version of the kernel's metapackage depends on. It looks like a newer
kernel of the running one's kind, but has no kernel."""

ASK_FOR_REBOOT = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
: >>/run/reboot-required
echo "$DPKG_MAINTSCRIPT_PACKAGE" >>/run/reboot-required.pkgs
"""
"""A postinst that asks for a reboot, as the hook of Ubuntu's kernels does."""


@dataclass(frozen=True)
class Made:
    """One version of a made-up package.

    + name, version: its name and version
    + pocket: whether it is in the security pocket
    + fields: more fields of its control file
    + scripts: maintainer scripts, by name
    + conffile: content of its configuration file ``/etc/NAME.conf``, "" for none
    """

    name: str
    version: str
    pocket: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    conffile: str = ""


OLD = (
    Made("lab-plain", "1.0", conffile="version=1.0\n"),
    Made("lab-library", "1.0"),
    Made("lab-held", "1.0"),
    Made("lab-other", "1.0"),
    Made("lab-based", "1.0"),
    Made("lab-base", "1.0"),
    Made("lab-needy", "1.0"),
    Made("lab-victim", "1.0"),
    Made("linux-image-lab", "1.0"),
)
"""What a node has installed."""

NEW = (
    Made("lab-plain", "1.1", pocket=True, conffile="version=1.1\n"),
    # a newer version without a word about security
    Made("lab-plain", "1.2"),
    Made("lab-library", "1.1", pocket=True),
    Made("lab-held", "1.1", pocket=True),
    Made("lab-other", "1.1"),
    Made("lab-based", "1.1", pocket=True, fields={"Depends": "lab-base (>= 1.1)"}),
    Made("lab-base", "1.1"),
    Made("lab-needy", "1.1", pocket=True, fields={"Conflicts": "lab-victim"}),
    Made("linux-image-lab", "1.1", pocket=True, fields={"Depends": NEW_ABI}),
    Made(NEW_ABI, "1.1", pocket=True, scripts={"postinst": ASK_FOR_REBOOT}),
)
"""What the repository has besides."""


def build(
    root: Path, key: SigningKey, codename: str, packages: tuple[Made, ...] = (*OLD, *NEW)
) -> None:
    """Write the suite CODENAME and its security pocket at ROOT, signed by KEY."""
    for component, suite, label in (
        ("main", codename, "Debian"),
        ("updates", f"{codename}-security", "Debian-Security"),
    ):
        pocket = label != "Debian"
        pool = root / "pool" / component
        pool.mkdir(parents=True, exist_ok=True)
        for made in packages:
            if made.pocket is pocket:
                _package(pool, made)
        stable = "stable-security" if pocket else "stable"
        apt_repository.index(
            root, key, origin="Debian", suite=stable, codename=suite, components=(component,)
        )
        release = root / "dists" / suite / "Release"
        release.write_text(release.read_text().replace("Label: Debian\n", f"Label: {label}\n"))
        key.sign(release)


def sources(uri: str, codename: str, keyring: str) -> str:
    """Return the lines of a ``.list`` file for the repository. KEYRING is the key's path there."""
    option = f"[signed-by={keyring}]"
    return f"deb {option} {uri} {codename} main\ndeb {option} {uri} {codename}-security updates\n"


def _package(pool: Path, made: Made) -> None:
    with TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        control = tree / "DEBIAN"
        control.mkdir(parents=True)
        fields = {
            "Package": made.name,
            "Version": made.version,
            "Architecture": "all",
            "Maintainer": "lab <lab@lab.invalid>",
            **made.fields,
            "Description": "made up",
        }
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        (control / "control").write_text(text)
        for name, script in made.scripts.items():
            (control / name).write_text(script)
            (control / name).chmod(0o755)
        if made.conffile:
            (tree / "etc").mkdir()
            (tree / "etc" / f"{made.name}.conf").write_text(made.conffile)
            (control / "conffiles").write_text(f"/etc/{made.name}.conf\n")
        for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        target = pool / f"{made.name}_{made.version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(target)],
            env={**os.environ, "SOURCE_DATE_EPOCH": "1735689600"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
