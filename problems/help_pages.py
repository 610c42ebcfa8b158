"""Help pages: the sentences of LibreOffice's help, matched with their translations."""

from __future__ import annotations

import html
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .problem import ProblemError

SOURCE = "en"
LANGUAGES = ("fr", "zh", "de")
"""Languages into which the English pages are translated."""

PARAGRAPH = re.compile(r'<(p|h[1-6])\b[^>]*?\bid="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
OTHER_SYSTEM = re.compile(r'<span hidden="true" id="(?!default)[^"]*"[^>]*>[^<]*</span>')
"""What the page says instead on another operating system; a script would show one of the two."""
TAG = re.compile(r"<[^>]*>")

LATIN_END = re.compile(r'(?<=[.!?:])\s+(?=[«„"(A-ZÀ-ÖØ-Þ])')
CHINESE_END = re.compile(r"(?<=[。！？：])\s*|(?<=[.!?:])\s+")
WORD = re.compile(r"\w+|[^\w\s]")
CHARACTER = re.compile(r"[a-z0-9_]+|[^\s]")
"""Chinese: a character, or a word of Latin letters, or a mark."""

Key = tuple[str, int]
"""The id of a paragraph, and how often it has occurred on the page before."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a page in lower-case tokens: English, and one translation a language."""

    page: str
    source: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]


def tokens_of(language: str, text: str) -> tuple[str, ...]:
    """Words and marks, in Chinese characters and marks."""
    pattern = CHARACTER if language == "zh" else WORD
    return tuple(pattern.findall(text.lower()))


def pages_of(file: Path) -> dict[str, dict[Key, str]]:
    """Page -> its paragraphs without markup, pages by name. Raises ProblemError if damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".html"))
            return {name: _paragraphs(archive.read(name).decode()) for name in names}
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ProblemError(
            f"{file} cannot be read: {error}; remove it and fetch it again"
        ) from None


def _paragraphs(page: str) -> dict[Key, str]:
    seen = Counter[str]()
    found = {}
    for _, name, content in PARAGRAPH.findall(page):
        text = html.unescape(TAG.sub("", OTHER_SYSTEM.sub("", content)))
        found[name, seen[name]] = " ".join(text.split())
        seen[name] += 1
    return found


def aligned(files: Sequence[Path], languages: Sequence[str]) -> Iterator[Sentence]:
    """Sentences that have a translation into all languages, no two with the same English words.

    files: of English and of each language. Paragraphs are matched by page, id and occurrence. Left
    out: what a language leaves in English, and paragraphs with another number of sentences in some
    language. Of sentences whose words are the same up to case, the first page's is kept.
    """
    english, *others = (pages_of(file) for file in files)
    known = set[tuple[str, ...]]()
    for page, paragraphs in english.items():
        for key, text in paragraphs.items():
            versions = [text, *(pages.get(page, {}).get(key, "") for pages in others)]
            for split in _sentences(versions, languages):
                source, *targets = (
                    tokens_of(language, part)
                    for language, part in zip((SOURCE, *languages), split, strict=True)
                )
                words = tuple(token for token in source if token[0].isalnum())
                if words and words not in known and all(targets):
                    known.add(words)
                    yield Sentence(page, source, tuple(targets))


def _sentences(versions: Sequence[str], languages: Sequence[str]) -> list[tuple[str, ...]]:
    """One paragraph's sentences in all languages; none if they do not correspond."""
    text, *translations = versions
    if not all(versions) or text in translations:
        return []
    parts = [
        [part for part in end.split(version) if part]
        for end, version in zip(
            (LATIN_END, *(CHINESE_END if name == "zh" else LATIN_END for name in languages)),
            versions,
            strict=True,
        )
    ]
    if len({len(part) for part in parts}) > 1:
        return []
    return [row for row in zip(*parts, strict=True) if row[0] not in row[1:]]
