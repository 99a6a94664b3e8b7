"""docker-compose.yml and the Dockerfile, read and checked without an engine."""

import re
import shlex
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml
from typer.main import get_command

from app.cli import cli
from app.config import Settings
from tests.rules.tree import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text("utf-8"))
INSTRUCTIONS = [
    (line.split()[0], line.split(maxsplit=1)[1]) for line in DOCKERFILE.splitlines() if line and line[0] != "#"
]
URL = "http://web:7860"
SECRET = "/run/secrets/worker-token"


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one target, those of the stages below it first."""
    starts = [index for index, one in enumerate(INSTRUCTIONS) if one[0] == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(INSTRUCTIONS)], strict=True):
        base, target = re.fullmatch(r"(\S+) AS (\S+)", INSTRUCTIONS[start][1]).groups()  # type: ignore[union-attr]
        if target == name:
            return (stage(base) if ":" not in base else []) + INSTRUCTIONS[start:end]
    raise AssertionError(f"the Dockerfile has no stage {name}")


def test_the_three_services_are_there_with_health_checks_and_volumes() -> None:
    assert set(SERVICES) == {"web", "worker", "redis"}
    for service in SERVICES.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert any(volume.split(":")[0] in COMPOSE["volumes"] for volume in service["volumes"])


def test_only_the_pages_can_be_reached_and_only_from_this_machine() -> None:
    assert {name: service.get("ports", []) for name, service in SERVICES.items()} == {
        "web": ["127.0.0.1:7860:7860"],
        "worker": [],
        "redis": [],
    }
    assert SERVICES["redis"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_the_worker_has_the_gpus() -> None:
    devices = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]


def test_web_and_worker_read_the_worker_token_from_one_file() -> None:
    assert list(COMPOSE["secrets"]) == SERVICES["web"]["secrets"] == SERVICES["worker"]["secrets"] == ["worker-token"]
    assert SERVICES["web"]["environment"]["TRAINCTL_TOKEN_FILE"] == SECRET
    assert shlex.join(SERVICES["worker"]["command"]) == f"trainctl worker --server {URL} --token-file {SECRET}"


def test_no_secret_stands_in_a_command_or_in_the_environment() -> None:
    named = [word for service in SERVICES.values() for word in service["command"] if word.startswith("--")]
    named += [key for service in SERVICES.values() for key in service.get("environment", {})]
    secret = re.compile("token|secret|password|key", re.IGNORECASE)
    assert [word for word in named if secret.search(word) and not word.lower().endswith("file")] == []
    assert not re.search(r"://[^/\s]*@", (ROOT / "docker-compose.yml").read_text("utf-8"))


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_container_is_started_with_flags_that_exist(name: str) -> None:
    command = get_command(cli).commands[name]
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in SERVICES[name]["command"] if word.startswith("--")} <= known


def test_the_file_with_the_token_is_never_committed_nor_copied() -> None:
    folder = COMPOSE["secrets"]["worker-token"]["file"].removeprefix("./").split("/")[0]
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{folder}" not in (ROOT / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_environment_is_made_of_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = SERVICES[name]["environment"]
    known = {f"TRAINCTL_{field.upper()}" for field in Settings.model_fields} | {"REDIS_URL"}
    assert {key for key in environment if key.startswith(("TRAINCTL_", "REDIS"))} <= known
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert (str(settings.data_dir), settings.redis_url) == ("/var/lib/trainctl", "redis://redis:6379/0")


def test_the_check_of_the_worker_sees_a_lane_and_not_itself() -> None:
    check = [word.replace("worker.main", "lane.of.this.test") for word in SERVICES["worker"]["healthcheck"]["test"][2:]]
    alone = subprocess.run([sys.executable, *check], check=False)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen([*sleeper, "-A", "lane.of.this.test", "worker", "-Q", "lane.a.cpu"]) as lane:
        beside_a_lane = subprocess.run([sys.executable, *check], check=False)
        lane.kill()
    assert (alone.returncode, beside_a_lane.returncode) == (1, 0)


def test_every_image_has_an_exact_tag() -> None:
    images = [base for word, rest in INSTRUCTIONS if word == "FROM" and ":" in (base := rest.split()[0])]
    images += [service["image"] for service in SERVICES.values()]
    assert [image for image in images if not re.search(r":\d+\.\d+\.\d+[\w.-]*$", image)] == []


@pytest.mark.parametrize("name", ["web", "worker"])
def test_an_image_starts_our_command_as_an_ordinary_user(name: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    instructions = dict(stage(SERVICES[name]["build"]["target"]))
    assert instructions["USER"] == "trainctl"
    assert instructions["CMD"] == f'["trainctl", "{name}"]'
    assert "trainctl" in scripts and SERVICES[name]["command"][:2] == ["trainctl", name]


def test_only_the_worker_image_has_the_training_libraries() -> None:
    installs = {name: [rest for word, rest in stage(name) if "pip install" in rest] for name in ("web", "worker")}
    assert not any("[worker]" in one or "torch" in one for one in installs["web"])
    assert any("[worker]" in one for one in installs["worker"])
    assert all("-c constraints.txt" in one for one in installs["worker"])
    assert "torchvision" not in DOCKERFILE


def test_what_is_copied_exists_and_is_let_in() -> None:
    copied = {source for word, rest in INSTRUCTIONS if word == "COPY" for source in rest.split()[:-1]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied <= let_in
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_web_image_holds_all_that_the_pages_are_made_of() -> None:
    copied = {source for word, rest in stage("web") if word == "COPY" for source in rest.split()[:-1]}
    assert {"app", "templates", "static", "migrations", "constraints.txt", "README.md", "LICENSE"} <= copied
