"""What may not stand in a file: other people's hosts, places of one machine, a folder beside the checkout."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules.tree import ROOT, all_files, files, text

WRITTEN = (".py", ".md", ".html", ".js", ".css", ".toml", ".yml", ".txt", ".jinja", ".json", ".mako", ".sh", ".ini", "")
URL = re.compile(r"\b(?:https?|wss?|rediss?)://(?:[^@\s/'\"`<>]*@)?([\w.-]*\w)", re.IGNORECASE)

# Only these stand in a file of ours. Nothing is fetched while the control center works but base models from the Hub.
HOSTS = {
    *("127.0.0.1", "localhost", "0.0.0.0", "testserver"),
    *("web", "redis"),  # services of docker-compose.yml
    *("www.apache.org", "www.w3.org", "huggingface.co", "json-schema.org"),
}
RESERVED = (".example", ".test", ".invalid", ".localhost", "example.org", "example.com", "example.net")


def prose(*under: str) -> Iterator[tuple[Path, str]]:
    for path in files(*WRITTEN, under=under):
        try:
            yield path, text(path)
        except UnicodeDecodeError:
            continue  # a test may keep a file in another encoding on purpose


def is_known(host: str) -> bool:
    return host.lower() in HOSTS or host.lower().endswith(RESERVED) or "." not in host


def test_every_address_belongs_to_a_known_host() -> None:
    strangers = {(str(path), host) for path, body in prose() for host in URL.findall(body) if not is_known(host)}
    assert sorted(strangers) == []


def test_nothing_names_a_place_of_the_machine_it_was_written_on() -> None:
    places = [str(place) for place in (ROOT, ROOT.parent / "shared", Path.home()) if len(place.parts) > 1]
    here = re.compile("|".join(rf"(?<![\w.}}-]){re.escape(place)}(?![\w-])" for place in places))
    somebody = re.compile(r"(?<![\w.}])/(?:home|Users|opt)/[a-z]\w*")
    found = [(str(path), hit[0]) for path, body in prose() for rule in (here, somebody) if (hit := rule.search(body))]
    assert found == []


def test_only_tests_and_benchmarks_look_beside_the_checkout() -> None:
    beside = re.compile(r"\.\./" + "shared|parent / .shared")
    elsewhere = [(path, body) for path, body in prose() if path.parts[0] not in ("tests", "benchmarks")]
    assert [str(path) for path, body in elsewhere if beside.search(body)] == []


def test_nothing_points_to_a_tracker() -> None:
    pointer = re.compile(r"\b(?:issue|ticket)s?\s+#?\d|\(#\d+\)", re.IGNORECASE)
    assert [(str(path), hit[0]) for path, body in prose() if (hit := pointer.search(body))] == []


def test_what_trains_is_called_a_job() -> None:
    other = re.compile(r"\bexperiments?\b|\brun_id\b|\btraining runs?\b|\bclass Run\b", re.IGNORECASE)
    named = prose("app", "worker", "templates", "migrations")
    assert [(str(path), hit[0]) for path, body in named if (hit := other.search(body))] == []


@pytest.mark.parametrize("top", ["app", "worker", "migrations", "tests"])
def test_comments_are_plain_ascii(top: str) -> None:
    found = []
    for path in files(".py", under=(top,)):
        for token in tokenize.generate_tokens(io.StringIO(text(path)).readline):
            if token.type == tokenize.COMMENT and not token.string.isascii():
                found.append(f"{path}:{token.start[0]}")
    assert found == []


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [str(path) for path in all_files() if path.stem in ("utils", "util", "helpers", "misc", "common")] == []


def test_no_large_file_is_kept() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in all_files()}
    assert {name: size for name, size in sizes.items() if size > 2**20} == {}


def test_an_unknown_host_is_seen() -> None:
    found = URL.findall("see HTTPS" + "://me@cdn.somewhere.dev/x.js and ws" + "://web:7860")
    assert [(host, is_known(host)) for host in found] == [("cdn.somewhere.dev", False), ("web", True)]
