"""Test container logs: where Docker's data lie, and how fstab and mount options are changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_engine.deploys.container_logs import ContainerLogsSettings, sysctls
from chaos_engine.facts.container_logs import (
    DataDisk,
    DockerDisk,
    LostOptions,
    commit_seconds,
)
from chaos_engine.facts.docker import Engine
from chaos_engine.facts.fstab import entries, options, with_options
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.mounts import Mount, parse_mounts
from chaos_engine.facts.observe import NodeError, Read
from chaos_engine.operations.container_logs import (
    REMOUNT,
    compose,
    compose_notes,
    present_data_root,
    repairs,
    unsuitable,
)
from chaos_engine.operations.fstab import (
    family,
    merged,
    replaced_options,
    restored,
    with_mount_options,
)
from chaos_engine.operations.swap import without_swap
from chaos_engine.operations.sysctl import render
from tests.unit.asking import ask
from tests.unit.test_swap import FSTAB_DEBIAN, FSTAB_PI_OS, FSTAB_UBUNTU

WANTED = ("noatime", "lazytime", "commit=600")
ROOT = "24 1 179:2 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro"
SSD = "90 24 8:1 / /mnt/ssd rw,noatime shared:9 - ext4 /dev/sda1 rw,lazytime"


def mount(line: str = ROOT) -> Mount:
    (found,) = parse_mounts(line)
    return found


def disk(line: str = ROOT, commit: int | None = 5, fstab: str = FSTAB_UBUNTU) -> DataDisk:
    return DataDisk("/var/lib/docker", mount(line), commit, fstab)


def undone(now: str, original: str, before: str, written: str) -> str:
    """Return fstab after undo.

    + original: fstab before this package's first change, which may be by another concern
    + before: fstab before the concern's first edit
    """
    replaced = {("/", name): old for name, old in replaced_options(before, written, "/").items()}
    return restored(now.encode(), original.encode(), written.encode(), replaced).decode()


@pytest.mark.parametrize(
    ("present", "result"),
    [
        ("defaults", "defaults,noatime,lazytime,commit=600"),
        ("defaults,noatime", "defaults,noatime,lazytime,commit=600"),  # Raspberry Pi OS
        ("discard,errors=remount-ro", "discard,errors=remount-ro,noatime,lazytime,commit=600"),
        ("relatime,commit=30,nolazytime,discard", "discard,noatime,lazytime,commit=600"),
        ("commit=600,lazytime,noatime", "commit=600,lazytime,noatime"),
        ("noatime,nodiratime,atime", "noatime,nodiratime,lazytime,commit=600"),
        ("", "noatime,lazytime,commit=600"),
    ],
)
def test_wanted_options_replace_those_of_their_family_only(present: str, result: str) -> None:
    assert merged(present, WANTED) == result
    assert merged(result, WANTED) == result


def test_what_is_not_wanted_is_not_touched() -> None:
    assert merged("atime,commit=30", ["lazytime"]) == "atime,commit=30,lazytime"


def test_a_line_keeps_all_but_its_options() -> None:
    line = "UUID=6f1c\t/ ext4   errors=remount-ro 0\t1 # mine"
    assert options(line) == "errors=remount-ro"
    assert with_options(line, "noatime") == "UUID=6f1c\t/ ext4   noatime 0\t1 # mine"
    assert options("/dev/sda1 / ext4") == ""
    assert with_options("/dev/sda1 / ext4", "noatime") == "/dev/sda1 / ext4 noatime"
    with pytest.raises(ValueError, match="fewer than three fields"):
        with_options("/dev/sda1 /", "noatime")


@pytest.mark.parametrize(
    ("fstab", "before", "after"),
    [
        (
            FSTAB_PI_OS,
            "ext4    defaults,noatime  0",
            "ext4    defaults,noatime,lazytime,commit=600  0",
        ),
        (FSTAB_UBUNTU, "ext4\tdefaults\t0", "ext4\tdefaults,noatime,lazytime,commit=600\t0"),
        (
            FSTAB_DEBIAN,
            "errors=remount-ro 0",
            "errors=remount-ro,noatime,lazytime,commit=600 0",
        ),
        ("/dev/a / ext4", "/ ext4", "/ ext4 noatime,lazytime,commit=600"),
    ],
)
def test_the_entry_of_the_root_gets_the_options_and_undo_removes_them(
    fstab: str, before: str, after: str
) -> None:
    edited = with_mount_options(fstab, "/", WANTED)

    assert edited == fstab.replace(before, after)
    assert with_mount_options(edited, "/", WANTED) == edited
    # an entry without the field gets what that means
    assert undone(f"# mine\n{edited}", fstab, fstab, edited) == (
        f"# mine\n{fstab}" + " defaults" * fstab.endswith("ext4")
    )


def test_a_comment_that_names_the_root_is_no_entry() -> None:
    fstab = f"# /dev/old / ext4 defaults 0 1\n{FSTAB_UBUNTU}"
    assert with_mount_options(fstab, "/", ["noatime"]).startswith("# /dev/old / ext4 defaults 0 1")


@pytest.mark.parametrize(
    ("fstab", "says"),
    [
        ("", "no entry for /mnt/ssd"),
        ("#/dev/sda1 /mnt/ssd ext4 defaults 0 2\n", "no entry for /mnt/ssd"),
        ("/dev/a /mnt/ssd ext4\n/dev/b /mnt//ssd ext4 ro\n", "in lines 1 and 2; keep one"),
        ("/dev/a /mnt/ssd ext4 defaults\r\n", "line 1 ends with a carriage return"),
        ("/dev/a /mnt/ssd\n", "line 1 has no type"),
        ("\n\t/dev/a  /mnt/ssd/ ", "line 2 has no type"),
    ],
)
def test_an_entry_that_cannot_be_edited_is_told(fstab: str, says: str) -> None:
    with pytest.raises(NodeError, match=says):
        with_mount_options(fstab, "/mnt/ssd", WANTED)


def test_undo_keeps_what_the_owner_has_changed_since() -> None:
    original = "/dev/a / ext4 discard,relatime,commit=30 0 1\n"
    written = with_mount_options(original, "/", WANTED)
    assert written == "/dev/a / ext4 discard,noatime,lazytime,commit=600 0 1\n"

    changed = written.replace("commit=600", "commit=60,acl")
    assert undone(changed, original, original, written) == (
        "/dev/a / ext4 discard,commit=60,acl,relatime 0 1\n"
    )
    # another entry in its place is the owner's
    other = "/dev/b / ext4 noatime,lazytime 0 1\n"
    assert undone(other, original, original, written) == other
    # with the very same options, it is the same entry on another card
    copied = written.replace("/dev/a", "/dev/b")
    assert undone(copied, original, original, written) == original.replace("/dev/a", "/dev/b")


@pytest.mark.parametrize("now", ["", "# mine\n"])
def test_undo_keeps_options_that_the_owner_wrote_before_ours(now: str) -> None:
    """The first change was another concern's: swap keeps the original of fstab, too."""
    original = "/dev/a / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n"
    before = without_swap(original).replace("defaults", "defaults,noatime")
    written = with_mount_options(before, "/", ["noatime", "commit=600"])
    assert "defaults,noatime,commit=600" in written
    assert replaced_options(before, written, "/") == {"commit": ""}
    assert undone(now + written, original, before, written) == now + before


def test_undo_gives_back_an_option_that_the_owner_wrote_before_ours() -> None:
    original = "/dev/a / ext4 defaults 0 1\n"
    before = original.replace("defaults", "defaults,commit=30")
    written = with_mount_options(before, "/", ["commit=600"])
    assert undone(written, original, before, written) == before


def test_undo_leaves_the_part_of_the_concern_swap() -> None:
    before = without_swap(FSTAB_UBUNTU)
    written = with_mount_options(before, "/", WANTED)
    assert undone(written, FSTAB_UBUNTU, before, written) == before


def test_undo_leaves_a_line_that_mounts_nothing_there() -> None:
    swap = "LABEL=x / swap nolazytime,lazytime 0 0\n"
    original = f"{swap}/dev/a / ext4 acl 0 1\n"
    written = with_mount_options(original, "/", ["lazytime"])
    assert written == f"{swap}/dev/a / ext4 acl,lazytime 0 1\n"
    assert undone(written, original, original, written) == original


def test_undo_of_an_entry_that_the_owner_added_after_the_first_change() -> None:
    original = "/swapfile none swap sw 0 0\n"
    added = f"{original}/dev/a / ext4 discard,errors=remount-ro 0 1\n"
    written = with_mount_options(added, "/", WANTED)
    assert undone(written, original, added, written) == added


OPTION = st.sampled_from(
    [*WANTED, "relatime", "strictatime", "nolazytime", "commit=5", "discard", "acl", "defaults"]
)


@given(st.lists(OPTION, min_size=1, max_size=5, unique=True), st.lists(OPTION, unique=True))
def test_undo_of_any_options_gives_the_original(present: list[str], wanted: list[str]) -> None:
    wanted = list({family(option): option for option in wanted if family(option)}.values())
    original = f"/dev/a / ext4 {','.join(present)} 0 1\n"
    written = with_mount_options(original, "/", wanted)
    last = {family(o): o for o in options(written).split(",")}
    assert all(last[family(option)] == option for option in wanted)
    assert undone(written, original, original, written) == original
    assert [one.target for one in entries(written)] == ["/"]


def test_the_disk_of_a_folder_is_found_without_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for name in ("link/docker", "there/docker"):
        found = ask(DockerDisk, path=f"{tmp_path}/{name}")
        assert found.path == f"{tmp_path.resolve()}/there/docker"
        said = subprocess.run(
            ["findmnt", "-no", "TARGET", "--target", str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.mount.target == said.stdout.strip()
    assert ask(DockerDisk, path="/proc/sys").mount.fstype == "proc"


def test_the_nearest_mount_counts() -> None:
    read = Read.of(DockerDisk, path="/mnt/ssd/docker").parts[0]
    found = read.process(["path /mnt/ssd/docker", f"mount {ROOT}", f"mount {SSD}"])
    assert found == ("/mnt/ssd/docker", mount(SSD))


PARTITIONS = "major minor  #blocks  name\n\n 179        2   30000 mmcblk0p2\n   8 1 1 sda1\n"
WITH_JOURNAL = "rw\nbsddf\nerrors=continue\ncommit=30\ndata=ordered\n"


@pytest.mark.parametrize(
    ("line", "options", "seconds"),
    [
        (ROOT, WITH_JOURNAL, 30),
        (ROOT, "rw\nbsddf\ncommit=5\n", None),  # no journal
        (ROOT, None, 5),  # no such file, as in a container
        (f"{ROOT},commit=600", None, 600),
        (ROOT.replace("ext4", "btrfs"), WITH_JOURNAL, None),
    ],
)
def test_the_seconds_between_commits_are_read(
    line: str, options: str | None, seconds: int | None
) -> None:
    texts = {"/proc/partitions": PARTITIONS, "/proc/fs/ext4/sda1/options": "commit=9\n"}
    if options is not None:
        texts["/proc/fs/ext4/mmcblk0p2/options"] = options
    assert commit_seconds(mount(line), texts) == seconds


def test_options_in_force_are_one_of_each_family() -> None:
    assert disk().options == ("relatime", "nolazytime", "commit=5")
    assert disk(SSD, 60).options == ("noatime", "lazytime", "commit=60")
    assert disk(ROOT.replace("rw,relatime", "rw"), None).options == ("strictatime", "nolazytime")


def test_only_ext4_of_its_own_is_changed() -> None:
    assert unsuitable(disk()) == ""
    assert unsuitable(disk(ROOT.replace("ext4", "overlay"))) == (
        "/var/lib/docker is on /, which is overlay and not ext4"
    )
    assert "a folder of another file system" in unsuitable(disk(ROOT.replace(" / / ", " /a / ")))


@pytest.mark.parametrize(
    ("engine", "config", "root"),
    [
        (None, None, "/var/lib/docker"),
        (None, b'{"data-root": "/mnt/ssd/docker"}', "/mnt/ssd/docker"),
        (None, b'{"data-root": 5}', "/var/lib/docker"),
        ("/srv/docker", b'{"data-root": "/mnt/ssd/docker"}', "/srv/docker"),
    ],
)
def test_the_running_docker_knows_best_where_its_data_are(
    engine: str | None, config: bytes | None, root: str
) -> None:
    running = engine and Engine("26.1.5", "systemd", "overlay2", "json-file", engine, False, 0)
    assert present_data_root(running or None, config) == root


def test_what_was_in_force_is_noted_and_what_differs_is_mounted() -> None:
    assert compose_notes(
        disk(), ["noatime", "commit=600"], {"atime": "", "commit": "commit=9"}
    ) == (
        "note mount relatime 'atime /'\nnote mount commit=5 'commit /'\n"
        "note option - 'atime /'\nnote option commit=9 'commit /'"
    )
    assert compose("/", []) == "systemctl daemon-reload"
    assert compose("/", ["noatime", "commit=600"]).endswith("remount / noatime,commit=600")


def test_a_repair_of_mount_options_names_option_and_target() -> None:
    (repair,) = repairs("/", ["commit=600"], written=False)
    assert (repair.thing, repair.wanted, repair.kind) == ("commit of /", "commit=600", "mount")
    assert repair.name == "commit /"
    (repair,) = repairs("/", ["commit=600"], written=True)
    assert (repair.kind, repair.name) == ("file", "/etc/fstab")


def script(tmp_path: Path, text: str, shown: str) -> subprocess.CompletedProcess[str]:
    """Run the functions for mounting, with a table of mounts in which `mount` adds options."""
    table = tmp_path / "mountinfo"
    table.write_text(f"{shown}\n")
    functions = REMOUNT.replace("/proc/self/mountinfo", str(table))
    stand_in = f'mount() {{ echo "$*" >>{tmp_path}/calls; }}\n'
    return subprocess.run(
        ["sh", "-euc", f"{stand_in}{functions}{text}"], capture_output=True, text=True, check=False
    )


def test_options_that_have_no_effect_are_an_error(tmp_path: Path) -> None:
    done = script(tmp_path, "remount / noatime,lazytime,commit=600", ROOT)
    assert done.returncode == 1
    assert done.stderr == "mount -o remount,noatime has no effect on /\n"
    shown = "24 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw,lazytime,commit=600"
    done = script(tmp_path, "remount / noatime,lazytime,commit=600", shown)
    assert (done.returncode, done.stderr) == (0, "")
    # fstab may have "ro"
    assert (tmp_path / "calls").read_text() == (
        "-o remount,rw,noatime,lazytime,commit=600 -- /\n" * 2
    )


def test_undo_mounts_as_before_what_is_still_mounted(tmp_path: Path) -> None:
    done = script(
        tmp_path, "remount_again 'atime /' relatime\nremount_again 'commit /' commit=5", ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = script(tmp_path, "remount_again 'atime /mnt/ssd' relatime", ROOT)
    assert done.returncode == 0
    done = script(
        tmp_path,
        "remount_again 'lazytime /mnt/a b' nolazytime",
        SSD.replace("ssd", r"a\040b").replace("lazytime", "acl"),
    )
    assert done.returncode == 0
    assert (tmp_path / "calls").read_text().splitlines() == [
        "-o remount,rw,relatime -- /",
        "-o remount,rw,commit=5 -- /",
        "-o remount,rw,nolazytime -- /mnt/a b",
    ]


@pytest.mark.parametrize(
    ("noted", "fstab", "shown", "lost"),
    [
        ("", "/dev/a / ext4 noatime,commit=600", ROOT, ()),  # no run has changed it
        ("atime /", "/dev/a / ext4 noatime", ROOT, ("noatime of /",)),
        ("atime /", "/dev/a / ext4 noatime,commit=5", ROOT.replace("relatime", "noatime"), ()),
        ("commit /", "/dev/a / ext4 commit=600", ROOT, ("commit=600 of /",)),
        ("commit /", "/dev/a / ext4 commit=600", f"{ROOT},commit=600", ()),
        ("commit /", "# /dev/a / ext4 commit=600", ROOT, ()),
        # fstab is read as systemd and mount read it
        ("commit /mnt/ssd", "/dev/a /mnt/ssd/ ext4 commit=9", SSD, ("commit=9 of /mnt/ssd",)),
        ("atime /mnt/ssd", "/dev/a /mnt//ssd ext4 noatime,lazytime", SSD, ()),
        (
            "atime /mnt/a b",
            "/dev/a /mnt/a\\040b ext4 noatime",
            SSD.replace("ssd", "a\\040b").replace("noatime", "relatime"),
            ("noatime of /mnt/a b",),
        ),
        ("atime /mnt/ssd", "/dev/a /mnt/ssd ext4 noatime", ROOT, ("noatime of /mnt/ssd",)),
        ("atime /mnt/ssd", "/dev/a /mnt/ssd", SSD, ()),
    ],
)
def test_a_mount_that_lost_its_options_is_seen(
    noted: str, fstab: str, shown: str, lost: tuple[str, ...]
) -> None:
    line = f"container_logs\tmount\trelatime\t{noted}"
    found = LostOptions().compose(
        {
            # The last line was cut short
            MANIFEST: f"{line}\t.\n{line}\t.\ncontainer_logs\tmount\tx\tatime /".encode()
            if noted
            else None,
            "/etc/fstab": fstab.encode(),
            "/proc/self/mountinfo": f"{shown}\n".encode(),
        }
    )
    assert found == lost


def test_only_the_mounts_that_a_run_has_changed_are_read(tmp_path: Path) -> None:
    places = {
        MANIFEST: "swap\tmount\t-\ta /\t.\ncontainer_logs\tmount\trelatime\tatime /\t.\n",
        "/etc/fstab": "/dev/a / ext4 noatime\n",
        "/proc/self/mountinfo": f"{ROOT}\n25 24 0:5 / /x rw - overlay overlay rw\n",
    }
    (read,) = Read.of(LostOptions).parts
    command = read.command.get_raw_value()
    for number, (path, text) in enumerate(places.items()):
        (tmp_path / str(number)).write_text(text)
        command = command.replace(path, str(tmp_path / str(number)))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    texts = {
        path: read.process(done.stdout.splitlines())[f"{tmp_path}/{number}"]
        for number, path in enumerate(places)
    }
    assert texts["/proc/self/mountinfo"] == f"{ROOT}\n".encode()
    assert LostOptions().compose(texts) == ("noatime of /",)


def test_each_setting_is_a_switch_of_its_own() -> None:
    assert ContainerLogsSettings().mount_options == ()
    given = ContainerLogsSettings(container_logs_commit=600)
    assert given.mount_options == ("commit=600",)
    assert ContainerLogsSettings(container_logs_noatime=True).mount_options == ("noatime",)


@pytest.mark.parametrize("seconds", [30, 100, 600, 3600])
def test_data_wait_no_longer_than_the_setting_says(seconds: int) -> None:
    found = {name: int(value) for name, value in sysctls(seconds).items()}
    assert set(found) == {"vm.dirty_expire_centisecs", "vm.dirty_writeback_centisecs"}
    assert sum(found.values()) == seconds * 100
    assert 500 <= found["vm.dirty_writeback_centisecs"] <= 6000


def test_a_file_of_modules_is_written_for_modules_only() -> None:
    (file,) = render("container-logs", (), sysctls(600))
    assert file.path == "/etc/sysctl.d/99-container-logs.conf"
    assert file.content == (
        "# Written by chaos-engine\n"
        "vm.dirty_expire_centisecs = 54000\nvm.dirty_writeback_centisecs = 6000\n"
    )
    assert len(render("kubernetes", ("overlay",), {})) == 2
