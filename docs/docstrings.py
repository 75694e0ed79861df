r"""What docstrings have of reStructuredText, as the Markdown that the site is made of.

They are read in terminals and editors first. There :math:`\\sigma`, tables drawn with = and references with | are
plain to read. A name of the package in backquotes becomes a link to its entry.
"""

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^\.\. math::[ \t]*(.*(?:\n(?:[ \t]*\n)*[ \t]+\S.*)*)", re.MULTILINE)
_INLINE = re.compile(r":math:\s*`([^`]+)`")
_TABLE = re.compile(r"^=+( +=+)+\n(?:.+\n)*?(?:=+(?: +=+)+\n(?:.+\n)+?)?=+( +=+)+$", re.MULTILINE)
_NAME = re.compile(r"(?<!`)`(kdpm2(?:\.\w+)+)`(?!`)")
_LINE = re.compile(r"^( *)\| (.+(?:\n\1 {2}\S.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring when it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """A docstring in Markdown."""
    text = _LINE.sub(lambda found: f"{found[1]}- {' '.join(found[2].split())}", text)
    text = _TABLE.sub(_table, text)
    text = _BLOCK.sub(lambda found: f"\n$$\n{' '.join(found[1].split())}\n$$\n", text)
    text = _INLINE.sub(lambda found: f"${' '.join(found[1].split())}$", text)
    text = re.sub(r"(?<![<\[\"\w])(https?://[^\s)>\]]*[^\s)>\].,:;])", r"<\1>", text)
    return _NAME.sub(r'<autoref optional identifier="\1">`\1`</autoref>', text)


def _table(found: re.Match[str]) -> str:
    lines = found[0].splitlines()
    starts = [bar.start() for bar in re.finditer("=+", lines[0])]
    ends = [*starts[1:], None]
    rules = [number for number, line in enumerate(lines) if set(line) <= {"=", " "}]
    rows = [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]
    head = rows[1] if len(rules) == 3 else [""] * len(starts)
    body = rows[rules[1] + 1 : rules[2]] if len(rules) == 3 else rows[1:-1]
    written = [head, ["---"] * len(starts), *body]
    return (
        "\n"
        + "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in written)
        + "\n"
    )
