from app.conversations.preview import preview, token_texts
from app.conversations.records import Conversation, Image, Text, Turn
from app.conversations.render import Renderer

ASKED = Turn("user", (Image(b"", "", 64, 64), Text("what \U0001f600 is \u00e9?")))
TALK = Conversation((ASKED, Turn("assistant", (Text("r\ufffdd \U0001f1eb"),))))


def test_the_texts_joined_are_the_decoded_text(renderer: Renderer) -> None:
    encoded = renderer.encode(TALK)
    shown = preview(renderer, encoded, 2048)
    assert "".join(token["text"] for token in shown) == renderer.decode(encoded.ids)
    assert [token["id"] for token in shown] == encoded.ids


def test_a_character_stands_at_the_last_of_its_tokens(renderer: Renderer) -> None:
    ids = renderer.tokenizer.encode("a\U0001f600").ids
    texts = token_texts(renderer, ids)
    assert (texts[0], texts[-1], set(texts[1:-1])) == ("a", "\U0001f600", {""})


def test_ids_that_end_inside_a_character_are_shown_all_the_same(renderer: Renderer) -> None:
    ids = renderer.tokenizer.encode("\U0001f600").ids[:-1]
    assert "".join(token_texts(renderer, ids)) == "\ufffd" == renderer.decode(ids)


def test_roles_tell_targets_context_and_picture_apart(renderer: Renderer) -> None:
    shown = preview(renderer, renderer.encode(TALK), 2048)
    by_role = {role: "".join(t["text"] for t in shown if t["role"] == role) for role in ("target", "image", "context")}
    assert by_role["target"] == "r\ufffdd \U0001f1eb<|im_end|>"
    assert set(by_role["image"].split("<|image_pad|>")) == {"<|vision_start|>", "", "<|vision_end|>"}
    assert by_role["context"].startswith("<|im_start|>user\nwhat ")


def test_what_max_length_leaves_out_is_marked(renderer: Renderer) -> None:
    encoded = renderer.encode(Conversation((Turn("user", (Text("q"),)), Turn("assistant", (Text("long answer"),)))))
    for mode, first, last in (("drop", "context", "cut"), ("right", "context", "cut"), ("left", "cut", "context")):
        shown = preview(renderer, encoded, 5, mode)  # type: ignore[arg-type]
        assert (shown[0]["role"], shown[-1]["role"]) == (first, last)
        assert sum(token["role"] != "cut" for token in shown) == 5
