import os

import pytest

from app import serve
from app.config import Settings
from app.processes import WEB_LOCK, take_lock


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
