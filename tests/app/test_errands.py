import pytest

from tests.factories import Center, Claim


@pytest.fixture
def claim(center: Center) -> Claim:
    center.make_job()
    claim = center.worker().must_claim()
    claim.begin()
    return claim


def commands(claim: Claim, heard: int = 0) -> tuple[list[str], int]:
    reply = claim.post("beat", {"events": [], "heard": heard}).json()
    return reply["commands"], reply["mark"]


@pytest.mark.parametrize("action", ["save", "sample"])
def test_what_is_asked_is_said_until_it_was_heard(center: Center, claim: Claim, action: str) -> None:
    assert center.act(claim.job_id, action).status_code == 200
    asked, mark = commands(claim)
    assert asked == [action]
    assert commands(claim) == ([action], mark)  # the answer got lost
    assert commands(claim, heard=mark)[0] == []
    assert commands(claim)[0] == []


def test_asked_again_meanwhile_it_is_said_again(center: Center, claim: Claim) -> None:
    center.act(claim.job_id, "save")
    _, first = commands(claim)
    center.act(claim.job_id, "save")
    asked, second = commands(claim, heard=first)
    assert asked == ["save"] and second > first


def test_one_heard_request_does_not_silence_another(center: Center, claim: Claim) -> None:
    center.act(claim.job_id, "save")
    _, mark = commands(claim)
    center.act(claim.job_id, "sample")
    assert commands(claim, heard=mark)[0] == ["sample"]


def test_samples_are_for_running_jobs_alone(center: Center) -> None:
    job = center.make_job()
    assert center.act(job["id"], "sample").status_code == 409
    claim = center.worker().must_claim()
    assert center.act(job["id"], "sample").status_code == 409
    claim.begin()
    center.act(job["id"], "sample")
    claim.end("paused")
    assert center.act(job["id"], "sample").status_code == 409
    assert "sample" in [one["action"] for one in center.get(f"/api/jobs/{job['id']}/history").json()["items"]]


def test_a_job_without_prompts_says_so(center: Center) -> None:
    job = center.make_job(config={"sample_prompts": 0})
    center.worker().must_claim().begin()
    assert "sample_prompts" in center.act(job["id"], "sample").json()["error"]["message"]
