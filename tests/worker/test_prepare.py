"""The adapter that a job goes on from, fetched and checked before the trainer starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import WrongInput
from tests.worker.fake_server import FakeServer, sha256
from worker.flags import read_flags
from worker.supervise import Bench, supervise

MakeBench = Callable[..., Bench]
NAMES = ("adapter_model.safetensors", "adapter_config.json")


def carry_out(server: FakeServer, bench: Bench, paths: tuple[str, ...] = NAMES) -> dict[str, Any]:
    files = [{"path": path, "size": len(path), "sha256": sha256(path.encode())} for path in paths]
    server.offer(from_adapter={"id": 5, "name": "first", "sha256": sha256(NAMES[0].encode()), "files": files})
    given = bench.client.claim(1, "cpu", "key")
    assert given is not None
    supervise(given, bench)
    return server.ends[0]


def test_its_files_lie_beside_the_job(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    server.stored |= {f"from-adapter/{name}": name.encode() for name in NAMES}
    assert carry_out(server, bench())["outcome"] == "succeeded"
    job_dir = tmp_path / "worker" / "jobs" / "7" / "attempt-1"
    spec = json.loads((job_dir / "job.json").read_text())
    assert Path(spec["from_adapter_path"]) == job_dir / "from_adapter"
    assert {one.name: one.read_text() for one in (job_dir / "from_adapter").iterdir()} == {one: one for one in NAMES}
    assert spec["from_adapter"] == {"id": 5, "name": "first", "sha256": sha256(NAMES[0].encode())}


def test_other_bytes_than_were_promised_are_not_trained_on(server: FakeServer, bench: MakeBench) -> None:
    server.stored |= {f"from-adapter/{name}": b"other" for name in NAMES}
    ending = carry_out(server, bench())
    assert (ending["outcome"], ending["error"]["code"]) == ("failed", "file_damaged")


def test_an_adapter_that_was_deleted_is_said_so(server: FakeServer, bench: MakeBench) -> None:
    assert carry_out(server, bench())["error"]["code"] == "file_missing"


def test_no_file_is_put_outside_the_job(server: FakeServer, bench: MakeBench) -> None:
    assert carry_out(server, bench(), ("../../../outside",))["error"]["code"] == "wrong_path"


def flags(tmp_path: Path, adapter: Path) -> Path | None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    given = ["--dataset", str(tmp_path / "rows.jsonl"), "--model", "tiny-qwen3-vl", "--output-dir", str(tmp_path)]
    return read_flags([*given, "--from-adapter", str(adapter)]).from_adapter


def test_by_hand_the_folder_is_a_flag(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).touch()
    assert flags(tmp_path, tmp_path) == tmp_path


def test_a_folder_without_an_adapter_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="--from-adapter: there is no adapter_model"):
        flags(tmp_path, tmp_path)
