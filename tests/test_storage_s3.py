"""A sweep whose results lie in a bucket: Moto's S3 server on this machine, spoken to by pyarrow."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.fs
import pytest
from test_cluster import free_port, is_open, wait_for
from test_storage import settings, stop_after
from test_sweep import sorted_frame

from mtofront.sweep import Interrupted, StorageError, load_config, resume, run
from mtofront.sweep.stored_path import StoredPath, check_storage, stored

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("moto", "flask", "flask_cors")),
    reason="needs an S3 server: pip install '.[s3test]'",
)

QUERY = "?scheme=http&region=us-east-1&endpoint_override=127.0.0.1:"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The part of a URI that leads to a server with one empty bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with pytest.MonkeyPatch.context() as patch, subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            wait_for(lambda: is_open(port))
            system, _ = pyarrow.fs.FileSystem.from_uri(
                f"s3://bucket/{QUERY}{port}&allow_bucket_creation=true"
            )
            system.create_dir("bucket")
            yield f"{QUERY}{port}"
        finally:
            process.terminate()


def test_a_sweep_goes_on_from_its_bucket_alone(bowls: Path, server: str) -> None:
    run(load_config(bowls), "whole")
    uri = f"s3://bucket/sweeps/one{server}"
    with pytest.raises(Interrupted):
        config = load_config(bowls, settings(uri, "resources.checkpoint_seconds=0"))
        run(config, "first", listen=stop_after(12))
    root = stored(uri)
    path = next((root / "records").glob("*.parquet"))
    damaged = path.read_bytes()[:-20]
    path.write(lambda file: file.write(damaged))
    outcome = resume("second", storage=uri)
    (line,) = outcome.notices
    assert line.startswith(f"s3://bucket/sweeps/one/records/{path.name} was damaged")
    pd.testing.assert_frame_equal(sorted_frame(Path("second")), sorted_frame(Path("whole")))
    assert [p.name for p in (root / "checkpoints").glob("*.ckpt")] == []
    assert not (root / "owner.json").exists()


def test_a_bucket_that_is_not_there_is_a_clear_error_before_anything_starts(
    bowls: Path, server: str
) -> None:
    with pytest.raises(StorageError, match=r"s3://nowhere/x/.*NO_SUCH_BUCKET.*storage must be"):
        run(load_config(bowls, settings(f"s3://nowhere/x{server}")), "out")
    assert not Path("out").exists()


def test_an_object_that_is_not_written_to_its_end_does_not_appear(server: str) -> None:
    root = stored(f"s3://bucket/halves{server}")

    def half(file: object) -> None:
        raise ValueError("a tensor that cannot be written")

    with pytest.raises(ValueError, match="a tensor"):
        (root / "x").write(half)
    assert list(root.glob("*")) == []
    large = bytes(11 * 2**20)  # more than one part of a multipart upload
    (root / "large").write(lambda file: file.write(large))
    assert (root / "large").read_bytes() == large
    assert isinstance(root, StoredPath)
    check_storage(root)
    assert [path.name for path in root.glob("*")] == ["large"]
