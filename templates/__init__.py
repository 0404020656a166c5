"""Render HTML pages and files for nodes, and read the shell scripts that nodes run.

Deploys and operations call `render`, which fills a template with explicit arguments only. Facts and
operations call `shell_script`, which reads a script from ``shell/``. Of what a run executes on a
node, each text of more than 40 lines is a file in ``shell/``. This module imports no other module
of this package.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_LOADER = PackageLoader("chaos_engine", "templates")
_ENVIRONMENT = Environment(
    loader=_LOADER,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """Return the text of ``templates/TEMPLATE``, rendered with `values`.

    If the template uses a name that is not in `values`, an error is raised.

    **Example:** ``render("10-all.conf.j2", server="192.168.1.42")``
    """
    return _ENVIRONMENT.get_template(template).render(**values)


_PAGES = _ENVIRONMENT.overlay(autoescape=True)
"""Jinja's environment for HTML pages. A value is always rendered as text, never as markup."""


def render_page(template: str, **values: Any) -> str:
    """Render ``templates/TEMPLATE``, and return its HTML. All values are rendered as text.

    If the template uses a name that is not in `values`, an error is raised.

    **Example:** ``render_page("report.html.j2", report=report)``
    """
    return _PAGES.get_template(template).render(**values)


@cache
def shell_script(name: str) -> str:
    """Return the shell script ``templates/shell/NAME.sh``, without empty lines and comment lines.

    The lines are removed so that no run sends them to nodes. A comment after a command stays.

    **Example:** ``shell_script("prelude")``
    """
    text, _, _ = _LOADER.get_source(_ENVIRONMENT, f"shell/{name}.sh")
    return re.sub(r"^[ ]*(#.*)?\n", "", text, flags=re.MULTILINE)
