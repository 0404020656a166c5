"""Files that are put on nodes, rendered with explicit arguments only."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=PackageLoader("chaos_engine", "templates"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,
)


def render(template: str, **values: Any) -> str:
    """The text of ``templates/TEMPLATE`` with `values`; an undefined name is an error.

    **Example:** ``render("10-all.conf.j2", server="192.168.1.42")``
    """
    return _ENVIRONMENT.get_template(template).render(**values)
