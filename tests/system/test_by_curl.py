"""The whole way with curl alone: leo-like data goes in, trains, and what comes out is what was asked."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Server

GENERATOR = REPOSITORY / "examples" / "make_leo_like.py"
FAULTS_THAT_ARE_ERRORS = ("null_content", "no_answer", "unknown_role", "not_json", "wrong_shape", "empty_answer")


def curl(server: Server, path: str, *more: str) -> Any:
    token = f"Authorization: Bearer {server.token}"
    command = ["curl", "-sS", "--fail-with-body", "-H", token, *more, f"{server.url}{path}"]
    answer = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def leo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    path = tmp_path_factory.mktemp("leo") / "leo.jsonl"
    subprocess.run([sys.executable, GENERATOR, path, "--rows", "500"], check=True, capture_output=True)
    return path, json.loads(path.with_suffix(".truth.json").read_text())["faults"]


@pytest.fixture(scope="module")
def dataset(server: Server, leo: tuple[Path, dict[str, list[int]]]) -> dict[str, Any]:
    made: dict[str, Any] = curl(server, "/api/datasets/", "-T", str(leo[0]))
    until = time.monotonic() + 60
    while made["state"] == "checking" and time.monotonic() < until:
        time.sleep(0.2)
        made = curl(server, f"/api/datasets/{made['id']}")
    return made


def test_every_bad_line_is_found_where_it_stands(
    server: Server, dataset: dict[str, Any], leo: tuple[Path, dict[str, list[int]]]
) -> None:
    found = curl(server, f"/api/datasets/{dataset['id']}/findings?severity=error&limit=500")["items"]
    wanted = {(kind, line) for kind in FAULTS_THAT_ARE_ERRORS for line in leo[1][kind]}
    assert {(one["kind"], one["line"]) for one in found} == wanted
    assert (dataset["num_records"], dataset["num_valid"]) == (500, 500 - len(wanted))


def test_the_other_two_forms_of_curl_meet_the_same_dataset(
    server: Server, dataset: dict[str, Any], leo: tuple[Path, dict[str, list[int]]]
) -> None:
    for how in (["--data-binary", f"@{leo[0]}"], ["-F", f"file=@{leo[0]}"]):
        again = curl(server, "/api/datasets", *how)
        assert (again["id"], again["duplicate"]) == (dataset["id"], True)


@pytest.mark.parametrize("kind", [int, dict, list, str])
def test_an_answer_of_any_type_is_trained_as_exactly_its_json_text(
    server: Server, dataset: dict[str, Any], leo: tuple[Path, dict[str, list[int]]], kind: type
) -> None:
    faults = {line for lines in leo[1].values() for line in lines}
    rows = list(enumerate(leo[0].read_text("utf-8").splitlines(), start=1))
    clean = [(line, json.loads(row)) for line, row in rows if line not in faults or line in leo[1]["bare_count"]]
    line, row = next((line, row) for line, row in clean if type(row["messages"][1]["content"]) is kind)
    answer = row["messages"][1]["content"]
    text = answer if kind is str else json.dumps(answer, ensure_ascii=False)
    tokens = curl(server, f"/api/datasets/{dataset['id']}/records/{line}")["tokens"]
    assert "".join(one["text"] for one in tokens if one["role"] == "target") == text + "<|im_end|>"


def test_it_trains_and_the_adapter_comes_out(server: Server, dataset: dict[str, Any], tmp_path: Path) -> None:
    config = {"max_steps": 2, "gradient_accumulation": 2, "max_length": 1024, "sample_prompts": 0, "lora_r": 4}
    body = json.dumps({"dataset_id": dataset["id"], "model": "tiny-qwen3-vl", "config": config})
    job = curl(server, "/api/jobs", "-H", "Content-Type: application/json", "-d", body)
    until = time.monotonic() + 100
    while job["state"] not in ("succeeded", "failed", "cancelled") and time.monotonic() < until:
        time.sleep(0.3)
        job = curl(server, f"/api/jobs/{job['id']}")
    assert (job["state"], job["step"], job["error"]) == ("succeeded", 2, None)
    adapter = curl(server, f"/api/adapters/{job['adapter_id']}")
    assert adapter["manifest"]["dataset"]["sha256"] == dataset["sha256"]
    target = tmp_path / "adapter.zip"
    token = f"Authorization: Bearer {server.token}"
    place = f"{server.url}/api/adapters/{adapter['id']}/download"
    subprocess.run(["curl", "-sSf", "-H", token, "-o", target, place], check=True)
    listing = subprocess.run([sys.executable, "-m", "zipfile", "-t", target], capture_output=True, check=True)
    assert b"Done testing" in listing.stdout
