import json
import runpy
from collections import Counter
from pathlib import Path

from app.conversations.reader import valid_conversations

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_sample_is_what_its_script_writes() -> None:
    rows = runpy.run_path(str(EXAMPLES / "make_sample.py"))["rows"]()
    assert (EXAMPLES / "capitals.jsonl").read_text(encoding="utf-8").splitlines() == rows


def test_every_row_can_be_trained_and_every_question_has_one_answer() -> None:
    found = [conversation for _, conversation in valid_conversations(EXAMPLES / "capitals.jsonl")]
    answers = {conversation.turns[0].text: conversation.answer for conversation in found}
    assert len(found) == len(answers) == 128


def test_the_answers_are_texts_integers_objects_and_lists() -> None:
    lines = (EXAMPLES / "capitals.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = Counter(type(json.loads(line)["messages"][1]["content"]).__name__ for line in lines)
    assert kinds == {"str": 40, "int": 32, "dict": 24, "list": 32}
