"""Translation: English into French, Chinese and German by one network, on LibreOffice's help."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .datafolder import Arrays, prepared, required
from .help_pages import LANGUAGES, SOURCE, Sentence, aligned, pages_of
from .missing import IGNORED, known, over_labelled
from .problem import Problem, ProblemError, Split, Task
from .tabular import Rows, first_of
from .transformer import PADDING, Sizes, Translator

SPLITS = ("train", "val", "test")
SHARES = (0.75, 0.1, 0.15)
"""Of the pages."""
SPREAD = {"fr": 1.25, "zh": 1.5, "de": 1.25}
"""Tokens that a translation may have for every token that the English sentence may have."""
MARKS = ("<padding>", "<unknown>", "<start>", "<end>")
"""The first tokens of every table. START, in a language's own table, tells the decoder which."""
UNKNOWN, START = 1, 2
END = MARKS[3]
RARE = 5
"""A token that occurs less often in the training rows is unknown."""

Tokens = NDArray[np.int16]


def translation(
    languages: Sequence[str] = ("fr", "zh"),
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    dropout: float = 0.0,
    longest: int = 20,
    vocabulary: int = 2_000,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
) -> Problem:
    """Translation of English sentences into two or three languages; cross-entropy per token.

    After Xin et al. 2022, on a far smaller scale: a pre-LN transformer whose encoder and decoder
    all languages share, and which is told the language by the first token; teacher forcing. Here
    every row has all translations, tokens are words (characters in Chinese) and each language has
    a vocabulary of its own; there is no label smoothing. Source: the help pages of LibreOffice 7.4
    (MPL-2.0) in Debian's packages libreoffice-help-*, paragraphs matched by their ids. Pages are
    divided 75 / 10 / 15 %, once; a sentence that several pages hold belongs to the first, and what
    reads the same with unknown words left out is in one split. Vocabularies are those of all
    training rows.

    Loss and error are means over the tokens of a minibatch, sentence ends and unknown words
    included, padding not. error: share of tokens that are not the likeliest, given the true ones
    before.

    languages: two or three of fr, zh, de; rows are the sentences that have all of them. layers: of
    encoder and decoder each. dropout: on residual connections. longest: tokens of an English
    sentence; longer ones are left out, and those whose translation has more than 1.25 times so
    many tokens (Chinese: 1.5). vocabulary: words or characters a language. train, val, test:
    rows, drawn once; null for all.
    """
    _check(languages, layers, width, heads, longest, vocabulary)
    files = required(*(f"libreoffice_help_{name}" for name in (SOURCE, *languages)))
    recipe = {
        "problem": "translation",
        "version": 1,
        "languages": list(languages),
        "longest": longest,
        "vocabulary": vocabulary,
    }
    arrays = prepared(recipe, files, lambda: _encoded(files, languages, longest, vocabulary))
    rows = first_of(
        {name: arrays[name] for name in SPLITS}, {"train": train, "val": val, "test": test}
    )
    tokens = [int(count) for count in arrays["tokens"]]
    lengths = [arrays[name].shape[1] for name in (SOURCE, *languages)]
    sizes = Sizes(layers, width, heads, dropout)
    train_split, val_split, test_split = (_split(arrays, part, languages) for part in rows.values())
    return Problem(
        "translation",
        tuple(_task(name) for name in languages),
        train_split,
        val_split,
        test_split,
        model=lambda: Translator(tokens, lengths, sizes),
    )


def _check(
    languages: Sequence[str], layers: int, width: int, heads: int, longest: int, vocabulary: int
) -> None:
    chosen = set(languages)
    if not 2 <= len(languages) == len(chosen) or not chosen <= set(LANGUAGES):
        raise ProblemError(
            f"languages must be two or three different ones of {LANGUAGES}; found {list(languages)}"
        )
    if layers < 1 or heads < 1 or width < 2 or width % (2 * heads):
        raise ProblemError(
            "layers and heads must be at least 1 and width a multiple of 2 × heads; found "
            f"layers {layers}, heads {heads}, width {width}"
        )
    if longest < 1 or not 1 <= vocabulary <= 30_000:
        raise ProblemError(
            "longest must be at least 1 and vocabulary within 1 … 30,000; found "
            f"{longest} and {vocabulary}"
        )


def _task(language: str) -> Task:
    """Padding counts as missing labels."""
    entropy = over_labelled(functional.cross_entropy)
    return Task(language, entropy, {"error": _error_rate}, missing=True)


def _error_rate(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of tokens that are not the likeliest, in [0, 1], from (B, V, T) and (B, T)."""
    counted = known(targets)
    wrong = (logits.argmax(1) != targets) & counted
    return wrong.sum().to(logits.dtype) / counted.sum().clamp(min=1)


def _encoded(
    files: Sequence[Path], languages: Sequence[str], longest: int, vocabulary: int
) -> Arrays:
    """Tokens of every sentence by language, the tables' sizes, and each split's shuffled rows."""
    limits = [math.ceil(SPREAD[name] * longest) for name in languages]
    rows = [
        sentence
        for sentence in aligned(files, languages)
        if len(sentence.source) <= longest
        and all(len(t) <= limit for t, limit in zip(sentence.targets, limits, strict=True))
    ]
    parts = _divided(rows, list(pages_of(files[0])), np.random.default_rng(2022))
    versions = [[row.source for row in rows]]
    versions += [[row.targets[n] for row in rows] for n in range(len(languages))]
    tables = [_table((texts[n] for n in parts["train"]), vocabulary) for texts in versions]
    versions[1:] = [[(*text, END) for text in texts] for texts in versions[1:]]
    lengths = (longest, *(limit + 1 for limit in limits))
    coded = [_codes(*given) for given in zip(versions, tables, lengths, strict=True)]
    names = (SOURCE, *languages)
    return {
        **dict(zip(names, coded, strict=True)),
        **{f"{name}_words": np.array(table) for name, table in zip(names, tables, strict=True)},
        "tokens": np.array([len(MARKS) + len(table) for table in tables]),
        **_apart(parts, coded[0]),
    }


def _divided(
    rows: Sequence[Sentence], pages: list[str], generator: np.random.Generator
) -> dict[str, Rows]:
    """Shuffled rows of each split; those of one page are in one."""
    order = generator.permutation(len(pages))
    ends = np.cumsum(np.multiply(SHARES, len(pages))).round()
    number = {pages[page]: place for place, page in enumerate(order)}
    split = np.searchsorted(ends, [number[row.page] for row in rows], side="right")
    shuffled = generator.permutation(len(rows))
    return {name: shuffled[split[shuffled] == n] for n, name in enumerate(SPLITS)}


def _apart(parts: dict[str, Rows], source: Tokens) -> dict[str, Rows]:
    """The splits without rows whose source, as the network reads it, an earlier split has.

    Raises ProblemError if one is empty.
    """
    known = set[bytes]()
    kept = {}
    for name, rows in parts.items():
        read = [source[row].tobytes() for row in rows]
        kept[name] = rows[[text not in known for text in read]]
        known.update(read)
    if empty := [name for name, rows in kept.items() if not len(rows)]:
        raise ProblemError(
            f"each split needs a sentence that is short enough; {empty[0]!r} has none of the "
            f"{len(source):,} there are"
        )
    return kept


def _table(texts: Iterable[tuple[str, ...]], vocabulary: int) -> list[str]:
    """The commonest tokens, by frequency and then by name."""
    counts = Counter(token for text in texts for token in text)
    common = sorted((-count, token) for token, count in counts.items() if count >= RARE)
    return [token for _, token in common[:vocabulary]]


def _codes(texts: Sequence[tuple[str, ...]], table: Sequence[str], length: int) -> Tokens:
    """Tokens by number, then PADDING: (n, length)."""
    numbers = {token: n for n, token in enumerate((*MARKS, *table))}
    codes = np.full((len(texts), length), PADDING, np.int16)
    for row, text in zip(codes, texts, strict=True):
        row[: len(text)] = [numbers.get(token, UNKNOWN) for token in text]
    return codes


def _split(arrays: Arrays, rows: Rows, languages: Sequence[str]) -> Split:
    """Inputs: source, then what the decoder reads in each language, one token behind its target."""
    source, *targets = (
        torch.from_numpy(arrays[name][rows].astype(np.int64)) for name in (SOURCE, *languages)
    )
    read = [functional.pad(target[:, :-1], (1, 0), value=START) for target in targets]
    wanted = tuple(target.masked_fill(target == PADDING, IGNORED) for target in targets)
    return Split(torch.cat([source, *read], dim=1), wanted)
