"""make docs: what mkdocs builds beside the pages of docs/ (see mkdocs.yml).

README.md, CONTRIBUTING.md, CHANGELOG.md and SECURITY.md become pages. The reference lists each
fact, operation and deploy that the package has, found in its modules, so no list is kept.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import TYPE_CHECKING, Any

from chaos_engine import deploys
from chaos_engine.facts.observe import ComposedFact, NodeFact

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).resolve().parents[1]

ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
}
"""Files at the top of the repository, and the pages that they become."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_LIST = re.compile(r"<!-- list of (facts|operations|deploys) -->")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages from the top of the repository."""
    from mkdocs.structure.files import File

    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(CHECKOUT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Return a page's text with the links of the site and, where it asks for one, a list."""
    listed = _LIST.sub(lambda match: "\n\n".join(directives(match[1])), markdown)
    return site_links(listed, page.file.src_uri)


def site_links(markdown: str, page: str) -> str:
    """Return a page's text with links as the site has them.

    + markdown: the text, whose links lead to files of the repository
    + page: the page's path on the site, such as ``benchmarks/card.md``

    A link to a file that is no page becomes its text.
    """
    sources = {built: source for source, built in ROOT_PAGES.items()}
    here = posixpath.dirname(sources.get(page, f"docs/{page}"))

    def link(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(here, target))
        built = ROOT_PAGES.get(path) or (path[len("docs/") :] if path.startswith("docs/") else "")
        if not built:
            return text
        relative = posixpath.relpath(built, posixpath.dirname(page) or ".")
        return f"{picture}[{text}]({relative}{anchor or ''})"

    return _LINK.sub(link, markdown)


def directives(kind: str) -> list[str]:
    """Return a line for mkdocstrings for each fact, operation or deploy of the package."""
    return [f"::: {name}" for name in sorted(public(kind))]


def public(kind: str) -> Iterator[str]:
    """Yield the names by which users import what is of this kind.

    + kind: ``facts``, ``operations`` or ``deploys``
    """
    if kind == "deploys":
        yield from (f"{deploys.__name__}.{name}.{name}" for name in deploys.__all__)
        return
    for module in modules(f"chaos_engine.{kind}"):
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") != module.__name__ or name.startswith("_"):
                continue
            if is_fact(value) if kind == "facts" else hasattr(value, "_inner"):
                yield f"{face(module.__name__, name, value)}.{name}"


def modules(package: str) -> Iterator[ModuleType]:
    """Yield all modules of a package, those of packages within it too."""
    found = import_module(package)
    for info in walk_packages(found.__path__, f"{package}."):
        yield import_module(info.name)


def is_fact(value: object) -> bool:
    """Return whether this is a fact that a node can be asked for."""
    bases = (NodeFact.__module__, ComposedFact.__module__)  # no fact is in their modules
    return inspect.isclass(value) and issubclass(value, NodeFact) and value.__module__ not in bases


def face(module: str, name: str, value: object) -> str:
    """Return the highest module that has a name: a package, where it exports what is inside it."""
    above = module.rpartition(".")[0]
    if above.count(".") > 1 and getattr(import_module(above), name, None) is value:
        return face(above, name, value)
    return module
