import os

import pytest

from app import serve
from app.config import Settings
from app.processes import WEB_LOCK, take_lock
from app.running import ADDRESS, reaching


def test_a_second_web_process_of_a_data_directory_ends_with_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.data_dir.mkdir()
    held = take_lock(settings.data_dir / WEB_LOCK)
    assert held is not None
    monkeypatch.setattr(serve, "LOCK_WAIT_S", 0.0)
    with pytest.raises(SystemExit, match="Another control center already serves"):
        serve.serve(settings)
    os.close(held)


def test_the_directory_is_free_again_after_its_web_process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[bool] = []

    def look(_: Settings) -> None:
        served.append(take_lock(settings.data_dir / WEB_LOCK) is None)

    monkeypatch.setattr(serve, "_serve", look)
    serve.serve(settings)
    free = take_lock(settings.data_dir / WEB_LOCK)
    assert served == [True] and free is not None
    os.close(free)


def test_a_command_finds_the_running_control_center_of_its_directory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, found = settings.data_dir, []

    def look(_: Settings) -> None:
        found.append(reaching(Settings(data_dir=data_dir)).base_url)
        found.append(reaching(Settings(data_dir=data_dir, host="127.0.0.2")).base_url)
        found.append(reaching(Settings(data_dir=data_dir, port=7999)).base_url)
        found.append(reaching(Settings(data_dir=data_dir, server_url="http://far:1")).base_url)

    monkeypatch.setattr(serve, "_serve", look)
    usual = Settings(data_dir=data_dir).base_url
    assert reaching(Settings(data_dir=data_dir)).base_url == usual
    serve.serve(Settings(data_dir=data_dir, port=7901))
    assert found == ["http://127.0.0.1:7901", "http://127.0.0.2:7901", "http://127.0.0.1:7999", "http://far:1"]
    assert reaching(Settings(data_dir=data_dir)).base_url == usual
    monkeypatch.setattr("app.running._is_running", lambda _: True)
    (data_dir / ADDRESS).write_text("[]")
    assert reaching(Settings(data_dir=data_dir)).base_url == usual
