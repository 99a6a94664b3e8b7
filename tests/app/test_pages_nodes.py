import re
from datetime import timedelta

from fastapi.testclient import TestClient
from sqlmodel import select

from app.columns import utc_now
from app.config import Settings
from app.main import create_app
from app.models import Lane, Node
from tests.factories import Center


def cards(center: Center) -> str:
    return str(center.get("/nodes/_nodes").text)


def fall_silent(center: Center) -> None:
    with center.database.write() as session:
        for row in [*session.exec(select(Lane)), *session.exec(select(Node))]:
            row.last_seen_at = utc_now() - timedelta(minutes=5)


def test_a_node_is_drained_and_taken_up_again_by_its_button(center: Center) -> None:
    worker = center.worker()
    assert center.post("/nodes/1/_drain").status_code == 204
    assert worker.beat().json()["drain"] is True
    assert 'class="dot wait">draining' in cards(center) and "/nodes/1/undrain" in cards(center)
    center.post("/nodes/1/_undrain")
    assert "/nodes/1/drain" in cards(center) and "Draining:" not in cards(center)


def test_a_silent_node_says_so_and_can_be_forgotten(center: Center) -> None:
    center.worker()
    fall_silent(center)
    assert "Nothing is heard of it" in cards(center)
    answer = center.client.post("/nodes/1/forget", headers=center.headers, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/nodes")
    assert "No worker has connected yet" in cards(center)


def test_a_node_that_is_there_is_not_forgotten(center: Center) -> None:
    center.worker()
    assert center.post("/nodes/1/_forget").status_code == 409
    assert "/nodes/1/forget" not in cards(center)


def test_a_clock_that_is_off_is_a_warning(center: Center) -> None:
    center.worker()
    with center.database.write() as session:
        session.get_one(Node, 1).clock_skew_s = 9.0
    assert "Its clock is 9.0 s ahead" in cards(center)


def test_labels_and_versions_of_a_node_are_shown(center: Center) -> None:
    center.worker()
    with center.database.write() as session:
        session.get_one(Lane, 1).labels = ["fast", "nvme"]
        session.get_one(Node, 1).versions = {"torch": "2.13"}
    assert re.findall(r'class="label-tag">(\w+)<', cards(center)) == ["fast", "nvme"]
    assert '<dt>torch</dt><dd class="mono">2.13</dd>' in cards(center)


def test_another_machine_is_told_an_address_that_it_can_reach(center: Center) -> None:
    page = center.get("/nodes").text
    assert "--server http://THIS-MACHINE:7860 " in page and "--host 0.0.0.0" in page
    lab = Settings(data_dir=center.app.state.settings.data_dir, host="0.0.0.0", allowed_hosts="lab", redis_url=None)
    with TestClient(create_app(lab), base_url="http://lab:7860") as client:
        page = client.get("/nodes", headers=center.headers).text
    assert "--server http://lab:7860 " in page and "THIS-MACHINE" not in page
