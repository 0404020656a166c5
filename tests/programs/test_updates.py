"""Find and install security updates with the real apt and dpkg, from a made-up repository."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from chaos_engine.facts.apt import Interrupted
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.updates import SecurityUpdates, Update, Updates
from chaos_engine.operations.updates import HEAD, check_updates, compose, warnings
from tests.lab import updates_repository
from tests.lab.apt_repository import SigningKey
from tests.lab.updates_repository import NEW, NEW_ABI, OLD, Made
from tests.programs.image import run

CODENAME = "trixie"
KEYRING = "/etc/apt/keyrings/updates.gpg"
UPDATED = [Update(name, "1.0", "1.1") for name in
           ("lab-based", "lab-library", "lab-plain", "linux-image-lab")]  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    """A server that says nothing on the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder while the ``with`` block lasts. Return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.load_or_create(tmp_path_factory.mktemp("keys"), "updates")


class Root:
    """A root file system in which the old packages are installed, and the scripts to run in it."""

    def __init__(self, folder: Path, key: SigningKey, packages: tuple[Made, ...] = NEW) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        updates_repository.build(self.repository, key, CODENAME, (*OLD, *packages))
        shutil.copy(key.public, folder / "updates.gpg")
        self.steps = [
            f"install -m 644 -D $root/mnt/updates.gpg $root{KEYRING}",
            "rm -rf $root/etc/apt/sources.list.d/* $root/var/lib/apt/lists/*",
            "cp $root/mnt/sources.list $root/etc/apt/sources.list",
            "chroot $root sh -c 'dpkg --force-unsafe-io -i /mnt/repository/pool/main/*_1.0_all.deb;"
            " apt-mark hold lab-held; apt-mark auto lab-library lab-base' >$3/install.log 2>&1",
        ]

    def step(self, script: str) -> int:
        """Add a script that runs in the root; return its number."""
        number = len(self.steps)
        (self.folder / f"{number}.sh").write_text(script)
        self.steps.append(
            f"chroot $root sh /mnt/{number}.sh >$3/{number}.out 2>$3/{number}.err; "
            f"echo $? >$3/{number}.status"
        )
        return number

    def find(self) -> int:
        """Add the fact's command."""
        return self.step(SecurityUpdates().command())

    def install(self, found: Updates) -> int:
        """Add the script that installs what was found."""
        return self.step(compose(found, HEAD, "6.99.0-lab"))

    def run(self, uri: str) -> None:
        (self.folder / "sources.list").write_text(
            updates_repository.sources(uri, CODENAME, KEYRING)
        )
        run(self.folder, self.steps)

    def out(self, number: int) -> list[str]:
        return (self.folder / f"{number}.out").read_text().splitlines()

    def error(self, number: int) -> str:
        return (self.folder / f"{number}.err").read_text()

    def status(self, number: int) -> int:
        return int((self.folder / f"{number}.status").read_text())

    def found(self, number: int) -> Updates:
        assert self.status(number) == 0
        return SecurityUpdates().parse(self.out(number))


ALL = Updates(updates=tuple(UPDATED))
"""The updates by name, as `compose` takes them."""

VERSIONS = (
    "dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 'lab-*' "
    f"{NEW_ABI} linux-image-lab | sed 's/ *$//' | sort"
)
CARD = "find /var/lib/apt/lists -type f | sort; ls -l --full-time /var/lib/apt/lists"


def test_updates_of_the_security_pocket_are_found_and_installed(
    tmp_path: Path, key: SigningKey
) -> None:
    root = Root(tmp_path, key)
    before = root.step(CARD)
    found, again = root.find(), root.find()
    root.step("echo mine >>/etc/lab-plain.conf")
    installed = root.install(ALL)
    versions, card = root.step(VERSIONS), root.step(CARD)
    auto = root.step("apt-mark showauto 'lab-*' 'linux-image-*'")
    reboot, config = (
        root.step("cat /run/reboot-required.pkgs"),
        root.step("cat /etc/lab-plain.conf"),
    )
    left = root.step("cat /var/lib/chaos-engine/packages-changing /var/lib/chaos-engine/manifest")
    afterwards = root.find()
    with served(root.repository) as uri:
        root.run(uri)

    updates = root.found(found)
    assert [*updates.updates] == UPDATED
    assert {*updates.others} == {Update("lab-base", "1.0", "1.1"), Update(NEW_ABI, "", "1.1")}
    assert updates.held == (Update("lab-held", "1.0", "1.1"),)
    assert updates.left_out == {"lab-needy": "it would remove lab-victim"}
    assert updates.pockets == ((uri, f"{CODENAME}-security"),)
    assert (updates.said, updates.error, updates.pinned) == ((), "", ())
    check_updates(updates)
    assert root.found(again) == updates

    assert root.status(installed) == 0, root.error(installed)
    assert root.out(versions) == [
        "lab-base 1.1 ii",
        "lab-based 1.1 ii",
        "lab-held 1.0 hi",
        "lab-library 1.1 ii",
        "lab-needy 1.0 ii",
        "lab-other 1.0 ii",
        "lab-plain 1.1 ii",
        "lab-victim 1.0 ii",
        f"{NEW_ABI} 1.1 ii",
        "linux-image-lab 1.1 ii",
    ]
    assert root.out(before) == root.out(card), "package lists were written to the card"
    assert {*root.out(auto)} == {"lab-base", "lab-library", NEW_ABI}
    assert root.out(reboot) == [NEW_ABI]
    assert root.out(config) == ["version=1.0", "mine"]
    assert root.out(left) == [], "a note of what is changing, or for undo, is left"

    done = root.found(afterwards)
    assert done.updates == ()
    assert (done.held, done.left_out) == (updates.held, updates.left_out)


def test_a_pin_keeps_a_package_at_its_version(tmp_path: Path, key: SigningKey) -> None:
    root = Root(tmp_path, key)
    root.step(
        "printf 'Package: lab-plain\\nPin: version 1.0\\nPin-Priority: 1001\\n\\n"
        "Package: lab-library\\nPin: release l=Debian-Security\\nPin-Priority: -1\\n' "
        ">/etc/apt/preferences.d/mine"
    )
    found = root.find()
    with served(root.repository) as uri:
        root.run(uri)
    updates = root.found(found)
    assert {one.name for one in updates.pinned} == {"lab-plain", "lab-library"}
    assert [one.name for one in updates.updates] == ["lab-based", "linux-image-lab"]
    assert len([one for one in warnings(updates) if "lab-plain 1.0 -> 1.1" in one]) == 1


def test_a_source_of_something_else_may_be_away(tmp_path: Path, key: SigningKey) -> None:
    root = Root(tmp_path, key)
    root.step("echo 'deb http://nobody:secret@localhost:9 x y' >>/etc/apt/sources.list")
    found = root.find()
    with served(root.repository) as uri:
        root.run(uri)
    updates = root.found(found)
    check_updates(updates)
    assert [*updates.updates] == UPDATED
    assert "http://localhost:9/dists/x/InRelease" in updates.said[0]
    assert "secret" not in "".join(updates.said)


LATER = "touch -d 'now + 1 hour' InRelease"
"""HTTP counts times in seconds, and all this takes less than one."""

AWAY = {
    "away": "mv dists/trixie-security away",
    "unsigned": "cd dists/trixie-security; rm InRelease Release.gpg",
    "of another's signature": "cd dists/trixie-security; "
    f"sed -i 's/^Suite: .*/Suite: x/' InRelease; {LATER}",
    "of another time": f"cd dists/trixie-security; cp Expired InRelease; {LATER}",
}


@pytest.mark.parametrize("how", AWAY)
def test_a_pocket_that_cannot_be_read_is_an_error_that_names_it(
    tmp_path: Path, key: SigningKey, how: str
) -> None:
    """Check it also where its lists of another day are on the card."""
    root = Root(tmp_path, key)
    pocket = root.repository / "dists" / f"{CODENAME}-security"
    good = (pocket / "InRelease").read_bytes()
    text = (pocket / "Release").read_text()
    (pocket / "Release").write_text(f"{text}Valid-Until: Sat, 01 Feb 2020 00:00:00 UTC\n")
    key.sign(pocket / "Release")
    (pocket / "Expired").write_bytes((pocket / "InRelease").read_bytes())
    (pocket / "InRelease").write_bytes(good)
    (pocket / "Release").write_text(text)

    fresh = root.step("apt-get -q update")
    root.step(f"cd /mnt/repository; {AWAY[how]}")
    known = root.find()
    root.step("rm -rf /run/chaos-engine-lists /var/lib/apt/lists/*")
    unknown = root.find()
    with served(root.repository) as uri:
        root.run(uri)

    assert root.status(fresh) == 0
    for number in (known, unknown):
        with pytest.raises(NodeError) as error:
            check_updates(root.found(number))
        assert uri in str(error.value)
        assert f"{CODENAME}-security" in str(error.value)


def test_sources_that_apt_cannot_read_are_an_error(tmp_path: Path, key: SigningKey) -> None:
    root = Root(tmp_path, key)
    root.step("echo 'deb nonsense' >/etc/apt/sources.list")
    found = root.find()
    with served(root.repository) as uri:
        root.run(uri)
    with pytest.raises(NodeError, match="package lists: Malformed entry 1 in list"):
        check_updates(root.found(found))


def test_without_a_security_pocket_nothing_is_said_to_be_up_to_date(
    tmp_path: Path, key: SigningKey
) -> None:
    root = Root(tmp_path, key)
    root.step("sed -i /security/d /etc/apt/sources.list")
    found = root.find()
    with served(root.repository) as uri:
        root.run(uri)
    with pytest.raises(NodeError, match="none of apt's sources has security updates"):
        check_updates(root.found(found))


KILL = """\
#!/bin/sh
[ -e /killed ] && exit 0
touch /killed
kill -9 $PPID
sleep 60
"""


def interrupted(lines: list[str]) -> tuple[str, ...]:
    fact = Interrupted()
    fact.command()
    return fact.parse(lines)


def test_an_installation_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, key: SigningKey
) -> None:
    killing = Made("lab-library", "1.1", pocket=True, scripts={"preinst": KILL})
    packages = tuple(one for one in NEW if one.name != "lab-library")
    root = Root(tmp_path, key, (*packages, killing))
    killed = root.install(ALL)
    after = root.step(Interrupted().command().get_raw_value())
    found = root.find()
    fixed, again = root.step(HEAD), root.install(ALL)
    versions = root.step(VERSIONS)
    left = root.step(Interrupted().command().get_raw_value())
    with served(root.repository) as uri:
        root.run(uri)

    assert root.status(killed) != 0
    assert "lab-library" in interrupted(root.out(after))
    assert root.found(found).error == ""
    assert root.status(fixed) == 0, root.error(fixed)
    assert root.status(again) == 0, root.error(again)
    assert [line.split()[1] for line in root.out(versions) if "lab-library" in line] == ["1.1"]
    assert interrupted(root.out(left)) == ()


def test_a_version_that_is_gone_is_said_and_nothing_is_done(
    tmp_path: Path, key: SigningKey
) -> None:
    root = Root(tmp_path, key)
    gone = Updates(updates=(Update("lab-plain", "1.0", "1.1"), Update("lab-base", "1.0", "1.0.5")))
    failed, versions = root.install(gone), root.step(VERSIONS)
    with served(root.repository) as uri:
        root.run(uri)
    assert root.status(failed) != 0
    assert "'1.0.5' for 'lab-base' was not found" in root.error(failed)
    assert root.error(failed).splitlines()[-1].endswith("newer ones are there; run again")
    assert "lab-plain 1.0 ii" in root.out(versions)
