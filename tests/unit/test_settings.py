"""Settings: each mistake names where it comes from, the key, the value and the mend."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.settings import (
    Settings,
    SettingsError,
    known_keys,
    local_path,
    merge_lines,
)
from chaos_engine.deploys.site import (
    ControllersSettings,
    EndpointSettings,
    LogServerSettings,
    NodesSettings,
    VersionsSettings,
)
from tests.unit.models import all_models
from tests.unit.nodes import Nodes

SITE: dict[str, Any] = {
    "chaos_nodes": {"pi1": "192.168.1.50", "pi2": "192.168.1.51"},
    "chaos_controllers": ["pi1"],
    "chaos_log_server": "192.168.1.42",
}


class AllSettings(ControllersSettings, EndpointSettings, LogServerSettings, VersionsSettings):
    """As a role has them."""


def resolve(model: type[Settings] = AllSettings, **layers: Any) -> Any:
    with Nodes("pi1", **layers).on():
        return model.resolve()


def refusal(model: type[Settings] = AllSettings, **layers: Any) -> str:
    with pytest.raises(SettingsError) as error:
        resolve(model, **layers)
    return str(error.value)


def test_values_get_their_types() -> None:
    settings = resolve(data=SITE)
    assert settings.nodes["pi1"] == IPv4Address("192.168.1.50")
    assert settings.controllers == ("pi1",)
    assert settings.vip is None
    assert settings.vip_port == 6443


def test_a_host_goes_before_its_group_and_a_group_before_all() -> None:
    data = {**SITE, "chaos_vip_port": 1}
    groups: Mapping[str, Any] = {"workers": (["pi1"], {"chaos_vip_port": 2})}
    assert resolve(data=data).vip_port == 1
    assert resolve(data=data, groups=groups).vip_port == 2
    assert resolve(data=data, groups=groups, hosts={"pi1": {"chaos_vip_port": 3}}).vip_port == 3
    assert resolve(data=data, override={"chaos_vip_port": 4}).vip_port == 4


def test_all_mistakes_are_told_at_once() -> None:
    message = refusal(data={"chaos_vip_port": 0, "chaos_vip": "x"})
    assert len(message.splitlines()) == 3


def test_all_values_that_do_not_go_together_are_told_at_once() -> None:
    nodes = {"pi1": "192.168.1.50", "pi2": "192.168.1.50"}
    message = refusal(data={**SITE, "chaos_nodes": nodes, "chaos_controllers": ["pi3"]})
    assert [line.strip() for line in message.splitlines()] == [
        "pi1: chaos_nodes: pi2 and pi1 have the same address 192.168.1.50; give each node its own",
        "pi1: chaos_controllers: pi3 is not in chaos_nodes; add its address there",
    ]


def test_keys_of_other_concerns_are_no_mistake() -> None:
    assert resolve(NodesSettings, data=SITE).nodes


def test_settings_cannot_be_changed_by_a_deploy() -> None:
    with pytest.raises(Exception, match="frozen"):
        resolve(data=SITE).vip_port = 1


def test_every_setting_is_described_and_has_one_owner() -> None:
    owners: dict[str, set[str]] = {}
    for model in all_models():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            owners.setdefault(name, set()).add(str(field.description))
    assert {name: texts for name, texts in owners.items() if len(texts) > 1} == {}
    assert {f"chaos_{name}" for name in owners} <= known_keys()


def test_files_of_the_controller_are_found_where_pyinfra_finds_its_own(tmp_path: Path) -> None:
    nodes = Nodes("pi1")
    nodes.state.cwd = str(tmp_path)
    with nodes.on():
        assert local_path("files/ca.crt") == tmp_path / "files/ca.crt"
        assert local_path("/etc/ssl/ca.crt") == Path("/etc/ssl/ca.crt")


def test_a_mistake_of_several_hosts_is_told_once() -> None:
    assert merge_lines(
        {
            "pi1": ["pi1: no key", "group wokers: the group has settings, but no hosts"],
            "pi2": ["pi2: no key", "group wokers: the group has settings, but no hosts"],
            "pi10": ["pi10: no key", "pi10, --data: x is no setting"],
        }
    ) == [
        "pi1 and 2 more: no key",
        "group wokers: the group has settings, but no hosts",
        "pi10, --data: x is no setting",
    ]
