"""README and `docs/`: generated pages are current, links lead somewhere, and paths that are named exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

TOP = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.relative_to(TOP).as_posix()
    for path in [
        *TOP.glob("*.md"),
        *(TOP / "docs").rglob("*.md"),
        *(TOP / "examples").glob("*.md"),
        TOP / "tests/README.md",
    ]
    if path.exists()
)
README_BYTES = 7 * 1024
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(?P<text>.+?)\s*$", re.MULTILINE)
NAMED_PATH = re.compile(r"`((?:actors|runtime|protocol|tests|scripts|docs|examples)/[A-Za-z0-9_./-]+)`")


@cache
def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", (TOP / name).read_text(encoding="utf-8"))


def anchors(name: str) -> set[str]:
    """Fragments that headings of a page can be reached by, as GitHub and MkDocs make them."""
    return {re.sub(r"[^\w\- ]", "", one["text"].lower()).replace(" ", "-") for one in HEADING.finditer(prose(name))}


def problems_of(name: str) -> list[str]:
    """What is wrong with the links of a page."""
    problems = []
    for link in LINK.finditer(prose(name)):
        target, _, fragment = link["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (TOP / name).parent.joinpath(target).resolve() if target else TOP / name
        if not path.exists():
            problems.append(f"{name}: {link['target']} does not exist")
        elif name.startswith("docs/") and not path.is_relative_to(TOP / "docs"):
            problems.append(f"{name}: {link['target']} leaves the site")
        elif fragment and fragment not in anchors(path.relative_to(TOP).as_posix()):
            problems.append(f"{name}: {target} has no heading #{fragment}")
    return problems


def test_the_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, TOP / "scripts" / "generate_docs", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"run ./scripts/generate_docs and commit what it writes:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    assert problems_of(name) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_path_that_a_page_names_exists(name: str) -> None:
    if name == "CHANGELOG.md":
        return
    missing = [one for one in NAMED_PATH.findall(prose(name)) if not (TOP / one.partition("::")[0]).exists()]
    assert missing == []


def test_readme_can_be_read_in_five_minutes() -> None:
    assert (TOP / "README.md").stat().st_size <= README_BYTES


def test_the_site_has_every_page_of_docs_and_no_other() -> None:
    """MkDocs says so too, where it is installed."""
    nav = re.findall(r"^ +- ([\w/-]+\.md)$", (TOP / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(nav) == sorted(path.relative_to(TOP / "docs").as_posix() for path in (TOP / "docs").rglob("*.md"))


@pytest.mark.parametrize("name", ["architecture.svg", "recovery.svg", "tree.svg"])
def test_a_picture_is_whole_and_shows_no_path_of_the_machine_that_made_it(name: str) -> None:
    text = (TOP / "docs" / "pictures" / name).read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).find("{http://www.w3.org/2000/svg}title") is not None
    assert re.findall(r"/(?:home|root|work|Users|tmp)/", text) == []


def test_a_wrong_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# Title\n")
    (tmp_path / "docs/page.md").write_text(
        "# A page\n[a](#a-page) [b](#another) [c](nowhere.md) [d](../README.md) [e](https://x.example)\n"
        "```\n[f](in-a-block.md)\n```\n"
    )
    prose.cache_clear()
    monkeypatch.setattr(sys.modules[__name__], "TOP", tmp_path)
    assert problems_of("docs/page.md") == [
        "docs/page.md:  has no heading #another",
        "docs/page.md: nowhere.md does not exist",
        "docs/page.md: ../README.md leaves the site",
    ]
    prose.cache_clear()
