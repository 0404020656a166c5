"""Files that are put on nodes, and shell scripts that nodes run; it imports nothing of ours.

`render` fills a file with explicit arguments only; deploys and operations call it. `shell_script`
reads one below ``shell/``, where each of more than 40 lines is; facts and operations call it.
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
    autoescape=False,
)


def render(template: str, **values: Any) -> str:
    """Return the text of ``templates/TEMPLATE`` with `values`; an undefined name is an error.

    **Example:** ``render("10-all.conf.j2", server="192.168.1.42")``
    """
    return _ENVIRONMENT.get_template(template).render(**values)


@cache
def shell_script(name: str) -> str:
    """Return the shell script ``templates/shell/NAME.sh``, without empty lines and comment lines.

    Those would travel to each node with each script. A comment behind a command is no such line.

    **Example:** ``shell_script("prelude")``
    """
    text, _, _ = _LOADER.get_source(_ENVIRONMENT, f"shell/{name}.sh")
    return re.sub(r"^[ ]*(#.*)?\n", "", text, flags=re.MULTILINE)
