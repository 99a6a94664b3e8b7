import stat
import time
from pathlib import Path

import pytest

from app import security
from app.config import Settings
from app.errors import Forbidden
from tests.factories import Center

ORIGIN = "http://127.0.0.1:7860"
SAME = {"Sec-Fetch-Site": "same-origin"}


def sign_in(center: Center) -> None:
    code = security.make_login_code(center.app.state.tokens.operator)
    assert center.client.get(f"/login?code={code}", follow_redirects=False).status_code == 303


def test_tokens_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    first = security.ensure_token(tmp_path / "new", "operator")
    assert security.ensure_token(tmp_path / "new", "operator") == first
    assert stat.S_IMODE((tmp_path / "new" / "token").stat().st_mode) == 0o600
    assert len(first) >= 43
    assert security.ensure_token(tmp_path / "new", "worker") != first


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/login", "/static/css/app.css"])
def test_public_places_need_nothing(center: Center, path: str) -> None:
    assert center.client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/api/jobs", "/api/datasets", "/api/nothing", "/metrics", "/openapi.json", "/api/worker/claim"]
)
def test_the_api_asks_for_a_token(center: Center, path: str) -> None:
    answer = center.client.get(path)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_signed_in"


@pytest.mark.parametrize("path", ["/", "/jobs", "/datasets", "/nothing"])
def test_pages_lead_to_the_login(center: Center, path: str) -> None:
    answer = center.client.get(path, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_a_wrong_token_is_refused_everywhere(center: Center) -> None:
    headers = {"Authorization": "Bearer wrong"}
    assert center.client.get("/api/jobs", headers=headers).status_code == 401
    assert center.client.get("/jobs", headers=headers, follow_redirects=False).status_code == 303


def test_each_token_is_good_for_its_own_part_alone(center: Center) -> None:
    worker = {"Authorization": f"Bearer {center.app.state.tokens.worker}"}
    assert center.client.get("/api/jobs", headers=worker).status_code == 403
    assert center.client.get("/", headers=worker).status_code == 403
    assert center.client.post("/api/worker/claim", headers=center.headers, json={}).status_code == 403


def test_a_session_is_not_good_for_the_workers_api(center: Center) -> None:
    sign_in(center)
    assert center.client.post("/api/worker/claim", headers=SAME, json={}).status_code == 403


def test_a_login_code_signs_in_once(center: Center) -> None:
    code = security.make_login_code(center.app.state.tokens.operator)
    answer = center.client.get(f"/login?code={code}", follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "trainctl_session_7860=" in cookie and "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert center.client.get("/jobs").status_code == 200
    center.client.cookies.clear()
    assert center.client.get(f"/login?code={code}", follow_redirects=False).status_code == 401


def test_a_login_code_expires(center: Center, monkeypatch: pytest.MonkeyPatch) -> None:
    code = security.make_login_code(center.app.state.tokens.operator)
    now = time.time()
    monkeypatch.setattr(security.time, "time", lambda: now + 601)
    assert center.client.get(f"/login?code={code}", follow_redirects=False).status_code == 401


@pytest.mark.parametrize("code", ["", "x", "1.2.3", "9999999999.a.b", "٣.a.b", "9" * 400])
def test_a_forged_login_code_is_refused(center: Center, code: str) -> None:
    assert center.client.get("/login", params={"code": code}, follow_redirects=False).status_code == 401


def test_the_login_page_takes_the_token(center: Center) -> None:
    wrong = center.client.post("/login", data={"token": "x"}, headers=SAME, follow_redirects=False)
    right = center.client.post(
        "/login", data={"token": center.app.state.tokens.operator}, headers=SAME, follow_redirects=False
    )
    assert (wrong.status_code, right.status_code) == (401, 303)
    assert center.client.get("/").status_code == 200


def test_a_session_survives_a_restart(center: Center, settings: Settings) -> None:
    value = security.make_session(center.app.state.tokens.operator)
    again = security.Tokens(security.ensure_token(settings.data_dir, "operator"), "w")
    gate = security.Gate(center.app, settings, again)
    assert gate.has_session(security.Headers({"cookie": f"trainctl_session_7860={value}"}))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/login", "/api/jobs", "/api/datasets/x", "/jobs", "/static/x", "/anything"])
@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
def test_what_changes_something_must_come_from_our_own_pages(
    center: Center, method: str, path: str, headers: dict[str, str]
) -> None:
    sign_in(center)
    assert center.client.request(method, path, headers=headers).status_code == 403


@pytest.mark.parametrize("headers", [SAME, {"Origin": ORIGIN}, {**SAME, "Origin": ORIGIN}])
def test_our_own_pages_may_change_things(center: Center, headers: dict[str, str]) -> None:
    sign_in(center)
    answer = center.client.post("/api/jobs", headers=headers, json={})
    assert answer.status_code == 422


def test_a_session_cookie_with_a_foreign_origin_is_refused_even_as_same_site(center: Center) -> None:
    sign_in(center)
    headers = {**SAME, "Origin": "http://evil.example"}
    assert center.client.post("/api/jobs", headers=headers, json={}).status_code == 403


def test_a_bearer_needs_no_origin_but_a_foreign_one_is_refused(center: Center) -> None:
    foreign = center.headers | {"Origin": "http://evil.example"}
    assert center.client.post("/api/jobs", headers=foreign, json={}).status_code == 403
    assert center.client.get("/api/jobs", headers=foreign).status_code == 403
    assert center.client.post("/api/jobs", headers=center.headers, json={}).status_code == 422


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil", "localhost.", "", "evil@127.0.0.1", "[::1", "8.8.8.8"]
)
def test_an_unknown_host_name_is_refused(center: Center, host: str) -> None:
    assert center.client.get("/healthz", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "LOCALHOST"])
def test_its_own_names_are_known(center: Center, host: str) -> None:
    assert center.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_every_answer_carries_the_security_headers(center: Center) -> None:
    for path in ("/healthz", "/api/jobs", "/login", "/nothing"):
        headers = center.client.get(path, follow_redirects=False).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"


def test_openapi_stands_behind_the_token(center: Center) -> None:
    assert center.get("/openapi.json").status_code == 200


def test_an_empty_token_file_opens_no_door(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(Forbidden, match="32 characters"):
        security.ensure_token(tmp_path, "operator")


@pytest.mark.parametrize("other", ['x={"a":1}', "foo=bar baz", 'a="b', "a b=c", "[x]=1"])
def test_odd_cookies_of_other_ports_lock_nobody_out(center: Center, other: str) -> None:
    value = security.make_session(center.app.state.tokens.operator)
    headers = {"Cookie": f"{other}; trainctl_session_7860={value}"}
    assert center.client.get("/jobs", headers=headers, follow_redirects=False).status_code == 200
