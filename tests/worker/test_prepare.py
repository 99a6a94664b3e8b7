"""The adapter that a job goes on from, fetched and checked before the trainer starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import WrongInput
from tests.factories import make_model
from tests.worker.fake_server import FakeServer, sha256
from worker.files import Part
from worker.flags import read_flags
from worker.messages import FileSpec
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


def test_the_model_of_the_control_center_is_fetched_once(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "theirs")
    contents = {file.name: file.read_bytes() for file in folder.iterdir()}
    listed = [{"path": name, "size": len(data), "sha256": sha256(data)} for name, data in contents.items()]
    server.stored |= {f"model/{name}": data for name, data in contents.items()}
    server.stored["model"] = json.dumps({"files": listed}).encode()
    for attempt in (1, 2):
        server.offer(model="ours", attempt=attempt)
        supervise(bench().client.claim(1, "cpu", "key") or pytest.fail("no claim"), bench())
    assert [ending["outcome"] for ending in server.ends] == ["succeeded"] * 2
    assert sum("GET model/" in one for one in server.order) == len(contents)
    spec = json.loads((tmp_path / "worker" / "jobs" / "7" / "attempt-2" / "job.json").read_text())
    assert {file.name: file.read_bytes() for file in Path(spec["model_path"]).iterdir()} == contents


def test_a_model_nobody_has_is_named(server: FakeServer, bench: MakeBench) -> None:
    server.offer(model="nowhere")
    supervise(bench().client.claim(1, "cpu", "key") or pytest.fail("no claim"), bench())
    assert server.ends[0]["error"]["code"] == "model_missing"


def test_a_download_that_broke_off_goes_on(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    data = b"0123456789"
    server.offer()
    claim = bench().client.claim(1, "cpu", "key")
    assert claim is not None
    job = bench().client.job(claim.job_id, claim.attempt, claim.claim_token)
    file = FileSpec(path="weights", size=len(data), sha256=sha256(data))
    Part(tmp_path / "weights", len(data), file.sha256).append([data[:4]], anew=True)
    server.stored["model/weights"] = data
    job.get_model_file(file, tmp_path / "weights")
    assert ((tmp_path / "weights").read_bytes(), server.ranges) == (data, [4])


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


def test_every_dataset_of_a_mixture_is_fetched(server: FakeServer, bench: MakeBench, tmp_path: Path) -> None:
    contents = {1: b'{"a": 1}\n', 4: b'{"b": 2}\n'}
    server.stored |= {f"datasets/{number}": data for number, data in contents.items()}
    mixture = [
        {"id": number, "name": f"{number}.jsonl", "sha256": sha256(data), "size": len(data), "weight": number}
        for number, data in contents.items()
    ]
    server.offer(mixture=mixture)
    supervise(bench().client.claim(1, "cpu", "key") or pytest.fail("no claim"), bench())
    spec = json.loads((tmp_path / "worker" / "jobs" / "7" / "attempt-1" / "job.json").read_text())
    assert [Path(one["path"]).read_bytes() for one in spec["mixture"]] == list(contents.values())
    assert [(one["weight"], one["dataset"]["id"]) for one in spec["mixture"]] == [(1.0, 1), (4.0, 4)]
    assert spec["dataset_path"] == spec["mixture"][0]["path"]
