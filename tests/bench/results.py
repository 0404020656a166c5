"""Keep what was measured: a JSON file for each part.

It is written after each sample, so that an interrupted part can continue.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "docs" / "benchmarks"

_MEASURED = ("deploys", "facts", "operations", "templates", "deploy.py", "inventory.py",
             "group_data")  # fmt: skip

Label = str | int
Labels = Mapping[str, Label]


@dataclass(frozen=True)
class Sample:
    """The measurements of one run.

    + labels: what was run, as ``{"hosts": 4, "contestant": "pyinfra"}``
    + values: what was measured, each with its unit in its name, as ``{"seconds": 1.5}``
    """

    labels: dict[str, Label]
    values: dict[str, float]

    def has(self, **labels: Label) -> bool:
        """Tell whether it has these labels, among others."""
        return all(self.labels.get(key) == value for key, value in labels.items())


@dataclass
class Results:
    """The samples of one part.

    + about: the machine, the versions and the sources that were measured
    + notes: what else was found out, in words or lists, by name
    """

    part: str
    folder: Path = FOLDER
    about: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self.folder / f"{self.part}.json"

    @classmethod
    def load(cls, part: str, folder: Path = FOLDER) -> Results:
        """Return the content of the part's file, empty results if there is none."""
        results = cls(part, folder)
        if results.path.exists():
            found = json.loads(results.path.read_text())
            results.about, results.notes = found["about"], found["notes"]
            results.samples = [Sample(**sample) for sample in found["samples"]]
        return results

    @classmethod
    def resume(cls, part: str, about: Mapping[str, str], folder: Path = FOLDER) -> Results:
        """Return the content of the part's file, nothing if sources or machine have changed."""
        found = cls.load(part, folder)
        same = ("sources", "machine")
        if any(found.about.get(key) != about[key] for key in same):
            found = cls(part, folder)
        found.about = {**about, "begun": found.about.get("begun", about["begun"])}
        return found

    def save(self) -> None:
        """Write the file atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "part": self.part,
            "about": self.about,
            "notes": self.notes,
            "samples": [{"labels": s.labels, "values": s.values} for s in self.samples],
        }
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(draft, self.path)

    def add(self, labels: Labels, values: Mapping[str, float]) -> None:
        """Add a sample, and write the file."""
        rounded = {name: round(value, 4) for name, value in values.items()}
        self.samples.append(Sample(dict(labels), rounded))
        self.about["ended"] = now()
        self.save()

    def note(self, name: str, value: Any) -> None:
        """Add a note, and write the file."""
        self.notes[name] = value
        self.save()

    def count(self, labels: Labels) -> int:
        """Return how many samples have exactly these labels."""
        return sum(sample.labels == dict(labels) for sample in self.samples)

    def values(self, value: str, **labels: Label) -> list[float]:
        """Return all measurements of VALUE with these labels."""
        return [s.values[value] for s in self.samples if s.has(**labels) and value in s.values]

    def median(self, value: str, **labels: Label) -> float | None:
        """Return their median, ``None`` if there are none."""
        found = self.values(value, **labels)
        return statistics.median(found) if found else None

    def labels(self, label: str) -> list[Label]:
        """Return the values of a label, each once, in the order of their first sample."""
        found = (sample.labels[label] for sample in self.samples if label in sample.labels)
        return list(dict.fromkeys(found))


def now() -> str:
    """Return the current time, as results show it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def about() -> dict[str, str]:
    """Return the machine, the versions and the sources that are measured."""
    return {
        "machine": machine(),
        "python": platform.python_version(),
        "pyinfra": version("pyinfra"),
        "commit": _output("git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"),
        "sources": digest(CHECKOUT / name for name in _MEASURED),
        "begun": now(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def machine() -> str:
    """Describe this computer in a line: processors, memory, architecture, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = platform.freedesktop_os_release()
    kernel, _, _ = platform.release().partition("-")
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.machine()}, "
        f"{release['PRETTY_NAME']}, Linux {kernel}"
    )


def digest(paths: Iterable[Path]) -> str:
    """Return a short checksum of files, and of all files in folders."""
    total = hashlib.sha256()
    for path in _files(paths):
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.suffix != ".pyc")
            yield from (file for file in inside if file.is_file())
        else:
            yield path


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{datetime.now(timezone.utc):%H:%M:%S} {text}", file=sys.stderr, flush=True)
