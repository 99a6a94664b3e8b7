"""The built-in tokenizer on disk, small pictures, and the template that TRL ships for Qwen3-VL."""

import base64
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from tokenizers import Tokenizer

from app.conversations.render import Renderer
from app.conversations.tiny_tokenizer import write_tiny_tokenizer

SHARED = Path(__file__).parents[3].parent / "shared"


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def renderer(tiny_dir: Path) -> Renderer:
    return Renderer.load(tiny_dir)


@pytest.fixture(scope="session")
def plain_tokenizer(tiny_dir: Path) -> Tokenizer:
    """The tokenizer as others load it: special tokens in a text are special tokens."""
    return Tokenizer.from_file(str(tiny_dir / "tokenizer.json"))


@pytest.fixture(scope="session")
def trl_template() -> str:
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("trl is not installed, whose Qwen3-VL template ours is compared with")
    return (Path(spec.origin).parent / "chat_templates" / "qwen3_vl.jinja").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def data_uri() -> Callable[..., str]:
    """A picture of the given size in pixels as a data URI."""

    def make(width: int = 64, height: int = 48, form: str = "PNG") -> str:
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (width, height), (200, 30, 30)).save(buffer, form)
        return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"

    return make
