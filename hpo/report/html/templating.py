"""The report's templates: jinja2, every text in them escaped, invisible characters spelled out.

Templates are data of this package, so that they are found in a wheel as in a checkout.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hpo.core.format import escape_controls


def rendered(template: str, **context: Any) -> str:
    """A template's markup. A name that it has and the context lacks is an error."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("hpo.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spelled_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    return made


def _spelled_out(value: Any) -> Any:
    """A text with what would change how others are shown spelled out."""
    return escape_controls(value) if type(value) is str else value


def breakable(text: str) -> Markup:
    """A dotted name that a narrow column may break after a dot or underscore."""
    return Markup(re.sub(r"([._])(?=\w)", r"\1<wbr>", str(escape(escape_controls(text)))))
