"""The published claims that were run again, and the pages that say what came out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from method_pages import method_page
from pydantic import TypeAdapter

from mtofront.analysis import load_manifest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = ("docs/index.md", "README.md", "docs/reproductions.md", "docs/methods.md")
BEGIN, END = "<!-- {} begin: make pages -->", "<!-- {} end -->"

Outcome = Literal["reproduced", "not reproduced", "not decidable at this size", "partly reproduced"]


@dataclass(frozen=True)
class Claim:
    """A claim of the field, and what running it again gave.

    key: its anchor. says: in one sentence. short: what was found, at a glance. why: the same with
    figures. larger: what a larger run should add. experiments: names of configs, whose results lie
    in docs/results/. surprise: what came out against expectation, if anything did.
    """

    key: str
    title: str
    source: str
    says: str
    outcome: Outcome
    short: str
    why: str
    larger: str
    experiments: tuple[str, ...]
    surprise: str = ""


def claims() -> list[Claim]:
    """What docs/results/claims.yaml says, in its order. Raises ValidationError if it is wrong."""
    text = (RESULTS / "claims.yaml").read_text(encoding="utf-8")
    return TypeAdapter(list[Claim]).validate_python(yaml.safe_load(text))


def config_of(experiment: str) -> Path:
    """The config of an experiment. Raises FileNotFoundError with what there is."""
    for folder in ("configs/claims", "configs"):
        path = ROOT / folder / f"{experiment}.yaml"
        if path.is_file():
            return path
    known = sorted({name for claim in claims() for name in claim.experiments})
    raise FileNotFoundError(f"no experiment {experiment}; there are: {', '.join(known)}")


def recorded(experiment: str) -> pd.DataFrame:
    """The verdict rows that were kept, in their order."""
    return pd.read_csv(RESULTS / experiment / "verdicts.csv")


def pages() -> dict[Path, str]:
    """Path -> text of every page that holds results, with those parts renewed."""
    known = claims()
    index, readme, whole, methods = (ROOT / name for name in PAGES)
    sections = "\n".join(map(_section, known))
    return {
        index: _renewed(index, {"claims": _glance(known, ""), "price": _price(known)}),
        readme: _renewed(readme, {"claims": _glance(known, "docs/")}),
        methods: _renewed(methods, {"methods": _table(method_page())}),
        whole: _renewed(whole, {"surprises": _surprises(known), "claims": sections}),
    }


def _renewed(path: Path, parts: dict[str, str]) -> str:
    """A page's text with what stands between its markers replaced."""
    text = path.read_text(encoding="utf-8")
    for name, content in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{content}\n{end}{rest.split(end)[1]}"
    return text


def _glance(known: list[Claim], to: str) -> str:
    """One row a claim."""
    rows = [
        {
            "claim": f"[{claim.title}]({to}reproductions.md#{claim.key})",
            "source": claim.source,
            "outcome": f"**{claim.outcome}**",
            "found": claim.short,
        }
        for claim in known
    ]
    return _table(rows)


def _price(known: list[Claim]) -> str:
    """One row an arm and experiment with swept weights: scalarization runs that do as well."""
    rows = []
    for name in dict.fromkeys(name for claim in known for name in claim.experiments):
        if not _is_swept(name):
            continue
        effort = pd.read_csv(RESULTS / name / "effort.csv").set_index(["arm", "chance"])
        for arm in recorded(name)["arm"]:
            half, most = (effort.loc[(arm, chance)] for chance in (0.5, 0.9))
            interval = " to ".join(_runs(half[end]) for end in ("low", "high"))
            rows.append((str(arm), name, _runs(half["runs"]), interval, _runs(most["runs"])))
    heads = ("arm", "experiment", "in half of the cases", "95 % interval", "in nine of ten")
    return _table([dict(zip(heads, row, strict=True)) for row in sorted(rows)])


def _is_swept(experiment: str) -> bool:
    """Whether the baseline has several weights; with one, there are no runs of a sweep to count."""
    manifest = load_manifest(RESULTS / experiment)
    baseline = manifest["report"]["baseline"]
    own = [run for run in manifest["runs"].values() if run["arm"] == baseline]
    return len({tuple(run["weights"]) for run in own}) > 1


def _runs(number: float) -> str:
    return "never" if math.isinf(number) else "?" if math.isnan(number) else f"{number:.0f}"


def _surprises(known: list[Claim]) -> str:
    """What came out against expectation."""
    lines = [f"- {claim.surprise} ([more](#{claim.key}))" for claim in known if claim.surprise]
    return "\n".join(lines) + "\n"


def _section(claim: Claim) -> str:
    experiments = "\n".join(map(_experiment, claim.experiments))
    return f"""\
<a id="{claim.key}"></a>
## {claim.title}

*{claim.source}.* {claim.says}

**{_capital(claim.outcome)}.** {_capital(claim.why)}

A larger run should add: {claim.larger}

{experiments}"""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _experiment(name: str) -> str:
    config = config_of(name).relative_to(ROOT)
    rows = [_verdict(row) for row in recorded(name).to_dict("records")]
    return f"""\
### {name}

[`{config}`](../{config}): `make reproduce CLAIM={name}`

{_table(rows)}
![Fronts of {name}](results/{name}/front.png)
{_in_training(name)}{_full(name, str(config))}"""


def _in_training(name: str) -> str:
    """The verdicts on training losses, a line an arm."""
    rows = pd.read_csv(RESULTS / name / "training.csv").to_dict("records")
    wanted = ("arm", "verdict", "margin", "interval")
    table = _table([{head: _verdict(row)[head] for head in wanted} for row in rows])
    return f"""
On training losses at the end of training, that is, as optimisation alone:

{table}"""


def full_sizes() -> dict[str, list[str]]:
    """Experiment -> KEY=VALUE settings that make its config as large as the paper's."""
    text = (RESULTS / "full.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, list[str]]).validate_python(yaml.safe_load(text))


def _full(name: str, config: str) -> str:
    """How to train an experiment at full size, and what that would cost; empty if it is."""
    settings = full_sizes().get(name)
    if settings is None:
        return ""
    cost = pd.read_csv(RESULTS / "full.csv").set_index("experiment").loc[name]
    lines = [f"mtofront run {config}"]
    lines += [f"  --set '{setting}'" for setting in (*settings, "resources.gpus_per_pack=1")]
    command = " \\\n".join(lines)
    runs, work, hours = f"{cost['runs']:,.0f}", f"{cost['petaflop']:.3g}", f"{cost['hours']:.1g}"
    return f"""
At full size, reckoned and not run: {runs} runs, {work} PFLOP, {hours} hours of one GPU.

```
{command}
```
"""


def _verdict(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "arm": str(row["arm"]),
        "verdict": str(row["verdict"]),
        "margin": f"{row['margin']:+.3f}",
        "interval": f"{row['low']:+.3f}\u00a0…\u00a0{row['high']:+.3f}",  # on one line
        "hypervolume": f"{row['hypervolume_ratio']:.3f}".replace("nan", "–"),  # of one point
        "equivalent runs": _runs(row["equivalent_runs"]),
        "runs": f"{row['runs']:.0f}",
        "backward passes": f"{row['backward_passes']:,.0f}",
    }


def _table(rows: list[dict[str, str]]) -> str:
    """A Markdown table of equal rows."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([row[head] for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
