"""Plain words for numbers: what a verdict says, and whether the results are complete."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from .verdict import VERDICTS, Comparison


def status(table: pd.DataFrame) -> str:
    """Return one line about a coverage table: complete or partial, diverged and failed runs."""
    total = {name: int(table[name].sum()) for name in table.columns if name != "arm"}
    lost = total["failed"] + total["missing"]
    finished = total["done"] + total["stopped"] + total["diverged"]
    if lost:
        parts = [f"Partial results: {finished} of {total['expected']} planned runs are finished"]
        parts += [f"{total[name]} {name}" for name in ("failed", "missing") if total[name]]
    else:
        parts = [f"Complete: all {_count(total['expected'], 'planned run')} finished"]
    if total["stopped"]:
        parts.append(f"{_count(total['stopped'], 'finished run')} stopped early by the scheduler")
    if total["diverged"]:
        runs = _count(total["diverged"], "finished run")
        parts.append(f"{runs} diverged, counted as cost and never as part of a front")
    return "; ".join(parts) + "."


def reservations(comparison: Comparison) -> list[str]:
    """Return what to know before any verdict, a line each.

    A baseline none of whose runs weighs all tasks; arms of which only a part, or nothing, could be
    compared.
    """
    lines, baseline = [], comparison.settings.baseline
    if comparison.edge_vectors:
        vectors = _count(comparison.edge_vectors, "weight vector")
        lines.append(
            f"No run of {baseline} weighs all tasks: each of its {vectors} leaves some task "
            "untrained. Its front has no middle, and whoever trains all tasks may beat it for that "
            "alone; compare with weights that are all positive."
        )
    seeds = comparison.margins.groupby("arm")["seed"].nunique()
    for arm in comparison.rows["arm"]:
        count = int(seeds.get(arm, 0))
        lost = comparison.left_out.get(str(arm), [])
        if lost:
            seeds_left = _listed_seeds(lost)
            lines.append(
                f"Partial: {arm} is compared on {_count(count, 'seed')}; not on {seeds_left}"
                f", where it or {baseline} has no finished run."
            )
        if count < 2:
            lines.append(f"{arm}: {_count(count, 'seed')} to compare, an interval needs two.")
    return lines


def _listed_seeds(seeds: list[int]) -> str:
    shown = ", ".join(map(str, seeds[:5]))
    return f"seed {shown}" if len(seeds) == 1 else f"seeds {shown}{', …' * (len(seeds) > 5)}"


def summary(comparison: Comparison) -> str:
    """Return the answer in a few sentences: which arms beat, match or trail the baseline.

    Controls explain arms and are no answer.
    """
    rows, baseline = comparison.rows, comparison.settings.baseline
    rows = rows[~rows["arm"].isin(comparison.settings.controls)]
    says = {
        "beats": ("beats", "beat", f"tuned {baseline}"),
        "matches": ("matches", "match", f"tuned {baseline}"),
        "worse": ("is", "are", f"worse than tuned {baseline}"),
        "inconclusive": ("is", "are", "undecided: the interval allows more than one answer"),
    }
    found = []
    for word in VERDICTS:
        arms = [str(arm) for arm in rows.loc[rows["verdict"] == word, "arm"]]
        if arms:
            one, many, rest = says[word]
            found.append(f"{_listed(arms)} {one if len(arms) == 1 else many} {rest}.")
    return " ".join(found) or f"There is no arm to compare with {baseline}."


def sentence(row: Mapping[Hashable, Any], comparison: Comparison, price: float) -> str:
    """Return one arm's verdict in plain words.

    row: a verdict row. price: backward passes of one of its runs over one of the baseline's, NaN if
    unknown.
    """
    baseline = f"tuned {comparison.settings.baseline}"
    margin, ends = abs(row["margin"]), f"{signed(row['low'])} to {signed(row['high'])}"
    body = {
        "beats": f"Its selected runs reach {margin:.3f} beyond what {baseline} attains ({ends})"
        f"{_in_losses(margin, comparison)}.",
        "matches": f"It finds what {baseline} finds: any difference ({ends}) is smaller than the "
        f"equivalence margin of {comparison.settings.equivalence:g}.",
        "worse": f"Even its selected runs stay {margin:.3f} behind {baseline} ({ends})"
        f"{_in_losses(margin, comparison)}.",
        "inconclusive": _undecided(row, comparison),
    }[row["verdict"]]
    return " ".join(
        [
            body,
            *_small(row, comparison.settings.equivalence),
            *_effort(row, comparison.settings.baseline),
            *_price(price),
        ]
    )


def _in_losses(margin: float, comparison: Comparison) -> str:
    """What a margin is in each task's own loss, for up to four tasks."""
    unit = comparison.normalisation
    spans = [high - low for low, high in zip(unit.ideal, unit.nadir, strict=True)]
    each = [f"{margin * span:.3g} in {t}" for t, span in zip(unit.tasks, spans, strict=True)]
    return f", which is {_listed(each)}" if len(each) <= 4 else ""


def _small(row: Mapping[Hashable, Any], equivalence: float) -> list[str]:
    """A real difference need not matter."""
    if row["verdict"] in ("beats", "worse") and abs(row["margin"]) < equivalence:
        return [f"That is less than the {equivalence:g} declared to matter."]
    return []


def _undecided(row: Mapping[Hashable, Any], comparison: Comparison) -> str:
    """Why there is no answer, and what would bring one."""
    own = comparison.margins[comparison.margins["arm"] == row["arm"]]
    if len(own) < 2:
        seeds = "no seed" if own.empty else "one seed"
        return f"Only {seeds} can be compared and an interval needs two: run more seeds."
    found = comparison.statistics.set_index("arm").loc[row["arm"]]
    ends = f"{signed(row['low'])} to {signed(row['high'])}"
    if row["low"] > 0 or row["high"] < 0:
        controls = comparison.rows["arm"].isin(comparison.settings.controls)
        alike = int((controls == (row["arm"] in comparison.settings.controls)).sum())
        share = f"after Holm's correction for {alike} arms p is {found['p_holm']:.2g}"
        return f"The interval, {ends}, excludes 0, but not surely enough: {share}."
    more = found["further_seeds"]
    if math.isinf(more):
        cure = "what the weight grid leaves open is the limit: add weights near its runs"
    elif more == 0:
        cure = "one seed more may settle it"
    else:
        cure = f"about {_count(int(more), 'further seed')} would settle it"
    return f"The interval, {ends}, allows more than one answer; {cure}."


def _effort(row: Mapping[Hashable, Any], baseline: str) -> list[str]:
    """How many baseline runs do the same job."""
    count = row["equivalent_runs"]
    if math.isnan(count):
        return []
    if math.isinf(count):
        return [f"In most seeds no {baseline} run is as good."]
    return [
        f"Drawing {_count(int(count), f'{baseline} run')} at random probably finds one as good."
    ]


def _price(price: float) -> list[str]:
    """What one run costs beside a run of the baseline."""
    if math.isnan(price):
        return []
    if abs(price - 1) < 0.05:
        return ["A run costs the same backward passes."]
    return [f"A run costs {price:.1f} times the backward passes."]


def signed(value: float) -> str:
    """Return a margin with three digits and its sign, a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
