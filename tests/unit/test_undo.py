"""Test undo: what is decided by the node's manifest, and the scripts, run by a shell."""

from __future__ import annotations

import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_engine.deploys import undo as deploy
from chaos_engine.deploys.concern import DECLARED
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.undo import ORDER, UndoSettings
from chaos_engine.facts.container_logs import DataDisk
from chaos_engine.facts.files import FileState
from chaos_engine.facts.manifest import (
    ASIDE,
    DIRECTORY,
    ORIGINALS,
    Entry,
    Manifest,
    Remembered,
)
from chaos_engine.facts.mounts import parse_mounts
from chaos_engine.facts.observe import NodeError
from chaos_engine.operations.container_logs import compose_notes
from chaos_engine.operations.docker.daemon_json import Options, merge
from chaos_engine.operations.engine.shell import NOTES, PRELUDE
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.fstab import replaced_options, with_mount_options
from chaos_engine.operations.hosts_file import edit
from chaos_engine.operations.swap import without_swap
from chaos_engine.operations.undo.concerns import (
    REINSTALL,
    UNDOING,
    Changes,
    _undo,
    changes,
    check_undoable,
    compose,
    compose_end,
    not_undone,
    once_undone,
    warnings,
)
from chaos_engine.operations.undo.declaration import Undo
from chaos_engine.operations.undo.declaration import take_out as take_out_by
from tests.unit.nodes import Nodes
from tests.unit.scripts import Sandbox

HOSTS, FSTAB, DAEMON = "/etc/hosts", "/etc/fstab", "/etc/docker/daemon.json"
CMDLINE = "/boot/firmware/cmdline.txt"
SWAP = "/swap.img none swap sw 0 0\n"
NAMES = {"pi1": "192.168.1.50", "etcd1": "192.168.1.40"}


TAKEN_OUT = {
    path: how for declared in DECLARED.values() for path, how in declared.undo.take_out.items()
}


def take_out(path: str, current: bytes, original: bytes | None, written: bytes) -> bytes | None:
    """Return a merged file after undo, by the function that its concern declares."""
    return take_out_by(path, current, original, written, TAKEN_OUT)


class Node(Sandbox):
    """A folder in place of a node, with a systemctl that keeps the state of units."""

    UNITS = """
    systemctl() {
      echo "$*" >>ROOT/systemctl.log
      for unit; do :; done
      case $1 in
        show) case $2 in
          *=ActiveState,UnitFileState) cat ROOT/units/$unit 2>/dev/null || echo inactive ;;
          *=ActiveState) cut -d ' ' -f 1 ROOT/units/$unit 2>/dev/null || echo inactive ;;
          *=UnitFileState) cut -d ' ' -f 2 ROOT/units/$unit 2>/dev/null ;;
          *=LoadState) [ -e ROOT/units/$unit ] && echo loaded || echo not-found ;;
        esac ;;
        start | restart)
          umask 022
          echo active $(cut -d ' ' -f 2 ROOT/units/$unit) >ROOT/units/$unit.new
          mv ROOT/units/$unit.new ROOT/units/$unit ;;
        stop) sed -i s/^active/inactive/ ROOT/units/$unit ;;
        enable) sed -i 's/ .*/ enabled/' ROOT/units/$unit ;;
        disable) sed -i 's/ .*/ disabled/' ROOT/units/$unit ;;
      esac
    }
    """

    def deploy(self, concern: str, todo: Plan, before: str = "") -> None:
        """Put files in place, by a concern."""
        units = self.UNITS.replace("ROOT", str(self.root))
        ran = self.apply(todo, before=f"{units}\nconcern={concern}\n{before}")
        assert ran.returncode == 0, ran.stderr

    def remembered(self) -> Remembered:
        """Return what the fact says."""
        script = self.localise(Manifest().command())
        ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        return Manifest().parse(ran.stdout.splitlines())

    def undo(self, concern: str, before: str = "", ok: bool = True) -> Changes:
        """Undo a concern; return what was decided for its files."""
        found = self.remembered()
        # here the notes have paths below the folder that stands for the node
        how = DECLARED[concern].undo
        take_out = {self.localise(path): how.take_out[path] for path in how.take_out}
        how = replace(how, take_out=take_out)
        files = changes(found, concern, how, originals=self.localise(ORIGINALS))
        units = self.UNITS.replace("ROOT", str(self.root))
        script = compose(found, concern, files, how)
        ran = self.run(script, files.write, before=f"{units}\n{before}")
        assert (ran.returncode == 0) == ok, ran.stderr
        return files

    def tree(self) -> dict[str, tuple[str, int]]:
        """Return all files with content and mode, without this package's own and logs of calls."""
        return {
            str(path.relative_to(self.root)): (
                str(path.readlink()) if path.is_symlink()
                else "folder" if path.is_dir() else path.read_text(),
                path.lstat().st_mode,
            )
            for path in sorted(self.root.rglob("*"))
            if path.relative_to(self.root).parts[0] in ("etc", "units")
        }  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "etc").mkdir()
    (tmp_path / "units").mkdir()
    return Node(tmp_path)


def test_files_folders_and_units_are_as_they_were(node: Node) -> None:
    node.path("etc/a").write_text("original")
    node.path("etc/a").chmod(0o640)
    node.path("etc/gone").symlink_to("/dev/null")
    node.path("units/old.service").write_text("active enabled\n")
    before = node.tree()
    todo = Plan(
        write=(
            node.file("etc/a", "ours"),
            node.file("etc/new/deep/b", "ours"),
            node.file("etc/key", "ours", mode="600", secret=True),
        ),
        remove=(str(node.path("etc/gone")),),
        restart=(Unit("old.service"),),
    )
    node.deploy("docker", todo)
    assert node.tree() != before
    node.path("run/old.service").write_text("started with ours")
    node.undo("docker")
    assert node.tree() == before
    assert "restart -- old.service" in node.calls
    assert not node.path("run/old.service").exists()
    assert node.remembered().entries == ()
    assert not [path for path in node.path("var/originals").rglob("*") if path.is_file()]


def test_a_unit_of_ours_is_stopped_and_disabled_before_its_file_goes(node: Node) -> None:
    before = node.tree()
    todo = Plan(write=(node.file("etc/ours.service", "[Unit]"),), start=(Unit("ours.service"),))
    node.deploy("log_mount", todo, before='cat() { command cat "$@"; }; : ')
    node.path("units/ours.service").write_text("active enabled\n")
    node.undo(
        "log_mount", before=f'rm() {{ echo rm $* >>{node.root}/systemctl.log; command rm "$@"; }}'
    )
    acts = [call for call in node.calls if call.split()[0] in ("stop", "disable", "rm")]
    gone = next(n for n, call in enumerate(acts) if call.endswith("etc/ours.service"))
    assert acts.index("stop -- ours.service") < acts.index("disable -- ours.service") < gone
    node.path("units/ours.service").unlink()
    assert node.tree() == before


def test_two_concerns_that_share_a_file_and_a_folder_are_undone_in_any_order(node: Node) -> None:
    node.path("etc/shared").write_text("original")
    before = node.tree()
    for first in ("docker", "kubernetes"):
        for concern in ("docker", "kubernetes"):
            shared = node.file("etc/shared", concern)
            node.deploy(concern, Plan(write=(shared, node.file(f"etc/folder/{concern}", "x"))))
        last = {"docker": "kubernetes", "kubernetes": "docker"}[first]
        noted = node.remembered()
        node.undo(first)
        # only the script sees that a folder is not empty, and then leaves it to nobody
        left = {entry for entry in node.remembered().entries if entry.kind != "folder"}
        foreseen = once_undone(noted, first).entries
        assert left == {entry for entry in foreseen if entry.kind != "folder"}
        assert node.path("etc/shared").read_text() == "kubernetes"
        assert node.path(f"etc/folder/{last}").exists()
        assert not node.path(f"etc/folder/{first}").exists()
        node.undo(last)
        ran = node.run(compose_end(node.remembered()))
        assert ran.returncode == 0, ran.stderr
        assert node.tree() == before
        assert not node.path("var").exists()


def test_of_two_concerns_that_one_operation_undoes_the_last_one_restores_what_they_share() -> None:
    shared = (("package", "absent", "curl"), ("file", "created", "/etc/shared"))
    entries = [Entry(name, *one) for name in ("one", "two") for one in shared]
    with Nodes("pi1").on():
        both = list(_undo(Remembered(tuple(entries)), {"one": Undo(), "two": Undo()}))
    first, last = (command.get_raw_value() for command in both)
    for change in ("purge curl", "remove_file /etc/shared"):
        assert change not in first
        assert change in last


def test_a_second_undo_finds_nothing(node: Node) -> None:
    node.deploy("docker", Plan(write=(node.file("etc/a", "x"),)))
    node.undo("docker")
    assert node.remembered().concerns == ()
    assert changes(node.remembered(), "docker") == Changes()


@pytest.mark.parametrize("step", ["rm", "mv", "cp", "awk"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_undo_that_was_killed_goes_on(node: Node, step: str, count: int) -> None:
    for name in "abc":
        node.path(f"etc/{name}").write_text(f"original {name}")
    before = node.tree()
    files = (*(node.file(f"etc/{name}", "ours") for name in "abc"), node.file("etc/d/e", "ours"))
    node.deploy("docker", Plan(write=files))
    kill = (
        f'{step}() {{ command {step} "$@"; echo >>{node.root}/steps; '
        f'[ "$(wc -l <{node.root}/steps)" -lt {count} ] || kill -9 $$; }}'
    )
    found = node.remembered()
    todo = changes(found, "docker", originals=node.localise(ORIGINALS))
    units = node.UNITS.replace("ROOT", str(node.root))
    node.run(compose(found, "docker", todo), todo.write, before=f"{units}\n{kill}")
    for name in "abc":
        assert node.path(f"etc/{name}").read_text() in ("ours", f"original {name}")
    if node.remembered().concerns:
        node.undo("docker")
    assert node.tree() == before


def test_what_others_made_of_a_file_is_kept_aside(node: Node) -> None:
    node.path("etc/a").write_text("original")
    node.deploy("rsyslog", Plan(write=(node.file("etc/a", "ours"), node.file("etc/b", "ours"))))
    for name in "ab":
        node.path(f"etc/{name}").write_text("the admin's")
    files = node.undo("rsyslog")
    assert node.path("etc/a").read_text() == "original"
    assert not node.path("etc/b").exists()
    for name in "ab":
        assert node.path(f"var/aside{node.root}/etc/{name}").read_text() == "the admin's"
    said = list(warnings(files))
    assert len(said) == 2
    assert f"{node.root}/etc/a was changed since the deploy; a copy of it is in " in said[0]
    ran = node.run(compose_end(node.remembered()))
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in node.path("var").iterdir()] == ["aside"]


def test_any_version_of_ours_is_ours(node: Node) -> None:
    for text in ("first", "second"):
        node.deploy("rsyslog", Plan(write=(node.file("etc/b", text),)))
    node.path("etc/b").write_text("first")
    assert node.undo("rsyslog").aside == ()
    assert not node.path("etc/b").exists()


def test_a_file_in_place_of_our_link_is_left(node: Node) -> None:
    ran = node.run(f"set -eu\nconcern=swap\n{NOTES}\nkeep {node.root}/etc/swap.target; settle")
    assert ran.returncode == 0, ran.stderr
    node.path("etc/swap.target").write_text("the admin's")
    assert node.undo("swap").leave == (str(node.path("etc/swap.target")),)
    assert node.path("etc/swap.target").read_text() == "the admin's"


def test_a_secret_is_overwritten_before_it_is_removed(node: Node) -> None:
    key = node.file("etc/client.key", "SECRET", mode="600", secret=True)
    node.deploy("etcd_certificates", Plan(write=(key,)))
    log = node.path("log")
    node.undo("etcd_certificates", before=f'shred() {{ echo "$*" >{log}; command shred "$@"; }}')
    assert log.read_text() == f"-n 1 -- {key.staged}\n"
    assert not node.path("etc/client.key").exists()
    assert node.leftovers == []


def test_a_secret_that_was_overwritten_when_the_power_went_is_nobody_elses(node: Node) -> None:
    key = node.file("etc/client.key", "SECRET", mode="600", secret=True)
    node.deploy("etcd_certificates", Plan(write=(key,)))
    cut = 'shred() { command shred "$@"; kill -9 $$; }'
    node.undo("etcd_certificates", before=cut, ok=False)
    assert node.undo("etcd_certificates").aside == ()
    assert not node.path("var/aside").exists()
    assert not node.path("etc/client.key").exists()
    assert node.leftovers == []


@pytest.mark.parametrize("order", [("swap", "container_logs"), ("container_logs", "swap")])
@pytest.mark.parametrize("mine", ["", "# mine\n"])
def test_a_merged_file_of_two_concerns_loses_the_part_of_each(
    order: tuple[str, str], mine: str
) -> None:
    table = "UUID=1 / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n"

    def spared(text: str) -> str:
        return with_mount_options(text, "/", ["noatime"])

    parts = {"swap": without_swap, "container_logs": spared}
    written = parts["container_logs"](without_swap(table))
    kinds = (("file", "original"), ("merged", "-"))
    entries = [Entry(concern, kind, state, FSTAB) for concern in order for kind, state in kinds]
    entries.append(Entry("container_logs", "option", "-", "atime /"))
    texts = {f"{DIRECTORY}/written{FSTAB}": written, f"{ORIGINALS}{FSTAB}": table}
    found = Remembered(
        tuple(entries),
        {FSTAB: FileState("file", "644", "root", "root", 9)},
        {path: text.encode() for path, text in {**texts, FSTAB: mine + written}.items()},
    )
    first, second = order

    done = changes(found, first, DECLARED[first].undo)

    (file,) = done.write
    assert file.data.decode() == mine + parts[second](table)
    rest = replace(once_undone(found, first), texts={**found.texts, FSTAB: file.data})
    done = changes(rest, second, DECLARED[second].undo)
    if mine:
        assert [one.data.decode() for one in done.write] == [mine + table]
    else:
        assert done == Changes(restore=(FSTAB,))


@pytest.mark.parametrize("order", [("swap", "container_logs"), ("container_logs", "swap")])
@pytest.mark.parametrize("options", ["defaults,noatime", "defaults,noatime,commit=30", "acl"])
def test_options_that_the_owner_wrote_between_two_concerns_stay(
    node: Node, order: tuple[str, str], options: str
) -> None:
    def write(concern: str, text: str) -> None:
        node.deploy(concern, Plan(write=(node.file("etc/fstab", text, merged=True),)))

    table = "/dev/a / ext4 defaults 0 1\n" + SWAP
    fstab = node.path("etc/fstab")
    fstab.write_text(table)
    write("swap", without_swap(table))
    fstab.write_text(fstab.read_text().replace("defaults", options))
    text = with_mount_options(before := fstab.read_text(), "/", ["noatime", "commit=600"])
    (mount,) = parse_mounts("24 1 179:2 / / rw,relatime shared:1 - ext4 /dev/a rw")
    disk = DataDisk("/var/lib/docker", mount, 5, before)
    notes = compose_notes(disk, [], replaced_options(before, text, "/"))
    ran = node.run(f"set -eu\nconcern=container_logs\n{NOTES}{notes}\nsettle")
    assert ran.returncode == 0, ran.stderr
    write("container_logs", text)

    def real(path: str) -> str:
        return path.replace(f"{node.root}/var", DIRECTORY).replace(str(node.root), "")

    found = node.remembered()
    found = Remembered(
        tuple(replace(entry, name=real(entry.name)) for entry in found.entries),
        {real(path): state for path, state in found.files.items()},
        {real(path): data for path, data in found.texts.items()},
    )
    for concern in order:
        (file,) = changes(found, concern, DECLARED[concern].undo).write
        found = replace(once_undone(found, concern), texts={**found.texts, FSTAB: file.data})
    assert found.texts[FSTAB].decode() == table.replace("defaults", options)


def test_a_merged_file_loses_our_part_only(node: Node) -> None:
    hosts = b"127.0.0.1 localhost\n"
    assert take_out(HOSTS, edit(hosts, NAMES) + b"10.0.0.1 mine\n", hosts, edit(hosts, NAMES)) == (
        hosts + b"10.0.0.1 mine\n"
    )
    table = "UUID=1 / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n"
    ours = without_swap(table).encode()
    assert take_out(FSTAB, b"# mine\n" + ours, table.encode(), ours) == b"# mine\n" + table.encode()
    line, words = b"root=LABEL=x rootwait", b" cgroup_memory=1 cgroup_enable=memory\n"
    assert (
        take_out(CMDLINE, b"mine=1 " + line + words, line, line + words)
        == b"mine=1 " + line + b"\n"
    )
    assert take_out(CMDLINE, line + b" mine=1\n", line, line + words) == line + b" mine=1\n"


NOT_OURS = st.text(st.sampled_from("ab1 =#/\t\n"), max_size=40).map(str.encode)


@given(NOT_OURS, st.booleans())
def test_a_merged_file_that_nobody_else_touched_is_its_original(text: bytes, there: bool) -> None:
    original = text if there else b""
    config = json.dumps({"debug": text.decode()}, indent=1).encode() if there else b""
    line = b"root=LABEL=x " + text.replace(b"\n", b" ")
    words = b" cgroup_memory=1 cgroup_enable=memory\n"
    for path, was, written in (
        (HOSTS, original, edit(original, NAMES)),
        (FSTAB, original, without_swap(original.decode() + SWAP).encode()),
        (DAEMON, config, merge(config, Options("10m", 3))),
        (CMDLINE, line, line + words),
    ):
        was += SWAP.encode() * (path == FSTAB)
        assert take_out(path, written, was, written) == was


def test_what_others_wrote_between_two_of_our_changes_stays() -> None:
    hosts, mine = b"127.0.0.1 localhost\n", b"10.0.0.1 mine\n"
    last = edit(hosts + mine, NAMES)
    assert take_out(HOSTS, last, hosts, last) == hosts + mine
    table, disk = SWAP, "/dev/b /mnt ext4 defaults 0 2\n"
    written = without_swap(table + disk).encode()
    assert take_out(FSTAB, written, table.encode(), written) == (table + disk).encode()
    config = {"debug": True}
    written = merge(json.dumps({**config, "dns": ["10.0.0.1"]}).encode(), Options("10m", 3))
    left = take_out(DAEMON, written, json.dumps(config).encode(), written)
    assert json.loads(left or b"") == {**config, "dns": ["10.0.0.1"]}


def test_a_swap_line_that_was_a_comment_before_stays_one() -> None:
    table = without_swap(SWAP) + SWAP.replace("/swap.img", "/other.img")
    written = without_swap(table)
    assert take_out(FSTAB, written.encode(), table.encode(), written.encode()) == table.encode()


def test_a_file_that_this_package_made_is_removed() -> None:
    for path, written in ((DAEMON, merge(b"", Options("10m", 3))), (HOSTS, edit(b"", NAMES))):
        assert take_out(path, written, None, written) is None


JSON = st.dictionaries(
    st.sampled_from(["log-driver", "dns", "debug", "data-root", "labels", "mtu"]),
    st.one_of(
        st.booleans(), st.lists(st.sampled_from(["a", "b"]), max_size=2), st.just("json-file")
    ),
    max_size=4,
)


@given(JSON, st.dictionaries(st.sampled_from(["insecure", "bip"]), st.integers()))
def test_keys_of_others_stay_in_daemon_json(
    original: dict[str, object], more: dict[str, int]
) -> None:
    before = json.dumps(original).encode()
    written = merge(before, Options("10m", 3, "/mnt/ssd", True))
    current = json.dumps({**json.loads(written), **more}).encode()
    left = take_out(DAEMON, current, before, written)
    assert left is not None
    assert json.loads(left) == {**original, **more}


def test_keys_of_daemon_json_within_others() -> None:
    original = {"log-opts": {"labels": "x"}, "exec-opts": ["mine=1"], "debug": False}
    written = json.loads(merge(json.dumps(original).encode(), Options("10m", 3)))
    current = {**written, "log-opts": {**written["log-opts"], "tag": "t"}, "debug": True}
    current["exec-opts"] = [*written["exec-opts"], "more=1"]
    current["storage-driver"] = "btrfs"
    left = take_out(DAEMON, *(json.dumps(x).encode() for x in (current, original, written)))
    assert left is not None
    assert json.loads(left) == {
        "log-opts": {"labels": "x", "tag": "t"},
        "exec-opts": ["mine=1", "more=1"],
        "debug": True,
        "storage-driver": "btrfs",
    }
    assert take_out(DAEMON, json.dumps({**written, "a": 1}).encode(), None, b"{}") is not None


def test_a_merged_file_that_is_gone_stays_gone(node: Node) -> None:
    node.path("etc/hosts").write_text("original\n")
    node.deploy("hosts_file", Plan(write=(node.file("etc/hosts", "more\n", merged=True),)))
    node.path("etc/hosts").unlink()
    node.undo("hosts_file")
    assert not node.path("etc/hosts").exists()
    assert node.remembered().concerns == ()


def test_a_node_of_a_cluster_is_refused_for_what_it_needs() -> None:
    found = Remembered(
        entries=(Entry("docker", "hold", "set", "a"), Entry("journald", "file", "created", "/b"))
    )
    with pytest.raises(NodeError, match=r"joined a cluster and needs docker\. Drain the node"):
        check_undoable(found, ["docker"], needed=["docker", "kubernetes"])
    check_undoable(found, ["docker"])
    check_undoable(found, ["journald"], needed=["docker", "kubernetes"])
    check_undoable(found, ["kubernetes"], needed=["docker", "kubernetes"])


def programs(folder: Path, **bodies: str) -> str:
    """Make programs that record how they are called; return a shell line that has them found."""
    for name, body in bodies.items():
        path = folder / name.replace("_", "-")
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >>{folder}/log\n{body}\n')
        path.chmod(0o755)
    return f"PATH={folder}:$PATH\n"


PLAIN = """\
patiently() { "$@"; }
apart() { "$@"; }
apt_get() { apt-get -y "$@"; }
refresh() { :; }
begun() { :; }
finished() { :; }
"""

APT_GET = """\
case "$*" in
  *" -s "*) for one in $INSTALLED; do
      case " $* " in *" $one "*) echo "Remv $one [1]" ;; esac
    done
    case " $* " in *" iptables "*)
      [ -n "$NEEDS_IPTABLES" ] && echo "Remv $NEEDS_IPTABLES [1]" ;; esac ;;
esac; exit 0"""


def remove(sandbox: Sandbox, *packages: str, needs: str = "") -> tuple[list[str], str]:
    """Return the calls that remove installed packages, and the entries that are left."""
    names = " ".join(package.split()[1] for package in packages)
    before = programs(
        sandbox.root,
        apt_get=APT_GET,
        dpkg="",
        dpkg_query="""case "$*" in
          *Essential*e2fsprogs*) printf "no no yes" ;;
          *Essential*) printf "no no " ;;
          *Status*) printf installed ;;
        esac""",
    )
    before += f'export INSTALLED="{names}" NEEDS_IPTABLES="{needs}"\n'
    quoted = " ".join(f"'{package}'" for package in packages)
    script = f'{PRELUDE}{NOTES}{PLAIN}{UNDOING}\nremove_packages {quoted}\nprintf %s "$left"'
    # paths outside this package's own folders are left alone here
    script = script.replace("[ -d /opt ] || mkdir -m 755 /opt", ":")
    ran = sandbox.run(script.replace("/var/lib/docker", f"{sandbox.root}/docker"), before=before)
    assert ran.returncode == 0, ran.stderr
    log = (sandbox.root / "log").read_text().splitlines()
    acts = [line for line in log if line.startswith(("apt-get", "dpkg --")) and " -s " not in line]
    return acts, ran.stdout


def test_what_was_installed_is_purged_and_dockers_data_stays(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    script = tmp_path / "docker/nuke-graph-directory.sh"
    script.parent.mkdir()
    script.touch()
    acts, _ = remove(sandbox, "purge docker.io", "remove runc")
    assert acts[0].endswith("remove -- docker.io runc")
    assert acts[1] == "dpkg --purge docker.io"
    assert not script.exists(), "its purge would call this, which removes all data"


def test_a_link_in_place_of_a_packages_folder_stays(tmp_path: Path) -> None:
    """dpkg removes such a folder with the package (findings/dpkg-link-for-folder.sh)."""
    (tmp_path / "etc/dotfiles").mkdir(parents=True)
    link, own = tmp_path / "etc/docker", tmp_path / "usr"
    link.symlink_to("dotfiles")
    own.symlink_to("etc")
    script = f"{PRELUDE}{NOTES}{PLAIN}{UNDOING}\nremove_packages 'purge docker.io'"
    script = script.replace("[ -d /opt ] || mkdir -m 755 /opt", ":")
    script = script.replace("/etc/* |", f"{tmp_path}/etc/* |")
    before = programs(
        tmp_path,
        apt_get="exit 0",
        dpkg=f"rm {link} {own}",
        dpkg_query=f"""case "$*" in
          -L*) printf "{tmp_path}/etc\n{link}\n{own}\n" ;;
          *Status*) printf installed ;;
        esac""",
    )
    ran = Sandbox(tmp_path).run(script.replace("/var/lib/docker", f"{tmp_path}/d"), before=before)
    assert ran.returncode == 0, ran.stderr
    assert str(link.readlink()) == "dotfiles"
    assert not own.is_symlink(), "it is the package's"


def test_what_others_need_stays_and_is_left_to_nobody(tmp_path: Path) -> None:
    acts, said = remove(Sandbox(tmp_path), "purge docker.io", "purge iptables", needs="kubelet")
    assert acts[0].endswith("remove -- docker.io")
    assert acts[1] == "dpkg --purge docker.io"
    assert "iptables stays, for it is needed by: kubelet" in said
    assert said.endswith("package\tiptables\n")


def test_what_every_system_needs_stays(tmp_path: Path) -> None:
    acts, said = remove(Sandbox(tmp_path), "purge e2fsprogs", "purge attr")
    assert acts[0].endswith("remove -- attr")
    assert "e2fsprogs stays" in said


def again(
    sandbox: Sandbox, *packages: str, madison: str = "", apt_get: str = "", installed: str = "none"
) -> tuple[int, list[str], str]:
    """Return the calls that install removed packages again."""
    before = programs(
        sandbox.root,
        apt_get=apt_get,
        apt_cache=madison,
        dpkg_query=f'case "$*" in *" {installed}") printf installed ;; esac',
    )
    quoted = " ".join(f"'{package}'" for package in packages)
    script = f"{PRELUDE}{NOTES}{PLAIN}{UNDOING}{REINSTALL}\npin=/none\nreinstall {quoted}"
    ran = sandbox.run(script, before=before)
    log = (sandbox.root / "log").read_text().splitlines()
    assert not list(sandbox.root.glob("run/pins*"))
    return ran.returncode, [line for line in log if line.startswith("apt-get")], ran.stderr


OFFERS = 'case $2 in snapd) echo "snapd | 2.68 | http://a"; echo "snapd | 2.70 | http://a" ;; esac'


def test_the_recorded_version_is_installed_where_the_archive_has_it(tmp_path: Path) -> None:
    status, calls, _ = again(Sandbox(tmp_path), "snapd 2.68", madison=OFFERS)
    assert status == 0
    assert [call.split(" install ")[1] for call in calls if "--download-only" not in call] == [
        "-- snapd=2.68",  # whether it can be installed, what comes with it, and the installation
        "-- snapd=2.68",
        "-- snapd=2.68",
    ]
    assert [n for n, call in enumerate(calls) if "--download-only" in call] == [1]


def test_another_version_is_better_than_none(tmp_path: Path) -> None:
    status, calls, _ = again(Sandbox(tmp_path), "snapd 2.50", madison=OFFERS)
    assert status == 0
    assert calls[-1].endswith("install -- snapd")


def test_a_kept_package_is_installed_where_no_archive_has_its_version(tmp_path: Path) -> None:
    (tmp_path / "var/packages").mkdir(parents=True)
    (tmp_path / "var/packages/tool.deb").touch()
    status, calls, _ = again(Sandbox(tmp_path), "tool 1")
    assert status == 0
    assert calls[-1].endswith(f"install -- {tmp_path}/var/packages/tool.deb")


def test_versions_that_do_not_fit_any_more_are_let_go(tmp_path: Path) -> None:
    refuse_exact = 'case "$*" in *" -s "*=*) exit 100 ;; esac'
    status, calls, _ = again(Sandbox(tmp_path), "snapd 2.68", madison=OFFERS, apt_get=refuse_exact)
    assert status == 0
    assert calls[-1].endswith("install -- snapd")


def test_a_package_that_cannot_be_had_is_told_and_the_others_are_installed(tmp_path: Path) -> None:
    status, calls, errors = again(Sandbox(tmp_path), "snapd 2.68", "lost 3", madison=OFFERS)
    assert status == 0
    assert calls[-1].endswith("install -- snapd=2.68")
    assert errors == "lost 3 was removed and cannot be had again: no archive offers it\n"


def test_a_package_that_cannot_be_had_is_noted_until_it_is_back(node: Node) -> None:
    lines = 'note removed "3 manual -" lost; note manual auto udev; settle'
    assert node.run(f"set -eu\nconcern=packages\n{NOTES}\n{lines}").returncode == 0
    script = f"set -eu\nconcern=packages\n{NOTES}{UNDOING}\npostpone removed lost; forget"
    assert node.run(script).returncode == 0
    left = node.remembered()
    assert [entry.name for entry in left.entries] == ["lost"]
    assert "a deploy had removed: lost 3. Everything else was " in not_undone(left)
    assert not_undone(left, ["docker"]) == not_undone(Remembered()) == ""


def test_a_download_that_fails_installs_none(tmp_path: Path) -> None:
    fail = 'case "$*" in *--download-only*) echo "E: Failed to fetch x"; exit 100 ;; esac'
    status, calls, errors = again(Sandbox(tmp_path), "snapd 2.68", madison=OFFERS, apt_get=fail)
    assert status == 1
    assert "--download-only" in calls[-1]
    assert "E: Failed to fetch x" in errors
    assert "snapd cannot be fetched; fix the node's network" in errors


def test_what_is_installed_already_needs_no_archive(tmp_path: Path) -> None:
    status, calls, _ = again(Sandbox(tmp_path), "snapd 2.68", installed="snapd")
    assert (status, calls) == (0, [])


def test_packages_are_had_before_anything_is_changed() -> None:
    found = Remembered(
        entries=(
            Entry("packages", "file", "created", "/etc/apt/preferences.d/chaos-engine-removed"),
            Entry("packages", "removed", "2.68 auto -", "snapd"),
            Entry("packages", "removed", "1 manual hold", "lvm2"),
            Entry("packages", "manual", "auto", "udev"),
        )
    )
    script = compose(found, "packages", changes(found, "packages"))
    calls = script.partition(REINSTALL)[2].strip().splitlines()
    assert calls[0] == "reinstall 'snapd 2.68' 'lvm2 1'"
    assert calls.index("mark_again auto snapd") < calls.index(
        "remove_file /etc/apt/preferences.d/chaos-engine-removed"
    )
    assert "mark_again hold lvm2" in calls
    assert "auto_again udev" in calls


@pytest.mark.parametrize(
    ("value", "names"),
    [("docker", ("docker",)), ("docker, swap", ("docker", "swap")), (["kernel"], ("kernel",))],
)
def test_concerns_are_named_as_text_or_as_a_list(value: object, names: tuple[str, ...]) -> None:
    with Nodes("pi1", data={"chaos_undo": value}).on():
        assert UndoSettings.resolve().undo == names


def test_a_concern_that_nobody_knows_is_refused() -> None:
    with (
        Nodes("pi1", override={"chaos_undo": "dokcer"}).on(),
        pytest.raises(SettingsError) as error,
    ):
        UndoSettings.resolve()
    assert "pi1, --data: chaos_undo" in str(error.value)
    assert "dokcer is no concern; did you mean docker?" in str(error.value)


@pytest.mark.parametrize("value", ["", " ", ",", [], ()])
def test_nothing_named_is_not_everything(value: object) -> None:
    with (
        Nodes("pi1", override={"chaos_undo": value}).on(),
        pytest.raises(SettingsError, match="remove the setting to undo all concerns"),
    ):
        UndoSettings.resolve()
    with Nodes("pi1").on():
        assert UndoSettings.resolve().undo is None


def test_a_node_of_a_cluster_needs_what_its_concerns_declare() -> None:
    needed = [name for name in reversed(ORDER) if DECLARED[name].undo.needed_when_joined]
    assert needed == [
        *("hosts_file", "log_mount", "docker", "swap", "cri_dockerd", "kubernetes"),
        *("etcd_certificates", "kernel"),
    ]


def test_a_merged_file_that_no_concern_knows_is_left_to_its_owner() -> None:
    with pytest.raises(NodeError, match="no concern declares how to remove them"):
        take_out("/etc/other", b"now", b"before", b"ours")


def test_the_order_is_that_of_the_roles_from_the_end() -> None:
    assert ORDER[0] == "haproxy"
    assert ORDER.index("kubernetes") < ORDER.index("cri_dockerd") < ORDER.index("docker")
    assert ORDER[-1] == "hosts_file"
    assert not {"preflight", "reboot", "uncordon"} & {*ORDER}


def test_a_node_that_remembers_nothing_is_left_as_it_is() -> None:
    if Path(DIRECTORY).exists():
        pytest.skip("this computer is a node")
    run = Nodes("pi1")
    run.prepare(deploy)
    assert run.planned() == []
    run.execute()
    assert run.changed() == []
    assert run.failed == set()
    assert not Path(ASIDE).exists()


@pytest.mark.parametrize("there", [True, False])
def test_an_image_with_a_digest_is_removed(tmp_path: Path, there: bool) -> None:
    """Docker does so: ``docker image ls`` lists no image by tag and digest together."""
    image = f"haproxy:3.0@sha256:{'c2' * 32}"
    docker = f"""
    docker_runs() {{ :; }}
    docker() {{
      echo "$*" >>{tmp_path}/docker.log
      case "$1 $2" in "image inspect") {str(there).lower()} ;; "image ls") ;; esac
    }}
    """
    done = Sandbox(tmp_path).run(f"{NOTES}{UNDOING}{docker}drop_image {image}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    removed = [
        line for line in (tmp_path / "docker.log").read_text().splitlines() if " rm " in line
    ]
    assert removed == ([f"image rm -- {image}"] if there else [])


def test_a_written_file_keeps_what_it_has(node: Node) -> None:
    path = node.path("etc/hosts")
    path.write_text("127.0.0.1 localhost\n")
    path.chmod(0o640)
    file = File(str(path), "x\n", merged=True)
    node.deploy("hosts_file", Plan(write=(node.file("etc/hosts", "ours\n", merged=True),)))
    script = compose(node.remembered(), "hosts_file", Changes(write=(file,)))
    assert node.run(script, [file]).returncode == 0
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("x\n", 0o640)
