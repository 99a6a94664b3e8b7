"""The inbox of a center in this process, turned by hand."""

import json
from pathlib import Path
from typing import Any

from app.inbox import Inbox
from tests.factories import Center, Claim

SIDECAR = "model: tiny-qwen3-vl\nlora_r: 4\n"


class Box:
    """The inbox of a center, turned by hand: its own thread is stopped."""

    def __init__(self, center: Center, settle_s: float = 0) -> None:
        self.center = center
        state = center.app.state
        state.inbox.stop()
        self.checks: list[int] = []

        def check(dataset_id: int) -> None:
            self.checks.append(dataset_id)

        self.inbox = state.inbox = Inbox(
            state.settings, state.database, state.storage, state.disk, state.base_models, check, settle_s
        )
        self.folder: Path = self.inbox.folder

    def restart(self) -> "Box":
        """As after a kill: nothing of it is left but rows and files."""
        self.inbox.stop()
        return Box(self.center)

    def drop(self, name: str, content: bytes, sidecar: str | None = SIDECAR) -> None:
        if sidecar is not None:
            (self.folder / f"{name}.yaml").write_text(sidecar)
        (self.folder / name).write_bytes(content)

    def step(self, times: int = 3) -> None:
        for _ in range(times):
            self.inbox.step()
            self.check_all()

    def check_all(self) -> None:
        """What the child of the analysis does, on the loop of the app."""
        while self.checks:
            analysis = self.center.app.state.analysis
            portal = self.center.client.portal
            assert portal is not None
            dataset_id = self.checks.pop()
            portal.call(analysis.add, dataset_id)
            portal.call(analysis.wait, dataset_id, 60)

    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.center.get("/api/inbox").json()["items"]
        return found

    def one(self) -> dict[str, Any]:
        (item,) = self.items()
        return item

    def states(self) -> list[str]:
        return [one["state"] for one in reversed(self.items())]

    def paper(self, place: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / place).read_text())
        return found

    def files(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != ".lock")
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def claim(self) -> Claim:
        return self.center.worker().must_claim()
