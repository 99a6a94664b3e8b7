"""The page that signs in, opened by a link a second time."""

from app.security import make_login_code
from tests.factories import Center


def test_a_used_link_leads_who_is_signed_in_to_the_dashboard(center: Center) -> None:
    link = f"/login?code={make_login_code(center.app.state.tokens.operator)}"
    center.client.get(link, follow_redirects=False)
    answer = center.client.get(link, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "set-cookie" not in answer.headers
