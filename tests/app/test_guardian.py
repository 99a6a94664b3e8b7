from typing import Any

import pytest

from tests.factories import Center, Claim


def claim_with(center: Center, **config: Any) -> Claim:
    center.make_job(config=config)
    claim = center.worker().must_claim()
    claim.begin()
    return claim


def page_of(center: Center, claim: Claim) -> str:
    return str(center.get(f"/jobs/{claim.job_id}/_advice").text)


@pytest.mark.parametrize(("reading", "code"), [({"temperature": 85.0}, "gpu_hot"), ({"disk_free": 2**30}, "disk_low")])
def test_what_the_instruments_show_is_said_once(center: Center, reading: dict[str, Any], code: str) -> None:
    claim = claim_with(center, max_temperature=80)
    for _ in range(3):
        center.worker().beat(reading)
    assert page_of(center, claim).count(f'data-advice="{code}"') == 1


def test_a_cool_gpu_and_a_job_without_a_guardian_hear_nothing(center: Center) -> None:
    claim = claim_with(center, max_temperature=80, guardian="off")
    center.worker().beat({"temperature": 99.0, "disk_free": 1})
    claim.end("paused")
    other = claim_with(center, max_temperature=80)
    center.worker().beat({"temperature": 79.0, "disk_free": None})
    assert "data-advice" not in page_of(center, claim) + page_of(center, other)


def test_the_trainers_advice_stands_on_the_page(center: Center) -> None:
    claim = claim_with(center)
    claim.beat(claim.event("advice", code="loss_rising", message="It rises.", action="Lower the rate."))
    assert "It rises." in page_of(center, claim) and "Lower the rate." in page_of(center, claim)


@pytest.mark.parametrize("action", ["save", "sample"])
def test_the_page_asks_for_a_checkpoint_and_for_samples(center: Center, action: str) -> None:
    claim = claim_with(center)
    assert f"/_{action}" in center.get(f"/jobs/{claim.job_id}").text
    assert center.post(f"/jobs/{claim.job_id}/_{action}").status_code == 204
    assert claim.beat().json()["commands"] == [action]


def test_of_one_sort_the_newest_advice_stands_with_its_step(center: Center) -> None:
    claim = claim_with(center)
    for step, message in ((1_200, "It was 3,852."), (1_300, "It was 2,229.")):
        claim.beat(claim.event("advice", code="throughput_drop", step=step, message=message, action="Look."))
    claim.beat(claim.event("advice", code="odd", step="x", message="Odd.", action=""))
    page = page_of(center, claim)
    assert "It was 2,229." in page and "step 1,300" in page and "3,852" not in page
    assert "Odd." in page
