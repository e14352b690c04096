"""Templates, and files that are written whole or not at all."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ssl_vae.files import replacing
from ssl_vae.report import charts

TEMPLATES = Path(__file__).parent / "templates"
MARKDOWN = r"\`*_[]<>#|~&$"


@cache
def environment() -> jinja2.Environment:
    """The templates: what goes into HTML is escaped, a name that is missing raises."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {
        "grouped": charts.grouped,
        "number": charts.number,
        "percent": percent,
        "md": markdown,
        "seconds": duration,
    }
    return env


def percent(share: float, digits: int = 2) -> str:
    """0.7605 -> "76.05"."""
    return f"{100 * share:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds or minutes, in words."""
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def markdown(text: object) -> str:
    """Text of the user's own on one line, with nothing that Markdown would act on."""
    words = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in MARKDOWN else c for c in words)


def write(path: Path, template: str, content: dict[str, Any]) -> None:
    """Writes a template's text in one rename."""
    text = environment().get_template(template).render(content)
    with replacing(path) as partial:
        # A folder's name need not be text: what is not becomes a question mark.
        partial.write_text(text, encoding="utf-8", errors="replace")
