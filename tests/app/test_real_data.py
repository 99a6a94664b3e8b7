"""Real files of other people, through the upload; they lie beside the checkout, or the tests are skipped."""

import io
import zipfile
from pathlib import Path

import pytest

from tests.app.conversations.conftest import SHARED
from tests.factories import Center

DATA = SHARED / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not beside this checkout")


def zipped(folder: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(("alpaca", "identity")):
                packed.write(path, path.relative_to(folder))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "num_valid", "shape", "container"),
    [
        ("syllo_100.jsonl", 100, "messages", None),
        ("llamafactory_demo/alpaca_en_demo.json", 999, "instruction", "json array"),
        ("llamafactory_demo/identity.json", 91, "instruction", "json array"),
    ],
)
def test_a_file_of_texts_is_read_whole(
    center: Center, name: str, num_valid: int, shape: str, container: str | None
) -> None:
    dataset = center.wait_for_dataset(center.upload((DATA / name).read_bytes(), Path(name).name)["id"])
    assert (dataset["num_records"], dataset["num_valid"]) == (num_valid, num_valid)
    assert (dataset["statistics"]["shape"], dataset["container"]) == (shape, container)


@pytest.mark.parametrize(
    ("folder", "num_valid", "shape", "num_images"),
    [("qwen_demo", 3, "conversations", 3), ("llamafactory_demo", 6, "messages", 6)],
)
def test_records_with_images_beside_them_are_read_from_a_zip(
    center: Center, folder: str, num_valid: int, shape: str, num_images: int
) -> None:
    dataset = center.wait_for_dataset(center.upload(zipped(DATA / folder), f"{folder}.zip")["id"])
    assert (dataset["num_valid"], dataset["num_records"]) == (num_valid, num_valid), dataset
    assert (dataset["statistics"]["shape"], dataset["container"]) == (shape, "zip, json array")
    assert dataset["statistics"]["images"] >= num_images
    record = center.get(f"/api/datasets/{dataset['id']}/records/1").json()
    assert {token["role"] for token in record["tokens"]} >= {"target", "image"}


@pytest.mark.parametrize("name", ["qwen_demo/single_images.json", "llamafactory_demo/mllm_demo.json"])
def test_without_its_images_such_a_file_is_refused_in_words(center: Center, name: str) -> None:
    dataset = center.wait_for_dataset(center.upload((DATA / name).read_bytes())["id"])
    assert (dataset["state"], list(dataset["findings"])) == ("refused", ["image_missing"])
    assert "is not in the file" in dataset["error"]
