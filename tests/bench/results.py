"""What was measured: a JSON file a part, written after each sample, so that a part that was cut
short goes on where it was."""

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
    """What one run took.

    + labels: what was run, as ``{"hosts": 4, "contestant": "pyinfra"}``
    + values: what was measured, each with its unit in its name, as ``{"seconds": 1.5}``
    """

    labels: dict[str, Label]
    values: dict[str, float]

    def fits(self, **labels: Label) -> bool:
        """Whether it has these labels, among others."""
        return all(self.labels.get(key) == value for key, value in labels.items())


@dataclass
class Results:
    """The samples of one part, and what they were taken with.

    + notes: what else was found out, in words or lists, by name
    """

    part: str
    folder: Path = FOLDER
    about: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.part}.json"

    @classmethod
    def load(cls, part: str, folder: Path = FOLDER) -> Results:
        """What the part's file has; empty if there is none."""
        results = cls(part, folder)
        if results.path.exists():
            found = json.loads(results.path.read_text())
            results.about, results.notes = found["about"], found["notes"]
            results.samples = [Sample(**sample) for sample in found["samples"]]
        return results

    @classmethod
    def resume(cls, part: str, about: Mapping[str, str], folder: Path = FOLDER) -> Results:
        """What the part's file has, if it was taken with the same sources and machine, else
        nothing."""
        found = cls.load(part, folder)
        same = ("sources", "machine")
        if any(found.about.get(key) != about[key] for key in same):
            found = cls(part, folder)
        found.about = {**about, "begun": found.about.get("begun", about["begun"])}
        return found

    def save(self) -> None:
        """Write the file, whole or not at all."""
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
        """Take a sample down."""
        rounded = {name: round(value, 4) for name, value in values.items()}
        self.samples.append(Sample(dict(labels), rounded))
        self.about["ended"] = now()
        self.save()

    def note(self, name: str, value: Any) -> None:
        """Take down what is not a number."""
        self.notes[name] = value
        self.save()

    def count(self, labels: Labels) -> int:
        """How many samples there are of exactly this."""
        return sum(sample.labels == dict(labels) for sample in self.samples)

    def values(self, value: str, **labels: Label) -> list[float]:
        """All that was measured of VALUE with these labels."""
        return [s.values[value] for s in self.samples if s.fits(**labels) and value in s.values]

    def median(self, value: str, **labels: Label) -> float | None:
        """The median of it, ``None`` if nothing was measured."""
        found = self.values(value, **labels)
        return statistics.median(found) if found else None

    def labels(self, label: str) -> list[Label]:
        """The values of a label, each once, in the order of their first sample."""
        found = (sample.labels[label] for sample in self.samples if label in sample.labels)
        return list(dict.fromkeys(found))


def now() -> str:
    """The time, as it is put on results."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def about() -> dict[str, str]:
    """The machine, the versions and the sources that are measured."""
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
    """This computer in a line: processors, memory, architecture, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = platform.freedesktop_os_release()
    kernel, _, _ = platform.release().partition("-")
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.machine()}, "
        f"{release['PRETTY_NAME']}, Linux {kernel}"
    )


def digest(paths: Iterable[Path]) -> str:
    """A short checksum of files, and of all in folders."""
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
