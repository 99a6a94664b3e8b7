import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import until
from tests.worker.fake_server import DATA, FakeServer, sha256
from worker import supervise as supervise_module
from worker.messages import Claim
from worker.supervise import Bench, supervise

MakeBench = Callable[..., Bench]


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    return tmp_path / "worker" / "jobs" / "7" / "attempt-1"


def claim(server: FakeServer, bench: Bench, **changes: Any) -> Claim:
    server.offer(**changes)
    given = bench.client.claim(1, "cpu", "key")
    assert given is not None
    return given


def carry_out(server: FakeServer, bench: Bench, **changes: Any) -> dict[str, Any]:
    supervise(claim(server, bench, **changes), bench)
    assert len(server.ends) == 1
    return server.ends[0]


def in_background(server: FakeServer, bench: Bench, **changes: Any) -> threading.Thread:
    thread = threading.Thread(target=supervise, args=(claim(server, bench, **changes), bench))
    thread.start()
    until(lambda: any(event["kind"] == "step" for event in server.events.get("1", [])))
    return thread


def trainers(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [one for one in found if any(str(folder) in word for word in one.info["cmdline"] or ())]


def test_every_event_arrives_once_and_in_order(server: FakeServer, bench: MakeBench) -> None:
    ending = carry_out(server, bench(steps=30, pause=0.005))
    assert (ending["outcome"], ending["step"], ending["exit"]) == ("succeeded", 30, {"code": 0, "signal": None})
    assert server.seqs() == list(range(1, len(server.seqs()) + 1))
    assert [event["step"] for event in server.events["1"] if event["kind"] == "step"] == list(range(1, 31))


def test_the_adapter_is_there_before_the_end(server: FakeServer, bench: MakeBench) -> None:
    carry_out(server, bench())
    assert server.files["adapter/adapter_model.safetensors"] == b"weights"
    assert server.order.index("PUT files/adapter/manifest.json 1") < server.order.index("POST end 1")


def test_a_checkpoint_follows_the_event_that_names_it(server: FakeServer, bench: MakeBench) -> None:
    carry_out(server, bench(checkpoint_at=2))
    assert server.files["checkpoints/step-00000002/adapter"] == b"weights 2"


def test_a_checkpoint_that_the_trainer_retires_meanwhile_still_arrives(
    server: FakeServer, bench: MakeBench, job_dir: Path
) -> None:
    server.hold_files.clear()
    (job_dir.parent.parent.parent / "datasets").mkdir(parents=True)
    (job_dir.parent.parent.parent / "datasets" / f"{sha256(DATA)}.jsonl").write_bytes(DATA)
    thread = in_background(server, bench(steps=20, pause=0.03, checkpoint_at=1))
    server.commands.append("save")
    until(lambda: len(list((job_dir / "checkpoints").glob("step-*"))) == 2)
    newest = max((job_dir / "checkpoints").glob("step-*"))
    until(lambda: any(event["kind"] == "checkpoint" and event["step"] > 1 for event in server.events["1"]))
    (newest / "adapter").unlink()
    server.hold_files.set()
    thread.join()
    assert "checkpoints/step-00000001/adapter" in server.files
    assert f"checkpoints/{newest.name}/adapter" in server.files
    assert server.ends[0]["outcome"] == "succeeded"


def test_the_trainer_sees_no_token_and_no_broker(
    server: FakeServer, bench: MakeBench, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:password@example.org")
    monkeypatch.setenv("TRAINCTL_TOKEN_FILE", "/somewhere")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    carry_out(server, bench())
    seen = json.loads((job_dir / "environment.json").read_text())
    assert not [name for name in seen if name in ("REDIS_URL", "HF_TOKEN") or name.startswith("TRAINCTL_")]
    assert (seen["HF_HUB_OFFLINE"], seen["CUDA_VISIBLE_DEVICES"]) == ("1", "")


@pytest.mark.parametrize(("command", "outcome"), [("cancel", "cancelled"), ("pause", "paused"), ("stop", "cancelled")])
def test_a_command_reaches_the_running_trainer(
    server: FakeServer, bench: MakeBench, command: str, outcome: str
) -> None:
    thread = in_background(server, bench(steps=10_000))
    server.commands.append(command)
    thread.join()
    assert server.ends[0]["outcome"] == outcome
    assert bool(server.files) == (command != "stop")


def test_saving_now_does_not_end_the_job(server: FakeServer, bench: MakeBench) -> None:
    thread = in_background(server, bench(steps=60))
    server.commands.append("save")
    thread.join()
    assert server.ends[0]["outcome"] == "succeeded"
    assert sum(event["kind"] == "checkpoint" for event in server.events["1"]) == 1


def test_a_lost_answer_neither_loses_a_request_nor_doubles_it(server: FakeServer, bench: MakeBench) -> None:
    server.lost_replies = 2
    thread = in_background(server, bench(steps=150, pause=0.02))
    server.commands.append("save")
    thread.join()
    assert (server.lost_replies, server.commands) == (0, [])
    assert sum(event["kind"] == "checkpoint" for event in server.events["1"]) == 1


def test_a_save_asked_for_during_the_preparation_waits_for_the_trainer(server: FakeServer, bench: MakeBench) -> None:
    server.hold_files.clear()
    server.commands.append("save")
    given = bench()
    thread = threading.Thread(target=supervise, args=(claim(server, given), given))
    thread.start()
    until(lambda: not server.commands)
    server.hold_files.set()
    thread.join()
    assert [event["step"] for event in server.events["1"] if event["kind"] == "checkpoint"] == [1]


@pytest.mark.parametrize(("command", "outcome"), [("stop", "cancelled"), ("pause", "paused")])
def test_a_deaf_trainer_is_killed(
    server: FakeServer, bench: MakeBench, command: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise_module, "STOP_NOW_S", 0.2)
    thread = in_background(server, bench(steps=10_000, deaf=True))
    server.commands.append(command)
    thread.join()
    assert (server.ends[0]["outcome"], server.ends[0]["exit"]["signal"]) == (outcome, 9)


def test_a_trainer_that_only_loads_is_not_waited_for(server: FakeServer, bench: MakeBench) -> None:
    given = bench(loading=600)
    thread = threading.Thread(target=supervise, args=(claim(server, given), given))
    thread.start()
    until(lambda: any(event.get("phase") == "loading" for event in server.events.get("1", [])))
    server.commands.append("pause")
    thread.join(30)
    assert (server.ends[0]["outcome"], server.ends[0]["exit"]["signal"]) == ("paused", 9)


def test_nobody_waits_for_a_trainer_that_has_said_its_last_word(server: FakeServer, bench: MakeBench) -> None:
    ending = carry_out(server, bench(teardown=600))
    assert (ending["outcome"], ending["exit"]) == ("succeeded", {"code": 0, "signal": None})


def test_files_of_another_job_with_this_number_are_not_ours(
    server: FakeServer, bench: MakeBench, job_dir: Path
) -> None:
    job_dir.mkdir(parents=True)
    (job_dir / "events.jsonl").write_text('{"seq": 99, "kind": "step", "step": 99}\n')
    (job_dir / "outcome.json").write_text('{"outcome": "cancelled", "step": 99}')
    assert carry_out(server, bench())["step"] == 5
    assert server.seqs()[0] == 1


def test_a_fenced_attempt_kills_its_trainer_and_says_nothing(
    server: FakeServer, bench: MakeBench, job_dir: Path
) -> None:
    thread = in_background(server, bench(steps=10_000, checkpoint_at=1))
    server.fencing = True
    thread.join()
    assert (server.ends, trainers(job_dir)) == ([], [])
    assert (job_dir / "events.jsonl").exists() and not (job_dir / "checkpoints").exists()


@pytest.mark.parametrize("status", [503, 507])
def test_training_goes_on_while_the_control_center_is_away_or_its_disk_full(
    server: FakeServer, bench: MakeBench, job_dir: Path, status: int
) -> None:
    thread = in_background(server, bench(steps=60))
    server.away, server.away_with = True, status
    until((job_dir / "outcome.json").exists)
    assert len(server.events["1"]) < 63
    server.away = False
    thread.join()
    assert server.seqs() == list(range(1, 64))
    assert server.ends[0]["outcome"] == "succeeded"


def test_a_control_center_with_older_data_gets_the_missing_events_again(server: FakeServer, bench: MakeBench) -> None:
    thread = in_background(server, bench(steps=80))
    until(lambda: len(server.events["1"]) > 10)
    server.away = True
    until(lambda: server.refusals)
    server.events["1"] = server.events["1"][:4]
    server.away = False
    thread.join()
    assert server.seqs() == list(range(1, 84))


def test_an_event_that_is_not_taken_holds_nothing_back(server: FakeServer, bench: MakeBench) -> None:
    server.refused_step = 4
    carry_out(server, bench(steps=8))
    assert server.seqs() == list(range(1, len(server.seqs()) + 1))
    assert [event["step"] for event in server.events["1"] if event["kind"] == "step"] == [1, 2, 3, 5, 6, 7, 8]
    assert [event["text"] for event in server.events["1"] if event["kind"] == "log"] == [
        "An event of the kind 'step' was not taken: a step like that"
    ]


def test_a_job_called_off_while_it_is_prepared_never_starts(
    server: FakeServer, bench: MakeBench, job_dir: Path
) -> None:
    server.hold_files.clear()
    server.commands.append("cancel")
    given = bench()
    thread = threading.Thread(target=supervise, args=(claim(server, given), given))
    thread.start()
    until(lambda: server.events.get("1"))
    server.hold_files.set()
    thread.join()
    assert (server.ends[0]["outcome"], (job_dir / "trainer.log").exists()) == ("cancelled", False)
    assert server.events["1"][0]["phase"] == "fetching" and server.events["1"][0]["resume_step"] == 0


def test_the_spool_of_an_earlier_attempt_goes_first(server: FakeServer, bench: MakeBench, job_dir: Path) -> None:
    job_dir.mkdir(parents=True)
    lines = [json.dumps({"seq": seq, "kind": "step", "step": seq}) for seq in (1, 2, 3)]
    (job_dir / "events.jsonl").write_text("\n".join(lines) + '\n{"seq": 4, "ki')
    (job_dir / "claim.json").write_text(json.dumps({"attempt": 1, "claim_token": "token-1"}))
    server.pairs.append(("1", "token-1"))
    server.accept_up_to = 2
    server.stored["files/checkpoints/step-00000003/adapter"] = b"weights 3"
    given = bench()
    thread = threading.Thread(target=supervise, args=(claim(server, given, attempt=2), given))
    thread.start()
    until(lambda: server.seqs(1) == [1, 2])
    until(lambda: any(call.endswith(" 2") for call in server.order))
    server.accept_up_to = None
    thread.join()
    assert server.order.index("POST beat 1") < server.order.index("POST beat 2")
    assert server.ends[0]["outcome"] == "succeeded"


def test_a_worker_that_ends_puts_its_job_back(server: FakeServer, bench: MakeBench) -> None:
    ending = threading.Event()
    thread = in_background(server, bench(draining=ending.is_set, steps=10_000))
    ending.set()
    thread.join()
    assert server.ends[0]["outcome"] == "released"
    assert len(server.files) == 1


def test_after_the_end_only_small_files_stay(server: FakeServer, bench: MakeBench, job_dir: Path) -> None:
    carry_out(server, bench(checkpoint_at=2))
    assert not any((job_dir / name).exists() for name in ("checkpoints", "adapter", "claim.json"))
    assert (job_dir / "trainer.log").read_text() == "counting\n"
