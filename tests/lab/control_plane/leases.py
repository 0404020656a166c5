"""Leases, as kube-apiserver checks and prints them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .store import Json, parse_stamp

_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def problems(item: Json) -> str:
    """Return what is wrong with a Lease (pkg/apis/coordination/validation), "" for nothing."""
    spec = item.get("spec", {})
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        return f"spec.leaseDurationSeconds: Invalid value: {seconds}: must be greater than 0"
    if transitions is not None and transitions < 0:
        return (
            f"spec.leaseTransitions: Invalid value: {transitions}: must be greater than or equal "
            "to 0"
        )
    for name in ("acquireTime", "renewTime"):
        if name in spec and not _MICRO_TIME.fullmatch(str(spec[name])):
            return f"spec.{name}: {spec[name]} is not a MicroTime"
    return ""


def is_table(headers: Mapping[str, str]) -> bool:
    """Whether a client asks for a table, as kubectl does to print columns."""
    return "as=Table" in headers.get("accept", "")


def table(items: Iterable[Json], metadata: Json, now: float) -> Json:
    """Return the table of Leases that kubectl prints (pkg/printers/internalversion)."""
    rows = [
        {
            "cells": [
                item["metadata"]["name"],
                item.get("spec", {}).get("holderIdentity") or "",
                age(now - parse_stamp(item["metadata"]["creationTimestamp"])),
            ],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": item["metadata"],
            },
        }
        for item in items
    ]
    columns = [
        {"name": name, "type": "string", "format": form, "description": "", "priority": 0}
        for name, form in (("Name", "name"), ("Holder", ""), ("Age", ""))
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


def age(seconds: float) -> str:
    """Return a duration as tables have it (HumanDuration), exact below three hours."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    return f"{minutes // 60}h" if minutes < 48 * 60 else f"{minutes // 60 // 24}d"
