"""Data sets come whole or not at all: clients, cut downloads, wrong digests, archives, messages."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mtofront.cli import main
from mtofront.problems import PROBLEMS, ProblemError
from mtofront.problems.brought import BROUGHT
from mtofront.problems.carriers import by_client
from mtofront.problems.datafolder import get, is_here, layout_of, prepared, required
from mtofront.problems.generated import GENERATED
from mtofront.problems.sources import SOURCES, Source
from mtofront.problems.unpack import digest_of_pages, unpack

CONTENT = {
    "inner/a.csv": b"1,2\n" * 50_000,
    "inner/b.gz": gzip.compress(b"packed"),
    "inner/text/two.html": b"two",
    "inner/text/sub/one.html": b"one",
}
MEMBERS = {"a.csv.gz": "inner/a.csv", "b.gz": "inner/b.gz"}


def quiet(size: int) -> None:
    """Nobody listens."""


def tarball(kind: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for name, content in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def wheel() -> bytes:
    buffer = io.BytesIO()
    about = "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28_x86_64\n"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in CONTENT.items():
            archive.writestr(name, content)
        archive.writestr("tinydata-1.0.dist-info/METADATA", about)
        archive.writestr("tinydata-1.0.dist-info/WHEEL", kind)
        archive.writestr("tinydata-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


def deb(control: bytes = b"odd") -> bytes:
    """An ar archive as dpkg writes it; members of odd length are padded."""
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": control, "data.tar.xz": tarball("xz")}
    whole = b"!<arch>\n"
    for name, content in parts.items():
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    return whole


CARRIERS = {
    "tinydata-1.0-cp311-cp311-manylinux_2_28_x86_64.whl": wheel,
    "tinydata-1.0.tar.gz": lambda: tarball("gz"),
    "tinydata-1.0.tgz": lambda: tarball("gz"),
    "tinydata_1.0_all.deb": deb,
}
WHEEL = next(iter(CARRIERS))


def tiny(content: bytes, **changes: Any) -> Source:
    """A source whose carrier has this content."""
    known = dataclasses.replace(
        SOURCES["yeast"],
        name="tiny",
        package="tinydata==1.0",
        carrier=WHEEL,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        members=MEMBERS,
    )
    return dataclasses.replace(known, **changes)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    monkeypatch.setenv("MTOFRONT_DATA", str(folder))
    return folder


def check_tiny(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(MEMBERS)
    assert gzip.decompress((folder / "a.csv.gz").read_bytes()) == CONTENT["inner/a.csv"]
    assert (folder / "b.gz").read_bytes() == CONTENT["inner/b.gz"]


@pytest.mark.parametrize("name", CARRIERS)
def test_members_come_out_of_every_kind_of_archive_byte_for_byte(name: str, tmp_path: Path) -> None:
    carrier = tmp_path / name
    carrier.write_bytes(CARRIERS[name]())
    unpack(carrier, MEMBERS, tmp_path / "out")
    check_tiny(tmp_path / "out")


@pytest.mark.parametrize("name", CARRIERS)
def test_a_folder_comes_out_as_one_archive_with_the_same_digest(name: str, tmp_path: Path) -> None:
    carrier = tmp_path / name
    carrier.write_bytes(CARRIERS[name]())
    unpack(carrier, {"text.zip": "inner/text/", "b.gz": "inner/b.gz"}, tmp_path)
    assert (tmp_path / "b.gz").read_bytes() == CONTENT["inner/b.gz"]
    with zipfile.ZipFile(tmp_path / "text.zip") as archive:
        found = {path: archive.read(path) for path in archive.namelist()}
    assert found == {"two.html": b"two", "sub/one.html": b"one"}
    assert digest_of_pages(tmp_path / "text.zip") == PAGES


PAGES = hashlib.sha256(
    b"".join(
        hashlib.sha256(content).digest() + path + b"\n"
        for path, content in ((b"sub/one.html", b"one"), (b"two.html", b"two"))
    )
).hexdigest()


def of_pages(**changes: Any) -> Source:
    """A source of which any version will do that holds the same pages."""
    members = {"text.zip": "inner/text/"}
    known = {"client": "apt-get", "package": "tinydata", "carrier": "tinydata_1_all.deb"}
    return tiny(deb(), **{**known, "members": members, "pages": PAGES, **changes})


def test_another_version_of_a_package_will_do_if_it_holds_the_same_pages(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = data.parent / "other.deb"
    other.write_bytes(deb(b"another version"))
    get(of_pages(), str(other), quiet)
    assert digest_of_pages(data / "tiny" / "text.zip") == PAGES
    with pytest.raises(
        ProblemError, match=r"or hold the same pages; found(.|\n)*Nothing was taken"
    ):
        get(of_pages(name="tampered", pages="0" * 64), str(other), quiet)
    with pytest.raises(ProblemError, match=r"must have sha256\n  \w+; found"):
        get(of_pages(name="exact", pages=""), str(other), quiet)
    program = data.parent / "apt-get"
    program.write_text(f"#!/bin/sh\n/bin/cp {other} tinydata_2_all.deb\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(data.parent))
    get(of_pages(name="newer"), None, quiet)
    assert digest_of_pages(data / "newer" / "text.zip") == PAGES
    assert sorted(path.name for path in data.iterdir()) == ["newer", "tiny"]


def test_an_archive_without_the_member_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    for name, make in CARRIERS.items():
        carrier = tmp_path / name
        carrier.write_bytes(make())
        with pytest.raises(ProblemError, match=r"must hold a file inner/c"):
            unpack(carrier, {"c": "inner/c"}, tmp_path / "out")
        with pytest.raises(ProblemError, match=r"must hold files below inner/c/"):
            unpack(carrier, {"c": "inner/c/"}, tmp_path / "out")
    carrier.write_bytes(b"!<arch>\n")
    with pytest.raises(ProblemError, match=r"must hold a data\.tar"):
        unpack(carrier, MEMBERS, tmp_path / "out")
    carrier.write_bytes(b"plain text, no archive" * 100)
    with pytest.raises(ProblemError, match="no archive that can be read"):
        unpack(carrier, MEMBERS, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


class Server:
    """Serves one content on this machine; each answer stops after so many bytes of it."""

    def __init__(self, content: bytes) -> None:
        self.content, self.cuts = content, list[int]()
        self.ranges: list[str | None] = []
        self.continues = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                """Tests are silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/{WHEEL}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.continues else 0
        if start >= len(self.content):
            request.send_error(416)
            return
        rest = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        request.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)
        request.wfile.flush()
        request.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    one = Server(wheel())
    thread = threading.Thread(target=one.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield one
    one.http.shutdown()
    one.http.server_close()
    thread.join()


def test_a_download_is_verified_and_leaves_nothing_but_the_data(data: Path, server: Server) -> None:
    heard: list[int] = []
    get(tiny(server.content), server.url, heard.append)
    check_tiny(data / "tiny")
    assert heard[-1] == len(server.content)
    assert sorted(path.name for path in data.iterdir()) == ["parts", "tiny"]
    assert not list((data / "parts").iterdir())


def test_a_cut_connection_goes_on_where_it_stopped(data: Path, server: Server) -> None:
    server.cuts = [100, 200]
    get(tiny(server.content), server.url, quiet)
    check_tiny(data / "tiny")
    assert server.ranges == [None, "bytes=100-", "bytes=300-"]


def test_what_arrived_before_the_end_of_a_process_is_not_fetched_again(
    data: Path, server: Server
) -> None:
    server.cuts = [100, 0]
    with pytest.raises(ProblemError, match=r"100 bytes are kept, ask again to go on"):
        get(tiny(server.content), server.url, quiet)
    assert not (data / "tiny").exists()
    get(tiny(server.content), server.url, quiet)
    check_tiny(data / "tiny")
    assert server.ranges == [None, "bytes=100-", "bytes=100-"]


def test_a_server_that_cannot_continue_is_asked_for_everything(data: Path, server: Server) -> None:
    server.cuts, server.continues = [100], False
    get(tiny(server.content), server.url, quiet)
    check_tiny(data / "tiny")


def test_a_part_that_was_already_whole_is_taken(data: Path, server: Server) -> None:
    source = tiny(server.content)
    (data / "parts").mkdir(parents=True)
    (data / "parts" / f"{source.sha256[:16]}.part").write_bytes(server.content)
    get(source, server.url, quiet)
    check_tiny(data / "tiny")


def test_a_wrong_digest_is_refused_and_nothing_is_kept(data: Path, server: Server) -> None:
    source = tiny(server.content)
    server.content = server.content[:-1] + b"x"
    with pytest.raises(ProblemError, match=f"sha256\n  {source.sha256}; found"):
        get(source, server.url, quiet)
    assert [path for path in data.rglob("*") if path.is_file()] == []


def test_a_missing_page_is_an_error_with_the_address(data: Path, server: Server) -> None:
    server.content = b""
    with pytest.raises(ProblemError, match=r"127\.0\.0\.1.*could not be read: HTTP Error 416"):
        get(tiny(b"x"), server.url, quiet)


def test_a_users_own_file_is_verified_used_and_left_where_it_is(data: Path) -> None:
    own = data.parent / "own.whl"
    own.write_bytes(wheel())
    get(tiny(wheel()), str(own), quiet)
    check_tiny(data / "tiny")
    own.write_bytes(b"PK other")
    with pytest.raises(ProblemError, match="Nothing was taken out of it"):
        get(tiny(wheel()), str(own), quiet)
    assert own.exists()
    with pytest.raises(ProblemError, match="needs a file or an http"):
        get(tiny(wheel()), "nowhere.whl", quiet)


@pytest.mark.slow
def test_pip_fetches_a_wheel_for_another_machine_and_compares_its_digest(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = data.parent / "shelf"
    shelf.mkdir()
    content = wheel()
    (shelf / WHEEL).write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    get(tiny(content), None, quiet)
    check_tiny(data / "tiny")
    with pytest.raises(ProblemError, match=r"pip could not fetch tinydata==1\.0: it said"):
        get(tiny(b"another"), None, quiet)
    anywhere = "tinydata-1.0-py3-none-any.whl"
    (shelf / WHEEL).rename(shelf / anywhere)
    get(tiny(content, name="pure", carrier=anywhere), None, quiet)
    check_tiny(data / "pure")


@pytest.mark.parametrize(
    ("client", "arguments"),
    [("npm", ["pack", "tinydata@1.0"]), ("apt-get", ["download", "tinydata@1.0"])],
)
def test_npm_and_apt_are_asked_for_the_package_in_a_folder_of_its_own(
    client: Any, arguments: list[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = data.parent / "bin"
    shelf.mkdir()
    (shelf / "file").write_bytes(deb())
    program = shelf / client
    program.write_text(f'#!/bin/sh\necho "$@" > {shelf}/asked\n/bin/cp {shelf}/file tiny.deb\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(shelf))
    source = tiny(deb(), client=client, package="tinydata@1.0", carrier="tiny.deb")
    get(source, None, quiet)
    check_tiny(data / "tiny")
    assert (shelf / "asked").read_text().split()[:2] == arguments
    program.write_text("#!/bin/sh\necho no such package >&2\nexit 100\n")
    with pytest.raises(ProblemError, match=r"no such package\n(.|\n)*get tiny --from"):
        get(source, None, quiet)
    program.unlink()
    with pytest.raises(ProblemError, match=f"{client} could not fetch.*not on this machine"):
        by_client(source, shelf, quiet)


def test_prepared_arrays_are_built_once_and_again_when_anything_differs(data: Path) -> None:
    data.mkdir()
    file = data / "file"
    file.write_bytes(b"first")
    built: list[bytes] = []

    def build() -> dict[str, Any]:
        import numpy as np

        built.append(file.read_bytes())
        return {"length": np.array(len(built[-1]))}

    recipe = {"problem": "p", "version": 1}
    for _ in range(2):
        assert prepared(recipe, [file], build)["length"] == 5
    assert len(built) == 1
    prepared({**recipe, "version": 2}, [file], build)
    file.write_bytes(b"second")
    assert prepared(recipe, [file], build)["length"] == 6
    assert len(built) == 3
    kept = sorted((data / "prepared").glob("p-*.npz"))
    assert len(kept) == 3
    for path in kept:
        path.write_bytes(path.read_bytes()[:-40])
    assert prepared(recipe, [file], build)["length"] == 6
    assert len(built) == 4


def test_a_damaged_file_is_named(data: Path) -> None:
    folder = data / "yeast"
    folder.mkdir(parents=True)
    (folder / "yeast.csv.gz").write_bytes(gzip.compress(b"Att1\n" * 99)[:-9])
    with pytest.raises(ProblemError, match=r"yeast\.csv\.gz cannot be read.*fetch it again"):
        PROBLEMS["yeast"]()


@pytest.fixture
def command(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `mtofront ...` in this process, with an empty data folder."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mtofront", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return call


Command = Callable[..., tuple[int, str, str]]


def test_the_list_says_what_is_here(command: Command, data: Path) -> None:
    code, out, _ = command("data", "list")
    assert code == 0 and "fashion_mnist" in out and str(data) in out
    rows = json.loads(command("data", "list", "--json")[1])
    assert {row["name"] for row in rows} == {*SOURCES, *GENERATED, *BROUGHT}
    assert not any(row["here"] for row in rows)
    assert all(row["licence"] and row["citation"] for row in rows)
    fetched = [row for row in rows if row["name"] in SOURCES]
    assert all(len(row["sha256"]) == 64 for row in fetched)
    (data / "yeast").mkdir(parents=True)
    (data / "yeast" / "yeast.csv.gz").touch()
    here = {row["name"] for row in json.loads(command("data", "list", "--json")[1]) if row["here"]}
    assert here == {"yeast"}


def test_where_prints_the_folder_alone_and_says_apart_what_is_missing(
    command: Command, data: Path
) -> None:
    code, out, err = command("data", "where", "census")
    assert (code, out) == (0, f"{data / 'census'}\n")
    assert "mtofront data get census" in err
    code, _, err = command("data", "where", "sensus")
    assert code == 2 and "did you mean 'census'?" in err


@pytest.mark.parametrize("name", sorted(BROUGHT))
def test_a_set_to_be_brought_says_what_to_put_where_and_is_noticed(
    name: str, command: Command, data: Path
) -> None:
    code, out, err = command("data", "where", name)
    assert (code, out) == (0, f"{data / name}\n")
    assert BROUGHT[name].contents in err and BROUGHT[name].origin in err
    code, out, err = command("data", "get", name)
    assert code == 2 and "cannot be fetched for you" in err and str(data / name) in err
    for layout, needed in BROUGHT[name].layouts.items():
        for member in needed:
            assert layout_of(BROUGHT[name]) is None
            (data / name / member).mkdir(parents=True)
        assert layout_of(BROUGHT[name]) == layout
        assert json.loads(command("data", "where", name, "--json")[1])["here"]
        assert BROUGHT[name].citation in command("data", "get", name)[1]
        shutil.rmtree(data / name)


def test_a_relative_data_folder_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", "data")
    code, _, err = command("data", "where", "census")
    assert code == 2 and "MTOFRONT_DATA must be an absolute path; found 'data'" in err


def test_get_says_licence_and_citation_and_does_nothing_twice(
    command: Command, data: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "tiny", tiny(server.content))  # type: ignore[arg-type]
    code, out, err = command("data", "get", "tiny", "--from", server.url)
    assert code == 0, err
    assert "Licence: BSD-3-Clause" in out and "Cite: Elisseeff" in out and str(data) in out
    check_tiny(data / "tiny")
    row = json.loads(command("data", "get", "tiny", "--json")[1])
    assert row["here"] and row["folder"] == str(data / "tiny")
    assert len(server.ranges) == 1
    assert command("data", "get", "tiny", "--again", "--from", server.url)[0] == 0
    assert len(server.ranges) == 2


def test_several_sets_are_fetched_at_once_but_from_one_address_only_one(
    command: Command, data: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tiny", "other"):
        monkeypatch.setitem(SOURCES, name, tiny(server.content, name=name))  # type: ignore[arg-type]
    code, _, err = command("data", "get", "tiny", "other", "--from", server.url)
    assert code == 2 and "--from is the address of one package file; found 2 names" in err
    for name in ("tiny", "other"):
        assert command("data", "get", name, "--from", server.url)[0] == 0
    rows = command("data", "get", "tiny", "other", "--json")[1].splitlines()
    assert [json.loads(row)["name"] for row in rows] == ["tiny", "other"]
    with pytest.raises(ProblemError, match="get census yeast"):
        required("census", "yeast")


@pytest.mark.parametrize(
    "name",
    ["multimnist", "multifashion", "census", "yeast", "movielens", "qm9", "translation", *BROUGHT],
)
def test_plan_and_run_say_how_to_get_what_is_absent(
    name: str, command: Command, bowls: Path
) -> None:
    expected = "fetch it once", "mtofront data get"
    if name in BROUGHT:
        expected = "cannot be fetched for you: put into", BROUGHT[name].origin
    text = bowls.read_text().replace("problem: quadratics", f"problem: {name}")
    bowls.write_text(text)
    for verb in ("plan", "run"):
        code, _, err = command(verb, str(bowls))
        assert code == 2 and "Traceback" not in err
        assert f"bowls.yaml:2: problem: {name} cannot be made" in err
        assert all(words in err for words in expected)


@pytest.mark.skipif("MTOFRONT_NETWORK_TESTS" not in os.environ, reason="asks the real registries")
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_real_carriers_can_be_had(name: str, data: Path) -> None:
    get(SOURCES[name], None, quiet)
    assert is_here(SOURCES[name])
    assert len(required(name)) == len(SOURCES[name].members)
