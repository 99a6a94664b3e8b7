import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from app.conversations.normalize import with_system_prompt
from app.conversations.reader import valid_conversations
from app.conversations.render import Renderer
from app.conversations.tiny_tokenizer import NUM_TOKENS, SPECIAL_TOKENS, write_tiny_tokenizer
from tests.app.conversations.conftest import SHARED

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES]


def test_the_same_bytes_come_out_in_another_process(tiny_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.conversations.tiny_tokenizer import write_tiny_tokenizer;"
        "write_tiny_tokenizer(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert hashes(tmp_path) == hashes(tiny_dir)


def test_writing_over_it_changes_nothing(tiny_dir: Path) -> None:
    before = hashes(tiny_dir)
    write_tiny_tokenizer(tiny_dir)
    assert hashes(tiny_dir) == before


def test_it_has_3000_tokens_with_the_14_special_ones_last(plain_tokenizer: Tokenizer) -> None:
    assert plain_tokenizer.get_vocab_size() == NUM_TOKENS == 3000
    ids = [plain_tokenizer.token_to_id(name) for name in SPECIAL_TOKENS]
    assert ids == list(range(3000 - 14, 3000))


@pytest.mark.parametrize(
    "text", ["hello", "Zürich \U0001f600", "e\u0301", "\x00\x7f\u2028", '{"a": [1, 2.5e10]}', " \n\t\r\n "]
)
def test_any_text_comes_back_exactly(plain_tokenizer: Tokenizer, text: str) -> None:
    assert plain_tokenizer.decode(plain_tokenizer.encode(text).ids) == text


def test_at_most_one_in_a_hundred_rows_of_field_like_data_passes_2048_tokens(
    renderer: Renderer, tmp_path: Path
) -> None:
    generator = SHARED / "tools" / "make_leo_like.py"
    if not generator.is_file():
        pytest.skip("the generator of field-like data is not beside this checkout")
    path = tmp_path / "clean.jsonl"
    subprocess.run([sys.executable, generator, path, "--rows", "500", "--clean"], check=True, stdout=subprocess.DEVNULL)
    conversations = [with_system_prompt(one, "You are a helpful assistant.")[0] for _, one in valid_conversations(path)]
    lengths = [len(example.ids) for example in renderer.encode_many(conversations)]
    assert len(lengths) == 500
    assert sum(length > 2048 for length in lengths) <= 5


def test_transformers_reads_it_to_the_same_ids(tiny_dir: Path, renderer: Renderer) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tiny_dir, local_files_only=True)
    text = '<|im_start|>user\nHow many?\n\n{"a": 12}<|im_end|>\n'
    assert theirs(text)["input_ids"] == Tokenizer.from_file(str(tiny_dir / "tokenizer.json")).encode(text).ids
    assert (theirs.eos_token_id, theirs.pad_token) == (renderer.eos_id, "<|endoftext|>")
