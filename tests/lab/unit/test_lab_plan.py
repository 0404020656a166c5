"""The lab's plan: names, addresses, options."""

from __future__ import annotations

import pytest

from tests.lab import plan
from tests.lab.errors import LabError


def test_defaults_are_the_site_of_the_chaos_engine() -> None:
    lab = plan.make(name="lab")
    assert {node.name: node.address for node in lab.nodes} == {
        "etcd1": "192.168.1.40",
        "etcd2": "192.168.1.41",
        "etcd3": "192.168.1.42",
        "pi1": "192.168.1.50",
        "pi4": "192.168.1.53",
        "pi5": "192.168.1.54",
        "pi7": "192.168.1.56",
    }
    assert lab.gateway == "192.168.1.1"
    assert lab.swap == "pi1"


def test_another_subnet_keeps_the_host_numbers() -> None:
    lab = plan.make(name="lab", subnet="10.20.0.0/16", workers=("pi10",), storage=("etcd1",))
    assert [node.address for node in lab.nodes] == ["10.20.0.40", "10.20.0.59"]
    assert (lab.gateway, lab.computer, lab.registry) == ("10.20.0.1", "10.20.0.2", "10.20.0.3")


def test_every_node_has_a_hardware_address_of_its_own() -> None:
    lab = plan.make(name="lab", workers=plan.WORKERS)
    addresses = {node.mac for node in lab.nodes}
    assert len(addresses) == len(lab.nodes)
    assert all(address.startswith("dc:a6:32:") for address in addresses)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0", ()),
        ("2", ("pi1", "pi2")),
        ("10", plan.SITE),
        ("pi5", ("pi5",)),
        ("pi10, pi2,pi2", ("pi2", "pi10")),
    ],
)
def test_workers_are_a_number_or_names(text: str, names: tuple[str, ...]) -> None:
    assert plan.parse_workers(text) == names


@pytest.mark.parametrize("text", ["51", "pi51", "pi1,etcd1"])
def test_unknown_workers_are_refused(text: str) -> None:
    with pytest.raises(LabError, match="--workers"):
        plan.parse_workers(text)


@pytest.mark.parametrize("text", ["4", "etcd1", ""])
def test_storage_is_a_number(text: str) -> None:
    with pytest.raises(LabError, match="--storage"):
        plan.parse_storage(text)


@pytest.mark.parametrize("text", ["192.168.1.0/25", "192.168.1.1/24", "fd00::/64", "lan"])
def test_a_subnet_without_room_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="--subnet"):
        plan.parse_subnet(text)


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a" * 17, "a/b", "a b", "-a"])
def test_names_that_the_kernel_could_not_take_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="--name"):
        plan.check_name(name)


def test_options_for_a_worker_that_is_not_there_are_refused() -> None:
    with pytest.raises(LabError, match="--legacy pi9"):
        plan.make(name="lab", legacy=["pi9"])
    with pytest.raises(LabError, match="--sudo-password pi9"):
        plan.make(name="lab", sudo_password=["pi9"])
    with pytest.raises(LabError, match="--swap etcd1"):
        plan.make(name="lab", swap="etcd1")


@pytest.mark.parametrize(
    ("text", "parsed", "mib"),
    [
        ("pi1", "pi1=4096M", 4096),
        ("pi1=900M", "pi1=900M", 900),
        ("pi1=2G", "pi1=2048M", 2048),
    ],
)
def test_a_card_has_a_size(text: str, parsed: str, mib: int) -> None:
    assert plan.parse_card(text) == parsed
    assert plan.make(name="lab", card=[text]).cards == {"pi1": mib}


@pytest.mark.parametrize(
    "text", ["pi1=", "pi1=4", "pi1=4T", "pi1=10M", "pi1=512M", "=4G", "pi9", "etcd1"]
)
def test_a_card_without_a_size_or_a_worker_is_refused(text: str) -> None:
    with pytest.raises(LabError, match=f"--card {text}"):
        plan.make(name="lab", card=[text])


def test_a_card_speed_is_one_of_the_known_and_of_a_card() -> None:
    lab = plan.make(name="lab", card=["pi1"], card_speed="poor")
    assert lab.card_speed == "poor"
    with pytest.raises(LabError, match=r"--card-speed slow: one of good, poor"):
        plan.make(name="lab", card=["pi1"], card_speed="slow")
    with pytest.raises(LabError, match=r"--card-speed poor: no worker has a card"):
        plan.make(name="lab", card_speed="poor")


def test_a_userland_that_the_suite_has_no_packages_for_is_refused() -> None:
    with pytest.raises(LabError, match="bookworm has no package sudo-rs"):
        plan.make(name="lab", suite="bookworm", userland="ubuntu26")
    assert plan.make(name="lab", suite="forky", userland="ubuntu26").userland == "ubuntu26"


def test_no_worker_no_swap() -> None:
    assert plan.make(name="lab", workers=()).swap == plan.NO_NODE
    assert plan.make(name="lab", swap=plan.NO_NODE).swap == plan.NO_NODE


def test_an_unknown_node_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(LabError, match=r"'pi2'.*etcd1, etcd2, etcd3, pi1"):
        plan.make(name="lab", workers=("pi1",)).node("pi2")


def test_a_plan_survives_its_file() -> None:
    lab = plan.make(
        name="lab",
        sudo_password=["pi4"],
        card=["pi5=1G"],
        card_speed="good",
        legacy=["pi7"],
        like="/x",
    )
    assert plan.Plan.from_json(lab.to_json()) == lab
