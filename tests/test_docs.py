"""The pages in docs/: what they tell a reader to type exists, and the site is whole."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from ssl_vae import config as recipes
from ssl_vae.report.baselines import BASELINES, LABELS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def known_fields() -> set[str]:
    files = (ROOT / "configs").glob("*.py")
    return {field for file in files for field in recipes.flatten(recipes.load(file))}


@pytest.fixture(scope="module")
def known_flags() -> str:
    """All that `--help` of the command lines says."""
    return "".join(
        subprocess.run(
            [sys.executable, "-m", f"ssl_vae.{module}", "--help"],
            capture_output=True,
            text=True,
        ).stdout
        for module in ("main", "predict", "report", "datasets", "export")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_to_type_exists(page, known_fields, known_flags):
    text = page.read_text()
    for field in re.findall(r"--config\.([\w.]+)=", text):
        assert field in known_fields, field
    ours = re.sub(
        r"(python benchmarks/|tensorboard ).*", "", text
    )  # they have flags of their own
    for flag in re.findall(r"(?<![\w-])--([a-z]\w+)", ours):
        assert re.search(rf"--(\[no\])?{flag}\b", known_flags), flag
    for file in re.findall(r"\b(?:configs|benchmarks)/[a-z]\w*\.py", text):
        assert (ROOT / file).is_file(), file
    for module in re.findall(r"-m (ssl_vae[\w.]*)", text):
        assert find_spec(module), module
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", text, re.M):
        assert f"\n{target}:" in targets, target


def test_the_baselines_of_reports_are_those_of_the_readme():
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = (line.split("|")[1:-1] for line in lines if line.startswith("|"))
    table = {re.sub(r" \([^)]*\)", "", cells[0].strip()): cells[1:] for cells in rows}
    for name, figures in BASELINES.items():
        shown = [f"{100 * mean:.2f} ± {100 * sd:.2f}" for mean, sd in figures]
        assert [cell.strip() for cell in table[name]] == shown
    assert len(LABELS) == 4


class _Fetched(HTMLParser):
    """Addresses of what a browser loads to show a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag in ("link", "script", "img", "iframe"):
            self.found += [value for name, value in attrs if name in ("src", "href")]


def test_the_site_has_no_broken_link_and_fetches_nothing(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)  # the notebook is one too
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text())
        assert parser.found
        assert not [url for url in parser.found if re.match(r"(\w+:)?//", url)], page
    assert "<math " in (tmp_path / "models.html").read_text()
    assert "<pre" in (tmp_path / "tutorial.html").read_text()
