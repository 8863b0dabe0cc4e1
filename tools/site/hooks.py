"""Called by MkDocs: pages that are made, links that leave docs/, and drawn diagrams."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.structure.files import File, Files, InclusionLevel  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402

from tools.site import api_pages  # noqa: E402

DOCS: Final = ROOT / "docs"
FENCE: Final = "`" * 6
REPOSITORY: Final = "repository"
"""Folder of the site with the files outside docs/ that its pages link to."""
_LINK: Final = re.compile(r"\]\((?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?((?: \"[^\"]*\")?)\)")
_FILE_NAME: Final = re.compile(r"\[([\w./-]+\.md)\](?=\(([^)#\s]+\.md)[#)])")
"""A link that shows the name of a file: right in the repository, where the site has titles."""
_TITLE: Final = re.compile(r"^# (.+)$", re.M)
_MERMAID: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.M | re.S)
_FOR_TESTS: Final = re.compile(r"^<!-- (?:not run|run by|before|in the background):.*?-->\n+", re.M | re.S)
_LANGUAGES: Final = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the API, and every file outside docs/ that a page links to, directly or by another one."""
    for path, text in api_pages.pages().items():
        files.append(File.generated(config, path, content=text))
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    seen: set[Path] = set()
    while waiting:
        source = waiting.pop()
        for target in _outside(source):
            if target not in seen:
                seen.add(target)
                files.append(_file(target, config))
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to files outside docs/ to their copies, and shows diagrams as they were drawn."""
    del files
    place = PurePosixPath(page.file.src_uri)
    of_docs = place.parts[0] != REPOSITORY
    source = Path(config.docs_dir) / place if of_docs else ROOT / place.relative_to(REPOSITORY)
    if source.suffix == ".md" and source.is_file():
        markdown = _FOR_TESTS.sub("", markdown)
        markdown = _FILE_NAME.sub(lambda found: _titled(found, source), markdown)
        markdown = _LINK.sub(lambda found: _led(found, source, place), markdown)
    return _MERMAID.sub(lambda found: _drawn(found[1], place, config), markdown)


def _outside(source: Path) -> list[Path]:
    """What a page, or the listing of a folder, leads to that is no page of docs/."""
    if source.is_dir():
        return [each for each in sorted(source.iterdir()) if each.is_file()]
    if source.suffix != ".md":
        return []
    found = (_resolved(source, each[1]) for each in _LINK.finditer(source.read_text(encoding="utf-8")))
    return [each for each in found if each.exists() and not _is_of_docs(each)]


def _resolved(source: Path, target: str) -> Path:
    return Path(os.path.normpath(source.parent / target))


def _is_of_docs(target: Path) -> bool:
    return target.is_relative_to(DOCS) and target.suffix not in {"", ".py"}


def _uri(target: Path) -> str:
    """Where a file or folder of the repository is among the sources of the site."""
    if _is_of_docs(target):
        return target.relative_to(DOCS).as_posix()
    path = f"{REPOSITORY}/{target.relative_to(ROOT).as_posix()}"
    if target.is_dir():
        return f"{path}/index.md"
    return path if target.suffix in {".md", ".png", ".svg"} else f"{path}.md"


def _file(target: Path, config: MkDocsConfig) -> File:
    uri = _uri(target)
    if not uri.endswith(".md"):
        return File.generated(config, uri, abs_src_path=str(target))
    return File.generated(config, uri, content=_content(target), inclusion=InclusionLevel.NOT_IN_NAV)


def _content(target: Path) -> str:
    if target.suffix == ".md":
        return target.read_text(encoding="utf-8")
    head = f"---\nsearch:\n  exclude: true\n---\n# {target.relative_to(ROOT)}\n\n"
    if target.is_dir():
        folder = PurePosixPath(_uri(target)).parent
        return head + "".join(
            f"- [{each.name}]({PurePosixPath(_uri(each)).relative_to(folder)})\n" for each in _outside(target)
        )
    return f"{head}{FENCE}{_LANGUAGES.get(target.suffix, 'text')}\n{target.read_text(encoding='utf-8')}\n{FENCE}\n"


def _led(found: re.Match[str], source: Path, place: PurePosixPath) -> str:
    target = _resolved(source, found[1])
    if not target.exists() or (source.is_relative_to(DOCS) and _is_of_docs(target)):
        return found[0]  # MkDocs complains if there is none
    return f"]({os.path.relpath(_uri(target), place.parent)}{found[2] or ''}{found[3]})"


def _titled(found: re.Match[str], source: Path) -> str:
    target = _resolved(source, found[2])
    title = _TITLE.search(target.read_text(encoding="utf-8")) if target.is_file() else None
    return f"[{title[1]}]" if title else found[0]


def _drawn(source: str, place: PurePosixPath, config: MkDocsConfig) -> str:
    name = f"pictures/{place.stem}-{digest(source)}.svg"
    if not (Path(config.docs_dir) / name).is_file():
        raise PluginError(f"{place}: a diagram changed; draw it: python -m tools.site.diagrams")
    picture = os.path.relpath(name, place.parent)
    return f"[![Diagram; opens in its full size]({picture})]({picture})"


def digest(source: str) -> str:
    """Names the picture of a diagram, so that another diagram has another picture."""
    return hashlib.sha256(source.encode()).hexdigest()[:8]
