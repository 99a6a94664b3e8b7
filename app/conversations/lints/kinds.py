"""Every kind of finding: how bad it is, why it hurts, what to do. The thresholds of the lints stand below."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    severity: Severity
    why: str
    advice: str


SEVERITIES = ("error", "warning", "note")
KINDS: dict[str, Kind] = {
    "not_json": Kind("error", "The line cannot be read.", "Write one JSON object a line; export the file anew."),
    "wrong_shape": Kind("error", "The line holds no conversation.", "Bring it into one of the known shapes."),
    "null_content": Kind("error", "A template writes null as a word, or fails.", "Put the text in, or drop the line."),
    "no_answer": Kind("error", "There is nothing to learn.", "Add the assistant's answer, or drop the line."),
    "unknown_role": Kind(
        "error", "A chat template leaves such a turn out.", "Name it system, user, assistant or tool."
    ),
    "empty_answer": Kind("error", "The model would learn to say nothing.", "Add the answer, or drop the line."),
    "system_not_first": Kind("error", "A chat template leaves such a turn out.", "Move it to the start."),
    "image_missing": Kind("error", "The model would answer about a picture it never saw.", "Put the image in."),
    "image_broken": Kind("error", "The picture cannot be shown to the model.", "Save the image anew."),
    "placeholder_mismatch": Kind(
        "error", "Pictures and places in the text do not belong together.", "Write `<image>` once for each image."
    ),
    "bare_count": Kind(
        "warning", "A bare number teaches no form; the model drops its JSON elsewhere.", 'Wrap it, as in {"count": 3}.'
    ),
    "exact_duplicate": Kind(
        "warning", "The same example counts twice and is learned by heart.", "Keep the first and drop this one."
    ),
    "near_duplicate": Kind(
        "warning", "Almost the same example counts twice.", "Keep the first and drop this one, unless both are meant."
    ),
    "contradiction": Kind(
        "warning", "Two answers to one question teach the model to guess.", "Keep the right one of the two."
    ),
    "leakage": Kind(
        "warning", "What was trained on cannot measure the model.", "Drop it from one of the two datasets."
    ),
    "broken_json": Kind(
        "warning", "The model learns to stop early or to break its own format.", "Repair the JSON, or drop the line."
    ),
    "mojibake": Kind(
        "warning", "The model learns the garbled letters.", "Decode the text as UTF-8 again; the repair does it."
    ),
    "think_leak": Kind(
        "warning", "The model learns to think without end, or aloud.", "Close the block, or take it out."
    ),
    "secret": Kind(
        "warning", "A model repeats the keys it was trained on.", "Take it out, and revoke the key where it is real."
    ),
    "personal_data": Kind(
        "warning", "A model repeats the people it was trained on.", "Take it out unless they agreed to it."
    ),
    "too_long": Kind(
        "warning", "It is left out or cut, depending on `truncation`.", "Shorten it, or raise `max_length`."
    ),
    "no_target": Kind("warning", "Nothing of it is trained; it is left out.", "Shorten what stands before the answer."),
    "refusal": Kind("note", "The model learns to refuse such questions.", "Keep it only if the refusal is wanted."),
    "boilerplate": Kind("note", "The model learns the phrase, not the answer.", "Cut the phrase."),
    "language_outlier": Kind("note", "The model may change languages unasked.", "See whether it belongs here."),
    "length_outlier": Kind("note", "Very long records dominate memory and time.", "See whether it belongs here."),
    "role_order": Kind("note", "The model will meet turns in order when it is used.", "Join or drop the odd turn."),
    "system_prompt_differs": Kind(
        "note", "The adapter works best under the prompt it was trained with.", "Use one prompt, or mean it."
    ),
    "dominant_answer": Kind("note", "Always giving it is right often enough.", "Balance the answers."),
    "image_rotated": Kind("note", "It is trained as its EXIF turns it.", "Serve the model images turned the same way."),
    "image_converted": Kind(
        "note",
        "CMYK colors shift, 16 bits become 8, transparency becomes white.",
        "Save it as plain RGB to be sure of its colors.",
    ),
    "image_animated": Kind("note", "Only the first frame is seen.", "Use the frame that the answer speaks of."),
    "image_large": Kind("note", "It is made smaller, and small print is lost.", "Crop it to what matters."),
    "duplicate_key": Kind("note", "Only the last of the values is used.", "Keep one of them."),
    "byte_order_mark": Kind("note", "Harmless here; other tools stumble over it.", "Save as UTF-8 without BOM."),
    "windows_line_ends": Kind("note", "Harmless here; other tools stumble over it.", "Save with \\n line ends."),
    "blank_line": Kind("note", "Harmless here; other tools stumble over it.", "Remove the blank lines."),
}

# Two texts are near duplicates from this share of common word triples on, in the whole and in the answer.
NEAR_SHARE = 0.9
# Below so many word triples a text is too short to be judged. Triples that stand in this share of the first records are
# a frame that all of them share and do not count.
NEAR_LEAST, FRAME_SHARE, FRAME_SAMPLE = 12, 0.2, 200
# From this share of JSON answers on, one that only begins like JSON is broken; from the higher one on, any that is not.
JSON_SHARE, JSON_SHARE_STRICT = 0.8, 0.95
# Shares among the records, and how many records it takes to speak of a share.
DOMINANT_SHARE = 0.3
MAIN_LANGUAGE_SHARE = 0.9
LEAST_FOR_SHARES = 20
# Characters in a record: this many times the usual spread above the usual size, on a logarithmic scale.
OUTLIER_SPREADS, OUTLIER_TIMES = 5.0, 4.0
# Without a tokenizer a token is taken for so many characters.
CHARACTERS_PER_TOKEN = 3


def severity_of(kind: str) -> Severity:
    return KINDS[kind].severity
