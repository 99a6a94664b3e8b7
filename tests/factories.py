"""Makers of what tests need: datasets, jobs, and a worker that speaks the execution API by hand."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from app.db import Database


def record(question: str, answer: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def jsonl(*records: Any) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in records)


def rows(count: int, seed: str = "") -> bytes:
    return jsonl(*[record(f"{seed} What is {i} + {i}?", i + i) for i in range(count)])


@dataclass
class Center:
    """An app in this process and a client of it that holds the operator's token."""

    app: FastAPI
    client: TestClient
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.app.state.tokens.operator}"}

    @property
    def database(self) -> Database:
        database: Database = self.app.state.database
        return database

    def get(self, path: str, **more: Any) -> Response:
        return self.client.get(path, headers=self.headers, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> Response:
        return self.client.post(path, headers=self.headers, json=json, **more)

    def upload(self, content: bytes, name: str = "rows.jsonl") -> dict[str, Any]:
        answer = self.client.put(f"/api/datasets/{name}", headers=self.headers, content=content)
        assert answer.status_code in (200, 201), answer.text
        dataset: dict[str, Any] = answer.json()
        return dataset

    def wait_for_dataset(self, dataset_id: int) -> dict[str, Any]:
        """The dataset once its check is over."""
        until = time.monotonic() + 60
        while (dataset := self.get(f"/api/datasets/{dataset_id}").json())["state"] == "checking":
            assert time.monotonic() < until, dataset
            time.sleep(0.05)
        checked: dict[str, Any] = dataset
        return checked

    def make_job(self, dataset_id: int | None = None, **more: Any) -> dict[str, Any]:
        dataset_id = dataset_id or self.upload(rows(30))["id"]
        answer = self.post("/api/jobs", json={"dataset_id": dataset_id, "model": "tiny-qwen3-vl", **more})
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job_id: int) -> dict[str, Any]:
        job: dict[str, Any] = self.get(f"/api/jobs/{job_id}").json()
        return job

    def act(self, job_id: int, action: str, json: Any = None) -> Response:
        return self.post(f"/api/jobs/{job_id}/{action}", json=json)

    def worker(self, lane: str = "cpu", node: str = "workshop", **more: Any) -> "Worker":
        return Worker(self, lane, node, **more)


class Worker:
    """A lane that claims, beats and ends by hand."""

    def __init__(
        self,
        center: Center,
        lane: str,
        node: str,
        gpus: list[dict[str, Any]] | None = None,
        labels: list[str] | None = None,
    ) -> None:
        self.client, self.lane = center.client, lane
        self.auth = {"Authorization": f"Bearer {center.app.state.tokens.worker}"}
        kind = "gpu" if gpus else "cpu"
        body = {"name": node, "lanes": [{"name": lane, "kind": kind, "gpus": gpus or [], "labels": labels or []}]}
        self.node_id = self.client.post("/api/worker/nodes", headers=self.auth, json=body).json()["id"]

    def claim(self) -> "Claim | None":
        body = {"node_id": self.node_id, "lane": self.lane}
        answer = self.client.post("/api/worker/claim", headers=self.auth, json=body)
        assert answer.status_code in (200, 204), answer.text
        return Claim(self, answer.json()) if answer.status_code == 200 else None

    def must_claim(self) -> "Claim":
        claim = self.claim()
        assert claim is not None
        return claim

    def beat(self, telemetry: dict[str, Any] | None = None) -> Response:
        body = {"lane": self.lane, "telemetry": telemetry}
        return self.client.post(f"/api/worker/nodes/{self.node_id}/beat", headers=self.auth, json=body)


class Claim:
    """A job as a worker holds it; events are numbered as the trainer would."""

    def __init__(self, worker: Worker, body: dict[str, Any]) -> None:
        self.body, self.job_id, self.seq = body, body["job_id"], 0
        self.client = worker.client
        passport = {"X-Attempt": str(body["attempt"]), "X-Claim-Token": body["claim_token"]}
        self.headers = worker.auth | passport

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self.seq += 1
        return {"seq": self.seq, "at": "2026-01-02T03:04:05.678Z", "kind": kind, **fields}

    def step(self, step: int, loss: float | None = 1.5) -> dict[str, Any]:
        return self.event("step", step=step, num_steps=100, loss=loss, learning_rate=0.1, eta_s=9.0, epoch=step / 100)

    def begin(self, resume_step: int = 0) -> None:
        self.beat(
            self.event("state", state="claimed", phase="loading", resume_step=resume_step),
            self.event("state", state="running", phase="training"),
        )

    def post(self, path: str, json: Any) -> Response:
        return self.client.post(f"/api/worker/jobs/{self.job_id}/{path}", headers=self.headers, json=json)

    def beat(self, *events: dict[str, Any], earlier: bool = False) -> Response:
        return self.post("beat", {"events": list(events), "earlier": earlier})

    def end(self, outcome: str, **more: Any) -> Response:
        return self.post("end", {"outcome": outcome, **more})

    def put(self, path: str, content: bytes, sha256: str | None = None) -> Response:
        headers = self.headers | {"X-Sha256": sha256 or hashlib.sha256(content).hexdigest()}
        return self.client.put(f"/api/worker/jobs/{self.job_id}/files/{path}", headers=headers, content=content)

    def checkpoint(self, step: int, content: bytes = b"weights", eval_loss: float | None = None) -> None:
        """Tell of a checkpoint and put its one file."""
        folder = f"checkpoints/step-{step:08}"
        file = {"path": f"{folder}/adapter.safetensors", **described(content)}
        self.beat(
            self.event("checkpoint", step=step, size=len(content), path=folder, files=[file], eval_loss=eval_loss)
        )
        assert self.put(file["path"], content).status_code == 200

    def succeed(self, step: int = 1) -> Response:
        """Put an adapter's four files and end."""
        names = ("adapter_model.safetensors", "adapter_config.json", "manifest.json", "README.md")
        for name in names:
            assert self.put(f"adapter/{name}", name.encode()).status_code == 200
        files = [{"path": name, **described(name.encode())} for name in names]
        return self.end("succeeded", adapter={"name": "a", "step": step, "files": files, "manifest": {"seed": 42}})


def described(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def make_model(folder: Path, **changes: bytes | None) -> Path:
    """A folder that looks like a complete Qwen3-VL model; None leaves a file out."""
    header = b"{}"
    files: dict[str, bytes | None] = {
        "config.json": b'{"model_type": "qwen3_vl"}',
        "tokenizer.json": b"{}",
        "preprocessor_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": len(header).to_bytes(8, "little") + header,
    }
    folder.mkdir(parents=True)
    for name, content in (files | changes).items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder
