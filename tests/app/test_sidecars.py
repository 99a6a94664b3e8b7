import pytest

from app.services import sidecars
from app.services.sidecars import SidecarWrong


def complaint(text: str | bytes) -> str:
    with pytest.raises(SidecarWrong) as caught:
        sidecars.read("a.yaml", text if isinstance(text, bytes) else text.encode())
    return caught.value.message


def test_keys_of_the_job_and_of_its_settings_stand_side_by_side() -> None:
    sidecar = sidecars.read("a.yaml", b"model: m\npriority: high\nepochs: 2\nconfig:\n  lora_r: 8\n")
    assert sidecar.body == {"model": "m", "priority": "high", "config": {"epochs": 2, "lora_r": 8}}
    assert (sidecar.lines["epochs"], sidecar.lines["lora_r"]) == (3, 5)


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"---\n"])
def test_an_empty_one_says_nothing(text: bytes) -> None:
    assert sidecars.read("a.yaml", text).body == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "model: m\nlerning_rate: 1\n",
            "a.yaml line 2: 'lerning_rate' is not known here; did you mean 'learning_rate'?",
        ),
        ("config:\n  model: m\n", "a.yaml line 2: 'model' is not known here;"),
        ("seed: 1\nseed: 2\n", "a.yaml line 2: 'seed' stands on line 1 already"),
        ("seed: 1\nconfig: {seed: 2}\n", "a.yaml line 2: 'seed' stands here and above"),
        ("config: 7\n", "a.yaml line 1: config must hold"),
        ("- a\n", "a.yaml must hold one `key: value` a line"),
        ("a: [\n", "a.yaml line 2 is not YAML"),
        ("model: !!python/object/apply:os.getcwd []\n", "a.yaml line 1 is not YAML"),
        (b"\xff\xfe\x00", "a.yaml"),
        ("[" * 5000, "a.yaml is not YAML"),
    ],
)
def test_what_is_wrong_is_told_by_line_and_key(text: str | bytes, told: str) -> None:
    assert complaint(text).startswith(told)


def test_what_the_check_of_the_job_finds_is_told_by_line() -> None:
    sidecar = sidecars.read("a.yaml", b"model: m\n\nlora_r: many\n")
    detail = [{"field": "config.lora_r", "message": "must be a whole number"}, {"field": "model", "message": "x"}]
    assert (
        sidecar.wrong(detail).message == "a.yaml line 3: lora_r must be a whole number; mend it and save it (1 more)."
    )
