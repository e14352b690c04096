"""What `mkdocs build` does beyond its plugins: notebooks as pages, equations as MathML.

Browsers draw MathML themselves, so a page needs no script and no font for it.
"""

import html
import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_EQUATION = re.compile(
    r'<(?:span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</(?:span|div)>', re.S
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for every notebook, which itself can be downloaded beside it."""
    for file in [each for each in files if each.src_uri.endswith(".ipynb")]:
        page = file.src_uri.replace(".ipynb", ".md")
        content = notebook_page(Path(file.abs_src_path or ""))
        files.append(File.generated(config, page, content=content))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """The page with MathML in place of the LaTeX that pymdownx.arithmatex has found.

    A mean and its deviation stay on one line.
    """
    return _EQUATION.sub(_mathml, content).replace(" ± ", "&nbsp;±&nbsp;")


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "[" else "inline"
    return convert(html.unescape(found[2]).strip(), display=display)


def notebook_page(path: Path) -> str:
    """A notebook in Markdown: its text, its code, and below the code what it gave."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            parts += [_output(each) for each in cell["outputs"]]
    return "\n\n".join(part for part in parts if part)


def _output(output: dict[str, Any]) -> str:
    """What a cell has printed, returned or drawn; nothing for any other output."""
    data = output.get("data", {})
    if "image/png" in data:
        alt = html.escape("".join(data.get("text/plain", "A figure")), quote=True)
        picture = "".join(data["image/png"].split())
        shown = f'<img alt="{alt}" src="data:image/png;base64,{picture}">'
    else:
        text = "".join(output.get("text", data.get("text/plain", "")))
        if not text:
            return ""
        shown = f"```text\n{text.rstrip()}\n```"
    return f'<div class="output" markdown>\n\n{shown}\n\n</div>'
