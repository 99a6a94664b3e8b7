"""Conversation -> text -> token ids -> which of them are targets. What the preview shows is what is trained.

The model's template is rendered with every special token inside the user's data broken by a mark. So each special
token left in the text is the template's own, and the text is cut there: the pieces between are tokenized as plain
text after the marks are taken out. This gives the ids of tokenizing the text at once, but for two things, both wanted:
a special token in the data stays text, and an answer starts a token of its own even where it begins with a line
break, as it does when the model generates. Special is what the tokenizer calls so: `<think>` and `<tool_call>` are
added tokens that answers are meant to hold, and stay tokens. A tokenizer that composes letters (NFC) does so here too.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2
from tokenizers import Tokenizer

from app.conversations.encoded import Encoded, ImageSpan
from app.conversations.encoder import Encoder
from app.conversations.images import ImageRules
from app.conversations.records import Conversation, Image, Rejected, Turn
from app.conversations.template import ModelIncomplete, compile_template, read_json, read_template

TrainOn = Literal["all_answers", "last_answer"]

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
VISION_START, IMAGE_PAD, VISION_END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
NEEDED_SPECIALS = (TURN_START, TURN_END, VISION_START, IMAGE_PAD, VISION_END)
MARK = "\ufdd1"
LEARNED, CONTEXT = b"\x01", b"\x00"
# A template is code from elsewhere: it may fail by a rule of the sandbox or like any Python expression.
TEMPLATE_ERRORS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Piece(NamedTuple):
    """A stretch of the rendered text: one special token, or text; `answer` is the answer's number, -1 outside."""

    text: str
    special: bool = False
    answer: int = -1


class Renderer:
    """Tokenizer, chat template and image rules of one model. Build it with `Renderer.load(model_dir)`."""

    def __init__(self, tokenizer: Tokenizer, template: str, rules: ImageRules, tokenizer_sha256: str = "") -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self._encoder = Encoder(tokenizer)
        self.image_rules = rules
        self.tokenizer_sha256 = tokenizer_sha256
        self.template_sha256 = hashlib.sha256(template.encode()).hexdigest()
        self._template = compile_template(template)
        self.has_clock = "strftime_now" in template  # then the same conversation has other tokens tomorrow
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        for name in NEEDED_SPECIALS:
            if name not in self.special_ids:
                raise ModelIncomplete(f"The tokenizer lacks the special token {name}: this is no Qwen3-VL model.")
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, longest_first)))
        self.eos_id = self.special_ids[TURN_END]
        self.image_id = self.special_ids[IMAGE_PAD]

    @classmethod
    def load(cls, model_dir: Path) -> "Renderer":
        """Read tokenizer.json, the chat template and preprocessor_config.json; raises `ModelIncomplete`."""
        path = Path(model_dir) / "tokenizer.json"
        if not path.is_file():
            raise ModelIncomplete(f"{path.parent} has no tokenizer.json: the base model is missing or incomplete.")
        data = path.read_bytes()
        rules = ImageRules.read(read_json(path.parent / "preprocessor_config.json"))
        sha256 = hashlib.sha256(data).hexdigest()
        return cls(Tokenizer.from_buffer(data), read_template(path.parent), rules, sha256)

    def text(self, conversation: Conversation, add_generation_prompt: bool = False) -> str:
        """The text as the template writes it, one `<|image_pad|>` an image."""
        mark = _unused_mark(conversation)
        return self._marked_text(conversation, mark, add_generation_prompt).replace(mark, "")

    def encode(
        self,
        conversation: Conversation,
        train_on: TrainOn = "all_answers",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> Encoded:
        return self.encode_many([conversation], train_on, min_pixels, max_pixels)[0]

    def encode_many(
        self,
        conversations: Sequence[Conversation],
        train_on: TrainOn = "all_answers",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> list[Encoded]:
        """One example a conversation, tokenized in one batch. Targets: each answer's tokens and its end token."""
        rules = self.image_rules.limited(min_pixels, max_pixels)
        pieces = [self._pieces(conversation) for conversation in conversations]
        known = self._tokenize(piece.text for row in pieces for piece in row if not piece.special)
        return [
            self._assemble(row, known, conversation, train_on, rules)
            for row, conversation in zip(pieces, conversations, strict=True)
        ]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def _marked_text(self, conversation: Conversation, mark: str, add_generation_prompt: bool = False) -> str:
        messages = [self._message(turn, mark) for turn in conversation.turns]
        tools = [json.loads(self._break_specials(tool, mark)) for tool in conversation.tools] or None
        try:
            return self._template.render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)
        except TEMPLATE_ERRORS as error:
            raise Rejected("wrong_shape", f"The model's chat template refuses the conversation: {error}") from None

    def _message(self, turn: Turn, mark: str) -> dict[str, Any]:
        """The turn as the template sees it. Neighbouring texts are joined, lest two halves make a special token."""
        content: list[dict[str, str]] = []
        for item in turn.content:
            if isinstance(item, Image):
                content.append({"type": "image", "image": "image"})
            elif content and content[-1]["type"] == "text":
                content[-1]["text"] += item.text
            else:
                content.append({"type": "text", "text": item.text})
        for shown in content:
            if shown["type"] == "text":
                shown["text"] = self._break_specials(shown["text"], mark)
        message: dict[str, Any] = {"role": turn.role, "content": content}
        if turn.calls:
            message["tool_calls"] = [
                {"name": self._break_specials(call.name, mark), "arguments": self._break_specials(call.arguments, mark)}
                for call in turn.calls
            ]
        return message

    def _break_specials(self, text: str, mark: str) -> str:
        return self._specials.sub(lambda found: found[0][0] + mark + found[0][1:], text)

    def _pieces(self, conversation: Conversation) -> list[Piece]:
        """The rendered conversation, cut at the template's special tokens and before each answer."""
        mark = _unused_mark(conversation)
        text = self._marked_text(conversation, mark)
        answers = [turn for turn in conversation.turns if turn.role == "assistant"]
        pieces: list[Piece] = []
        seen, last, opened = 0, 0, False
        for found in self._specials.finditer(text):
            chunk = text[last : found.start()].replace(mark, "")
            if opened and seen < len(answers) and chunk.startswith("assistant"):
                pieces += _answer_apart(chunk, answers[seen], seen)
                pieces.append(Piece(found[0], True, seen))
                seen += 1
            else:
                pieces += [Piece(chunk)] if chunk else []
                pieces.append(Piece(found[0], True))
            last, opened = found.end(), found[0] == TURN_START
        if last < len(text):
            pieces.append(Piece(text[last:].replace(mark, "")))
        self._refuse_lost(conversation, pieces, seen, len(answers))
        _refuse_lost_calls(conversation, text.replace(mark, ""))
        return pieces

    def _refuse_lost(self, conversation: Conversation, pieces: list[Piece], seen: int, num_answers: int) -> None:
        if seen < num_answers:
            raise Rejected("wrong_shape", "The model's chat template drops an answer or does not mark where it starts.")
        num_images = sum(piece.special and piece.text == IMAGE_PAD for piece in pieces)
        if num_images != len(conversation.images):
            raise Rejected("placeholder_mismatch", "The model's chat template does not place each image once.")

    def _tokenize(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Ids of each different text; none of them is a special token's."""
        different = list(dict.fromkeys(texts))
        return dict(zip(different, self._encoder.ids(different), strict=True))

    def _assemble(
        self,
        pieces: list[Piece],
        known: dict[str, list[int]],
        conversation: Conversation,
        train_on: TrainOn,
        rules: ImageRules,
    ) -> Encoded:
        learned = _learned(conversation, train_on)
        ids: list[int] = []
        mask = bytearray()
        spans: list[ImageSpan] = []
        images = iter(conversation.images)
        for piece in pieces:
            added = [self.special_ids[piece.text]] if piece.special else known[piece.text]
            if piece.special and piece.text == IMAGE_PAD:
                image = next(images)
                grid = rules.grid(image.width, image.height)
                added = added * rules.num_tokens(image.width, image.height)
                # The border tokens beside the placeholders are the image's as well: a cut must keep them together.
                spans.append(ImageSpan(image, grid, len(ids) - 1, len(ids) + len(added) + 1))
            ids += added
            mask += (LEARNED if piece.answer in learned else CONTEXT) * len(added)
        return Encoded(ids, bytes(mask), tuple(spans))


def _learned(conversation: Conversation, train_on: TrainOn) -> set[int]:
    """The numbers of the answers that are targets."""
    answers = [turn for turn in conversation.turns if turn.role == "assistant"]
    first = 0 if train_on == "all_answers" else len(answers) - 1
    return {number for number, turn in enumerate(answers) if number >= first and not turn.is_context}


def _answer_apart(chunk: str, answer: Turn, number: int) -> list[Piece]:
    """The header the template writes before an answer, and the answer; calls of tools are a part of it."""
    is_text = not answer.calls and chunk.endswith(answer.text)
    start = len(chunk) - len(answer.text) if is_text else len("assistant\n")
    return [Piece(chunk[:start]), Piece(chunk[start:], False, number)]


def _refuse_lost_calls(conversation: Conversation, text: str) -> None:
    """A template may know nothing of tools, and leaves them out without a word."""
    names = [call.name for turn in conversation.turns for call in turn.calls]
    if any(name not in text for name in names) or (conversation.tools and "tools" not in text):
        raise Rejected("wrong_shape", "The model's chat template drops the tools or a call of one.")


def _unused_mark(conversation: Conversation) -> str:
    mark = MARK
    while any(mark in text for text in _all_texts(conversation)):
        mark += MARK
    return mark


def _all_texts(conversation: Conversation) -> Iterator[str]:
    yield from conversation.tools
    for turn in conversation.turns:
        yield turn.text
        for call in turn.calls:
            yield from (call.name, call.arguments)
