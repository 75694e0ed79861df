"""Formulas as MathML, made when the site is built: browsers show them without a script from elsewhere."""

import html
import re

from latex2mathml.converter import convert

# As `pymdownx.arithmatex` leaves them.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """The page with each formula converted."""
    return _FORMULA.sub(_converted, content)


def _converted(found: re.Match[str]) -> str:
    tag, formula = found.groups()
    display = "block" if tag == "div" else "inline"
    return f'<{tag} class="formula">{convert(html.unescape(formula).strip(), display=display)}</{tag}>'
