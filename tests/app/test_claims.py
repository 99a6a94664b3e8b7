from app.services import datasets, events
from tests.factories import Center, Worker, rows
from tests.waiting import until


def claim_with(worker: Worker, key: str) -> dict[str, object]:
    body = {"node_id": worker.node_id, "lane": worker.lane, "key": key}
    answer = worker.client.post("/api/worker/claim", headers=worker.auth, json=body)
    assert answer.status_code == 200
    claim: dict[str, object] = answer.json()
    return claim


def test_a_claim_whose_answer_was_lost_is_given_again_and_is_no_fault(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    first = claim_with(worker, "a")
    assert claim_with(worker, "a") == first
    assert claim_with(worker, "b")["attempt"] == 2


def test_the_first_state_of_an_attempt_names_its_resume_step(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    claim.begin()
    claim.beat(claim.step(1), claim.step(2))
    claim.checkpoint(1)
    claim.end("crashed", exit={"signal": 9})
    worker.must_claim()
    with center.database.read() as session:
        states = events.read_page(session, events.Wanted(frozenset({claim.job_id})), 0, 10**6, 500)
    mine = [entry.data for entry in states if entry.kind == "state" and b'"attempt":2' in entry.data]
    assert b'"resume_step":1' in mine[0]
    assert center.get(f"/api/jobs/{claim.job_id}/metrics").json()["step"] == [1]


def test_resume_after_a_retry_that_never_began_goes_on_from_the_checkpoint(center: Center) -> None:
    center.make_job()
    worker = center.worker()
    claim = worker.must_claim()
    claim.begin()
    claim.beat(claim.step(1))
    claim.checkpoint(1)
    claim.end("failed", error={"code": "x", "message": "m"})
    center.act(claim.job_id, "retry")
    center.act(claim.job_id, "cancel")
    assert center.act(claim.job_id, "resume").json()["state"] == "queued"
    assert worker.must_claim().body["resume"]["step"] == 1


def test_a_job_waits_for_its_validation_dataset_too_and_falls_with_it(center: Center) -> None:
    held_out = center.upload(rows(5, "v"))
    with center.database.write() as session:
        datasets.get(session, held_out["id"]).state = "checking"
    job = center.make_job(config={"validation_dataset_id": held_out["id"]})
    assert job["waiting_for"]["id"] == held_out["id"] and center.worker().claim() is None
    with center.database.write() as session:
        datasets.fail(session, datasets.get(session, held_out["id"]), "broken")
    assert center.job(job["id"])["state"] == "cancelled"


def test_a_fault_in_one_turn_of_the_sweep_does_not_end_the_sweeper(center: Center) -> None:
    sweeper = center.app.state.sweeper
    turns: list[int] = []

    def broken() -> None:
        turns.append(1)
        raise RuntimeError("one poisoned job")

    sweeper.sweep = broken

    def turned_again() -> bool:
        sweeper.nudge()
        return len(turns) >= 2

    until(turned_again)
