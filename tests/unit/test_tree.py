"""What holds for the tree as a whole, whichever concern is added to it."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos_engine import deploys
from chaos_engine.deploys.concern import DECLARED
from chaos_engine.deploys.undo import ORDER
from tests.cluster import seen

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "chaos_engine": "src/chaos_engine",
    "chaos_engine.deploys": "deploys",
    "chaos_engine.facts": "facts",
    "chaos_engine.operations": "operations",
    "chaos_engine.templates": "templates",
}
SITE = ("inventory.py", "deploy.py", "group_data")

# Other people's projects call these: they do not change
CONCERNS = (
    "preflight",
    "hosts_file",
    "packages",
    "kernel",
    "swap",
    "journald",
    "rsyslog",
    "log_mount",
    "docker",
    "cri_dockerd",
    "kubernetes",
    "etcd_certificates",
    "reboot",
    "uncordon",
    "updates",
    "watchdog",
    "quiet",
    "clock",
    "metrics",
    "vrrp",
)
ROLES = ("worker", "verify", "undo", "report", "upgrade", "init", "join", "forget")
FACTS = ("kernel.KernelCmdline", "mounts.Mounts")


def files_below(*names: str) -> Iterator[Path]:
    for name in names:
        path = CHECKOUT / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (
            file for file in found if file.is_file() and "__pycache__" not in file.parts
            and ".egg-info" not in str(file)
        )  # fmt: skip


def python_files() -> list[Path]:
    return [file for file in files_below("deploys", "facts", "operations") if file.suffix == ".py"]


# The RAM that is mounted on /var/log while storage is away is called that too
@pytest.mark.parametrize("word", ["lab", "stand-ins?", "nspawn", "tests"])
def test_what_is_shipped_knows_nothing_of_its_tests(word: str) -> None:
    pattern = re.compile(rf"\b{word}\b", re.IGNORECASE)
    mentions = [
        f"{file.relative_to(CHECKOUT)}:{number}: {line.strip()}"
        for file in files_below(*PACKAGES.values(), *SITE)
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert mentions == []


@pytest.mark.parametrize("name", [*CONCERNS, *ROLES])
def test_fixed_name_of_a_deploy_is_exported(name: str) -> None:
    assert name in deploys.__all__
    function: Any = getattr(import_module("chaos_engine.deploys"), name)
    assert inspect.isfunction(function), f"chaos_engine.deploys.{name} is {function!r}"


def test_every_exported_name_is_there() -> None:
    assert [name for name in deploys.__all__ if not callable(getattr(deploys, name, None))] == []


@pytest.mark.parametrize("name", FACTS)
def test_fixed_name_of_a_fact_is_there(name: str) -> None:
    module, _, fact = name.partition(".")
    assert inspect.isclass(getattr(import_module(f"chaos_engine.facts.{module}"), fact))


def test_packages_are_the_folders() -> None:
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["package-dir"] == PACKAGES
    folders = {
        package + "".join(f".{part}" for part in file.parent.relative_to(CHECKOUT / folder).parts)
        for package, folder in PACKAGES.items()
        for file in files_below(folder)
        if file.suffix == ".py"
    }
    assert set(setuptools["packages"]) == folders


def test_every_file_of_a_package_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    left_out = [
        str(file.relative_to(CHECKOUT))
        for package, folder in PACKAGES.items()
        for file in files_below(folder)
        if file.suffix != ".py"
        and not any(file.match(glob) for glob in setuptools["package-data"].get(package, []))
    ]
    assert left_out == []


def test_what_is_imported_is_what_is_required() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    required = {re.split("[<>=]", one)[0] for one in project["dependencies"]}
    imports = [
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        for file in files_below(*PACKAGES.values())
        if file.suffix == ".py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    named = {"yaml": "pyyaml"}
    tops = (str(name).partition(".")[0] for names in imports for name in names)
    imported = {named.get(top, top) for top in tops}
    # pydantic takes one version of its core, which is its own part
    assert imported - {*sys.stdlib_module_names, "chaos_engine", "pydantic_core"} == required


def test_the_workflow_has_each_python_that_is_promised() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/test.yml").read_text())
    promised = [
        classifier.rpartition(" ")[2]
        for classifier in project["classifiers"]
        if classifier.startswith("Programming Language :: Python :: 3.")
    ]
    assert workflow["jobs"]["unit"]["strategy"]["matrix"]["python"] == promised


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public functions, classes and methods without a docstring; what overrides has its base's."""
    if not ast.get_docstring(tree):
        yield "the module itself"
    nodes: list[tuple[str, ast.stmt]] = [("", node) for node in tree.body]
    for prefix, node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        overrides = any(isinstance(d, ast.Name) and d.id == "override" for d in node.decorator_list)
        if node.name.startswith("_") or overrides:
            continue
        if not ast.get_docstring(node):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            nodes += [(f"{node.name}.", child) for child in node.body]


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_everything_public_is_documented(file: Path) -> None:
    assert list(undocumented(ast.parse(file.read_text()))) == []


@pytest.mark.parametrize("role", ["worker", "proxy"])
def test_what_a_role_calls_lists_and_inherits_is_the_same(role: str) -> None:
    module = import_module(f"chaos_engine.deploys.{role}")
    tree = ast.parse((CHECKOUT / f"deploys/{role}.py").read_text())
    body = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == role)
    # With one proxy, the role `proxy` calls `vrrp` later than with several
    statements = [one for node in body.body for one in getattr(node, "body", [node])]
    called = [
        node.value.func.id
        for node in statements
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
    ]
    names = [concern.__name__ for concern in module.CONCERNS]
    assert [*dict.fromkeys(called)] == names
    models = {DECLARED[name].model for name in names}
    assert {*DECLARED[role].model.__bases__} <= models
    assert all(issubclass(DECLARED[role].model, model) for model in models)


def imports_of(file: Path, modules: Iterable[str]) -> Iterator[str]:
    """The modules of the package that a module imports, but for its types."""
    tree = ast.parse(file.read_text())
    only_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module or id(node) in only_types:
            continue
        for alias in node.names:
            module = f"{node.module}.{alias.name}"
            found = module if module in modules else node.module
            if found in modules:
                yield found


def arrows() -> dict[str, set[str]]:
    """Which module of the package imports which."""
    names = {}
    for file in python_files():
        parts = file.relative_to(CHECKOUT).with_suffix("").parts
        names[".".join(("chaos_engine", *parts)).removesuffix(".__init__")] = file
    return {name: {*imports_of(file, names)} - {name} for name, file in names.items()}


def test_no_import_leads_up() -> None:
    floors = ("facts", "operations", "deploys")
    up = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in others
        if floors.index(module.split(".")[1]) < floors.index(other.split(".")[1])
    ]
    assert up == []


def test_no_imports_make_a_circle() -> None:
    TopologicalSorter(arrows()).prepare()  # raises CycleError, with the circle


def test_each_concern_is_looked_at_on_the_lab() -> None:
    """`tests.cluster.seen` has a look for each concern that changes something that lasts."""
    assert {*seen.CONCERNS, *seen.PROXY_CONCERNS} == {*ORDER}
