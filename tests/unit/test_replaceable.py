"""Test the one rule for every path that is replaced: what deploy and undo refuse before any change,
and that undo restores everything exactly.

The paths are those that the scripts of all operations name, so that one that is added is tested
too.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.command import FunctionCommand, StringCommand

from chaos_engine.deploys.concern import DECLARED
from chaos_engine.facts.files import Content, Files, FileState
from chaos_engine.facts.kubernetes import KubernetesSources, Source
from chaos_engine.facts.manifest import ORIGINALS, Entry, Manifest, Remembered
from chaos_engine.facts.observe import HostAnswers, NodeError, of_host
from chaos_engine.facts.rsyslog import Snippets
from chaos_engine.facts.share import TARGET
from chaos_engine.facts.unit_traces import Traces, UnitTraces
from chaos_engine.operations.files import Plan
from chaos_engine.operations.files.replaceable import check_replaceable, with_folders
from chaos_engine.operations.kubernetes.signing_key import KEYRING
from chaos_engine.operations.undo.concerns import changes, refuse_replacing
from tests.unit.nodes import Nodes
from tests.unit.scripts import Sandbox
from tests.unit.test_hostile_values import CALLS, NODE, OPERATIONS, Known, Nothing
from tests.unit.test_undo import Node

FILE = FileState("file", "644", "root", "root", 1, "0" * 64)
FOLDER = FileState("directory", "755", "root", "root", 4096)
LINK = FileState("link", "777", "root", "root", 7, leads_to="file")

REFUSED = {
    "folder": (FOLDER, "{} is a folder, but has to be a file; move it away"),
    "device": (
        replace(FILE, kind="other", sha256=None),
        "{} is a device, socket or FIFO, but has to be a file; move it away",
    ),
    "immutable": (replace(FILE, fixed="immutable"), "{} is immutable; clear this flag (chattr -i"),
    "append-only": (replace(FILE, fixed="append-only"), "{} is append-only; clear this flag"),
    "read-only": (replace(FILE, fixed="unwritable"), "{} cannot be changed, not even by root"),
    "mounted": (replace(FILE, fixed="mounted"), "something is mounted on {}, so this path"),
}
"""What at a path has a node refused, whatever is to be done there, and what is said of it."""

REFUSED_MERGED = {
    "link": (LINK, "{} is a symbolic link, and would be replaced by a file; replace the"),
    "link to nowhere": (
        replace(LINK, leads_to=None),
        "{} is a symbolic link that leads nowhere, and would be replaced by a file; remove",
    ),
    "link to a folder": (replace(LINK, leads_to="directory"), "{} is a symbolic link to a folder"),
}
"""The same, of a file in which the node's own content stays."""

REFUSED_FOLDER = {
    "file": (FILE, "{} is a file, but has to be a folder for "),
    "link to nowhere": (replace(LINK, leads_to=None), "{} is a symbolic link that leads nowhere"),
    "immutable": (replace(FOLDER, fixed="immutable"), "{} is immutable; clear this flag"),
    "read-only": (replace(FOLDER, fixed="unwritable"), "{} cannot be changed, not even by root"),
}
"""The same, of the folder that a path is in."""

_NAMED = re.compile(
    r"^ *(?:keep|keep_written|put_back|remove_file|wipe|mv -fT --|ln -sfnT /dev/null) (.+)$",
    re.MULTILINE,
)
_VARIABLES = {"$keyring": KEYRING}
_NONE_OF_THE_NODES = re.compile(
    # this package's own folders and staged files, and the share, which others write
    rf"/var/lib/chaos-engine/|/run/|{TARGET}/|.*/\.[^/]+\.chaos(-old)?$"
    # variables of functions, and files that a package has just brought
    r"|\$([0-9@]|kept|new|gone|copy|jotted|aside|[A-Z]+[$])"
)


def named(script: str, only: str = "") -> set[str]:
    """Return the paths that a script writes, replaces or removes; ONLY counts one command."""
    found = set()
    for match in _NAMED.finditer(script):
        if only and match[0].split()[0] != only:
            continue
        for word in shlex.split(re.split(r";| \|\| ", match[1])[0]):
            path = _VARIABLES.get(word, word)
            if path.startswith(("/", "$")) and not _NONE_OF_THE_NODES.match(path):
                found.add(path)
    return found


def ran(name: str) -> tuple[str, str]:
    """Return an operation's scripts, and why it refuses the node."""
    nodes, scripts, reasons = Nodes(), [], []
    with nodes.on() as host:
        host.connector = Nothing(nodes.state, host)
        host.noop = lambda description: None
        of_host(HostAnswers).known = Known()
        for command in OPERATIONS[name]._inner(**CALLS[name]):
            if isinstance(command, FunctionCommand) and command.function.__name__ != "take_turn":
                reasons += [one for one in command.args if isinstance(one, str)]
            elif isinstance(command, StringCommand):
                scripts.append(command.get_raw_value())
    # a path is one shell word
    return "\n".join(scripts).replace("'\"'\"'", "'"), "\n".join(reasons)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, FileState]], None]:
    """Return a node on which everything has to be done, with files of an earlier installation."""
    for fact, value in {
        Snippets: ("/etc/rsyslog.d/50-default.conf",),
        KubernetesSources: (Source("/etc/apt/sources.list.d/old.list", True),),
        Traces: lambda units: {
            unit: UnitTraces(f"/usr/lib/systemd/system/{unit}", {}) for unit in units
        },
        Manifest: Remembered(
            (
                Entry("docker", "file", "created", "/etc/ours"),
                Entry("docker", "file", "original", "/etc/theirs"),
                Entry("docker", "file", "original", "/etc/hosts"),
                Entry("docker", "merged", "-", "/etc/hosts"),
                Entry("site", "file", "created", "/etc/b"),
                *(Entry("site", "wrote", "-", f"{FILE.sha256} {path}") for path in WROTE),
            ),
            holds=("manifest",),
        ),
    }.items():
        monkeypatch.setitem(NODE, fact, value)

    def have(files: Mapping[str, FileState]) -> None:
        all_ = {**dict.fromkeys(REMOVED, FILE), **files}
        monkeypatch.setitem(
            NODE, Files, lambda paths: {path: all_[path] for path in paths if path in all_}
        )
        texts = dict.fromkeys(files, b"127.0.0.1 a\n")
        remembered = replace(NODE[Manifest], files=dict(files), texts=texts)
        monkeypatch.setitem(NODE, Manifest, remembered)

    have({"/etc/hosts": FILE})
    return have


REMOVED = ("/etc/rsyslog.d/50-default.conf", "/etc/apt/sources.list.d/old.list", "/etc/three")
"""What is there, and shall not be."""

WROTE = ("/etc/ours", "/etc/theirs", "/etc/b")
TOUCHING = [name for name in CALLS if name not in ("publish_copy",)]


@pytest.mark.parametrize("name", TOUCHING)
@pytest.mark.parametrize("kind", REFUSED)
def test_each_path_that_cannot_be_replaced_is_named_before_any_change(
    node: Callable[[Mapping[str, FileState]], None], name: str, kind: str
) -> None:
    script, why = ran(name)
    assert not why
    state, says = REFUSED[kind]
    paths = named(script)
    node(dict.fromkeys(paths, state))
    script, why = ran(name)
    assert named(script) == set()
    assert [path for path in sorted(paths) if says.format(path) not in why] == []


@pytest.mark.parametrize("name", TOUCHING)
@pytest.mark.parametrize("kind", REFUSED_FOLDER)
def test_each_folder_in_which_nothing_can_be_replaced_is_named_before_any_change(
    node: Callable[[Mapping[str, FileState]], None], name: str, kind: str
) -> None:
    paths = named(ran(name)[0])
    state, says = REFUSED_FOLDER[kind]
    folders = {str(Path(path).parent) for path in paths}
    # undo does nothing where nothing was changed
    there = dict.fromkeys(paths, FILE) if name.startswith("undo_") else {}
    node({**dict.fromkeys(folders, state), **there})
    script, why = ran(name)
    assert named(script) == set()
    assert [folder for folder in sorted(folders) if says.format(folder) not in why] == []


@pytest.mark.parametrize("name", TOUCHING)
@pytest.mark.parametrize("kind", REFUSED_MERGED)
def test_a_link_is_replaced_but_where_the_nodes_own_content_stays(
    node: Callable[[Mapping[str, FileState]], None], name: str, kind: str
) -> None:
    script, _ = ran(name)
    state, says = REFUSED_MERGED[kind]
    paths, merged = named(script), named(script, "keep_written") & named(script)
    if name.startswith("undo_"):
        merged = {"/etc/hosts"} & paths
    node(dict.fromkeys(paths, state))
    script, why = ran(name)
    assert [path for path in sorted(merged) if says.format(path) not in why] == []
    assert not [path for path in paths - merged if path in why]
    assert (named(script) == set()) == bool(merged or not paths)


def test_there_are_paths_to_replace(node: object) -> None:
    paths = {path for name in TOUCHING for path in named(ran(name)[0])}
    assert {
        *("/etc/hosts", "/etc/fstab", "/etc/docker/daemon.json", "/boot/firmware/cmdline.txt"),
        *("/etc/systemd/system/swap.target", "/etc/rsyslog.d/50-default.conf", KEYRING),
        *("/etc/apt/sources.list.d/old.list", "/usr/local/bin/cri-dockerd", "/etc/theirs"),
        *("/usr/lib/systemd/system/cri-docker.service", "/etc/ours", "/etc/one", "/etc/three"),
    } <= paths
    assert not [path for path in paths if "$" in path]


def test_a_file_that_is_as_wanted_may_be_immutable() -> None:
    check_replaceable([], {"/etc/hosts": replace(FILE, fixed="immutable")})


def test_a_path_whose_folders_are_not_there_yet_is_made_in_the_innermost_that_is() -> None:
    found = {"/etc": FOLDER, "/etc/a": replace(FOLDER, fixed="immutable")}
    check_replaceable(["/etc/b/c/d"], found)
    with pytest.raises(NodeError, match=r"^/etc/a is immutable"):
        check_replaceable(["/etc/a/c/d"], found)
    assert with_folders(["/etc/a/b", "/etc/c"]) == ("/etc", "/etc/a", "/etc/a/b", "/etc/c")


def test_all_problems_are_told_at_once() -> None:
    found = {"/etc/a": FOLDER, "/etc/b": replace(FILE, fixed="mounted"), "/etc/c": FILE}
    with pytest.raises(NodeError) as error:
        check_replaceable(["/etc/a", "/etc/b", "/etc/c"], found)
    assert "/etc/a is a folder" in str(error.value)
    assert "umount /etc/b" in str(error.value)
    assert "/etc/c" not in str(error.value)


# What the fact sees of a real file system

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make these")


def look(*paths: Path, before: str = "") -> dict[str, FileState]:
    """Return what the fact says of paths, after a command in its own mount namespace if given."""
    text = Files().command(tuple(map(str, paths))).get_raw_value()
    shell = ["unshare", "-m", "sh", "-c", f"{before}\n{text}"] if before else ["sh", "-c", text]
    done = subprocess.run(shell, capture_output=True, text=True, check=True)
    return Files().parse(done.stdout.splitlines())


def test_kinds_are_seen_as_they_are(tmp_path: Path) -> None:
    for name, target in {
        "to file": "file",
        "to folder": "folder",
        "nowhere": "x",
        "loop": "loop",
    }.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    found = look(*tmp_path.iterdir(), tmp_path / "absent")
    kinds = {Path(path).name: (one.kind, one.leads_to) for path, one in found.items()}
    assert kinds == {
        "to file": ("link", "file"),
        "to folder": ("link", "directory"),
        "nowhere": ("link", None),
        "loop": ("link", None),
        "file": ("file", None),
        "folder": ("directory", None),
        "fifo": ("other", None),
    }
    assert not [one for one in found.values() if one.fixed]
    assert [path for path, one in found.items() if one.sha256] == [str(tmp_path / "file")]


@pytest.fixture
def flagged(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Make files and folders with a flag of chattr."""
    made: list[Path] = []

    def make(flag: str, kind: str = "file") -> Path:
        path = tmp_path / f"{kind} {flag}"
        path.mkdir() if kind == "folder" else path.touch()
        if (
            shutil.which("chattr") is None
            or subprocess.run(
                ["chattr", f"+{flag}", str(path)], capture_output=True, check=False
            ).returncode
        ):
            pytest.skip("chattr has no effect here")
        made.append(path)
        return path

    yield make
    for path in made:
        subprocess.run(["chattr", "-ia", str(path)], check=True)


@AS_ROOT
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize(("flag", "word"), [("i", "immutable"), ("a", "append-only")])
def test_flags_are_seen(
    flagged: Callable[[str, str], Path], kind: str, flag: str, word: str
) -> None:
    path = flagged(flag, kind)
    assert look(path)[str(path)].fixed == word


@AS_ROOT
def test_what_is_immutable_is_seen_without_lsattr(flagged: Callable[[str, str], Path]) -> None:
    path = flagged("i", "file")
    text = Files().command(str(path)).get_raw_value().replace("lsattr", "no-such-program")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert Files().parse(done.stdout.splitlines())[str(path)].fixed == "unwritable"


@AS_ROOT
def test_a_mount_on_a_file_and_a_read_only_file_system_are_seen(tmp_path: Path) -> None:
    (tmp_path / "mounted").touch()
    (tmp_path / "folder").mkdir()
    before = (
        f"mount --bind {tmp_path}/mounted {tmp_path}/mounted\n"
        f"mount -t tmpfs x {tmp_path}/folder; touch {tmp_path}/folder/a\n"
        f"mount -o remount,ro {tmp_path}/folder"
    )
    paths = tmp_path / "mounted", tmp_path / "folder", tmp_path / "folder/a"
    found = look(*paths, before=before)
    assert [found[str(path)].fixed for path in paths] == ["mounted", "unwritable", "unwritable"]
    with pytest.raises(NodeError, match="something is mounted on"):
        check_replaceable([str(paths[0])], found)
    for path in (paths[2], tmp_path / "folder/b"):
        with pytest.raises(NodeError, match="its file system is mounted read-only"):
            check_replaceable([str(path)], found)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    command = Content().command(str(tmp_path / "fifo")).get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=5, check=True)
    assert done.stdout == b""


# What undo restores


def acl(user: int) -> bytes:
    """Return an ACL by which a user may read and write, in the kernel's form.

    That is tag, permissions and id of each entry (linux/posix_acl_xattr.h)."""
    entries = [(0x01, 6, -1), (0x02, 6, user), (0x04, 4, -1), (0x10, 6, -1), (0x20, 4, -1)]
    packed = (struct.pack("<HHi", *entry) for entry in entries)
    return struct.pack("<I", 2) + b"".join(packed)


def listing(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return all that each path below a folder has: its kind, content, target, mode, owners,
    time of content, and extended attributes with the ACL."""
    seen: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        how = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        mode, time = stat.S_IFMT(how.st_mode) | stat.S_IMODE(how.st_mode), how.st_mtime_ns
        folder = stat.S_ISDIR(how.st_mode)
        seen[str(path)] = (content, mode, how.st_uid, how.st_gid, folder or time, attributes)
    return seen


def attributed(path: Path) -> None:
    """Give a file everything that a file may have besides its content."""
    path.chmod(0o664)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    try:
        os.setxattr(path, "user.origin", b"a tool of the owner's")
        os.setxattr(path, "system.posix_acl_access", acl(12345))
    except OSError:
        pytest.skip("the file system of the tests has no ACL or extended attributes")
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)


def regular(path: Path) -> None:
    path.write_text("theirs\n")
    attributed(path)


def relative(path: Path) -> None:
    regular(path.parent / "target")
    path.symlink_to("target")


def absolute(path: Path) -> None:
    regular(path.parent / "target")
    path.symlink_to(path.parent / "target")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def other_file_system(path: Path) -> None:
    path.symlink_to("/dev/shm")


def in_a_folder_that_is_a_link(path: Path) -> None:
    path.parent.rmdir()
    (path.parent.parent / "dotfiles").mkdir()
    path.parent.symlink_to("dotfiles")
    regular(path)


def nothing(path: Path) -> None:
    pass


@pytest.fixture
def place(tmp_path: Path) -> Node:
    (tmp_path / "etc/folder").mkdir(parents=True)
    (tmp_path / "units").mkdir()
    return Node(tmp_path)


KINDS = [
    *(nothing, regular, relative, absolute, dangling, other_file_system),
    in_a_folder_that_is_a_link,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("act", ["write", "remove"])
def test_what_was_replaced_or_removed_comes_back_exactly(
    place: Node, kind: Callable[[Path], None], act: str
) -> None:
    path = place.path("etc/folder/a")
    kind(path)
    before = listing(place.path("etc"))
    if act == "write":
        todo = Plan(write=(place.file("etc/folder/a", "ours\n"),))
    elif kind is nothing:
        return
    else:
        todo = Plan(remove=(str(path),))
    place.deploy("docker", todo)
    if act == "write":
        assert (path.is_symlink(), path.read_text()) == (False, "ours\n")
        place.deploy("docker", Plan(write=(place.file("etc/folder/a", "ours, again\n"),)))
    else:
        assert not os.path.lexists(path)
    real = str(path.parent.resolve() / path.name)
    now, was = ({**seen, real: ()} for seen in (listing(place.path("etc")), before))
    assert now == was, "nothing else has changed"
    place.undo("docker")
    assert listing(place.path("etc")) == before
    assert place.leftovers == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_had_no_effect_is_taken_back_exactly(
    place: Node, kind: Callable[[Path], None]
) -> None:
    path, other = place.path("etc/folder/a"), place.path("etc/folder/b")
    kind(path)
    regular(other)
    before = listing(place.path("etc"))
    todo = Plan(write=(place.file("etc/folder/a", "ours"),), remove=(str(other),))
    assert place.apply(todo, apply="false").returncode == 1
    assert listing(place.path("etc")) == before
    assert place.leftovers == []


def test_a_step_that_fails_takes_those_before_it_back(place: Node) -> None:
    """A file may have become immutable since the fact was read."""
    one, two = place.path("etc/folder/a"), place.path("etc/folder/b")
    regular(one)
    regular(two)
    before = listing(place.path("etc"))
    files = place.file("etc/folder/a", "ours"), place.file("etc/folder/b", "ours")
    fail = 'mv() { case "$*" in *"/.b.chaos "*) return 1 ;; esac; command mv "$@"; }'
    done = place.apply(Plan(write=files), before=fail)
    assert done.returncode == 1
    assert listing(place.path("etc")) == before
    assert place.leftovers == []


@pytest.mark.parametrize("by_others", [False, True])
def test_a_merged_file_keeps_all_that_it_has_beside_its_content(
    place: Node, by_others: bool
) -> None:
    path = place.path("etc/hosts")
    regular(path)
    before = listing(place.path("etc"))
    file = place.file("etc/hosts", "theirs\nours\n", merged=True)
    place.deploy("hosts_file", Plan(write=(file,)))
    assert path.read_text() == "theirs\nours\n"
    assert besides(listing(place.path("etc"))) == besides(before)
    if by_others:
        with path.open("a") as text:
            text.write("more\n")
    found = place.remembered()
    assert file.matches(found.files[str(path)]) is not by_others, "its owner and mode are its own"
    if not by_others:
        place.undo("hosts_file")
        assert listing(place.path("etc")) == before


def besides(listed: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Return what paths have besides their content and its time."""
    return {path: (*how[1:4], *how[5:]) for path, how in listed.items()}


def test_a_link_that_somebody_put_in_place_of_our_file_is_kept_aside(place: Node) -> None:
    path = place.path("etc/folder/a")
    regular(path)
    before = listing(place.path("etc"))
    place.deploy("docker", Plan(write=(place.file("etc/folder/a", "ours"),)))
    path.unlink()
    path.symlink_to("/dotfiles/a")
    assert place.undo("docker").aside == (str(path),)
    assert os.readlink(place.path(f"var/aside{path}")) == "/dotfiles/a"
    assert listing(place.path("etc")) == before


def test_undo_of_a_merged_file_that_became_a_link_is_refused(place: Node) -> None:
    path = place.path("etc/hosts")
    regular(path)
    place.deploy("hosts_file", Plan(write=(place.file("etc/hosts", "more\n", merged=True),)))
    path.rename(place.path("etc/dotfile"))
    path.symlink_to("dotfile")
    found = place.remembered()
    todo = changes(found, "hosts_file", originals=place.localise(ORIGINALS))
    with pytest.raises(NodeError, match=f"^{path} is a symbolic link, and would be replaced"):
        refuse_replacing([todo], found)


@AS_ROOT
def test_undo_of_what_is_immutable_is_refused(
    tmp_path: Path, place: Node, flagged: Callable[[str, str], Path]
) -> None:
    folder = flagged("i", "folder")
    subprocess.run(["chattr", "-i", str(folder)], check=True)
    sandbox_file = Sandbox(tmp_path).file(f"{folder.name}/a", "ours")
    place.deploy("docker", Plan(write=(sandbox_file,)))
    subprocess.run(["chattr", "+i", str(folder)], check=True)
    found = place.remembered()
    todo = changes(found, "docker", originals=place.localise(ORIGINALS))
    with pytest.raises(NodeError, match=r"is immutable; clear this flag \(chattr -i"):
        refuse_replacing([todo], found)


def test_a_boot_partition_without_owners_gets_the_content_back(place: Node) -> None:
    path = place.path("etc/folder/cmdline.txt")
    regular(path)
    place.deploy("kernel", Plan(write=(place.file("etc/folder/cmdline.txt", "ours"),)))
    vfat = 'stat() { echo msdos; }; cp() { [ "$1" != -a ] && command cp "$@"; }'
    place.undo("kernel", before=vfat)
    assert path.read_text() == "theirs\n"


def test_links_that_were_put_in_place_of_our_file_are_all_kept_aside(place: Node) -> None:
    path = place.path("etc/folder/a")
    for target in ("/dotfiles/a", "/dotfiles/b"):
        place.deploy("docker", Plan(write=(place.file("etc/folder/a", "ours"),)))
        path.unlink()
        path.symlink_to(target)
        place.undo("docker")
    kept = place.path(f"var/aside{path}").parent.iterdir()
    assert sorted(os.readlink(one) for one in kept) == ["/dotfiles/a", "/dotfiles/b"]


def test_each_merged_file_has_a_concern_that_takes_its_part_out() -> None:
    known = [path for one in DECLARED.values() for path in one.undo.take_out]
    merged = {
        path
        for name in TOUCHING
        for script, _ in [ran(name)]
        for path in named(script, "keep_written") & named(script)
    }
    assert {"/etc/hosts", "/etc/fstab", "/etc/docker/daemon.json"} <= merged
    assert [one for one in merged if not any(fnmatchcase(one, path) for path in known)] == []
