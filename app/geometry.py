"""How large a base model is, read from its config.json: the numbers that memory and time follow from."""

from dataclasses import dataclass
from typing import Any

MODEL_TYPE = "qwen3_vl"


@dataclass(frozen=True)
class Geometry:
    """Sizes of the language model as its config.json names them; `vision_params` is the tower with its mergers."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocab: int
    tied: bool
    vision_params: int
    vision_hidden: int
    vision_intermediate: int

    @property
    def query(self) -> int:
        """Width of all query heads together; of keys and values it is `key_value`."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        return self.key_value_heads * self.head_dim

    @property
    def linear_params(self) -> int:
        """The weights that become 4 bits: seven linears a layer."""
        attention = 2 * self.hidden * (self.query + self.key_value)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def norm_params(self) -> int:
        return self.layers * 2 * (self.hidden + self.head_dim) + self.hidden

    @property
    def embedding_params(self) -> int:
        """Embedding and output head; they are one where the model ties them."""
        return (1 if self.tied else 2) * self.vocab * self.hidden

    @property
    def params(self) -> int:
        return self.linear_params + self.norm_params + self.embedding_params + self.vision_params

    def lora_params(self, rank: int) -> int:
        """Trained parameters with an adapter of that rank on the seven linears of each layer."""
        attention = 2 * (self.hidden + self.query) + 2 * (self.hidden + self.key_value)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


def read_geometry(config: dict[str, Any]) -> Geometry | None:
    """The geometry in a config.json; None where it is not one of a Qwen3-VL or lacks a number."""
    text, vision = config.get("text_config"), config.get("vision_config")
    if config.get("model_type") != MODEL_TYPE or not isinstance(text, dict) or not isinstance(vision, dict):
        return None
    try:
        return Geometry(
            hidden=int(text["hidden_size"]),
            layers=int(text["num_hidden_layers"]),
            intermediate=int(text["intermediate_size"]),
            heads=int(text["num_attention_heads"]),
            key_value_heads=int(text["num_key_value_heads"]),
            head_dim=int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]),
            vocab=int(text["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            vision_params=_vision_params(vision),
            vision_hidden=int(vision["hidden_size"]),
            vision_intermediate=int(vision["intermediate_size"]),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _vision_params(vision: dict[str, Any]) -> int:
    """Patches and positions, blocks with their biases, and one merger more than there are deepstack levels."""
    hidden, inner, out = int(vision["hidden_size"]), int(vision["intermediate_size"]), int(vision["out_hidden_size"])
    merged = hidden * int(vision.get("spatial_merge_size", 2)) ** 2
    patch = (
        int(vision.get("in_channels", 3)) * int(vision.get("temporal_patch_size", 2)) * int(vision["patch_size"]) ** 2
    )
    embedding = (patch + 1) * hidden + int(vision["num_position_embeddings"]) * hidden
    block = 4 * hidden + (3 * hidden + 3) * hidden + (hidden + 1) * hidden + (2 * hidden + 1) * inner + hidden
    projection = (merged + 1) * merged + (merged + 1) * out
    levels = len(vision.get("deepstack_visual_indexes", ()))
    mergers = projection + 2 * hidden + levels * (projection + 2 * merged)
    return embedding + int(vision["depth"]) * block + mergers


# Known without their files: one may still have to be downloaded, the other is built by its first job.
BUILT_IN = {
    "Qwen/Qwen3-VL-8B-Instruct": Geometry(
        hidden=4096,
        layers=36,
        intermediate=12288,
        heads=32,
        key_value_heads=8,
        head_dim=128,
        vocab=151_936,
        tied=False,
        vision_params=576_388_336,
        vision_hidden=1152,
        vision_intermediate=4304,
    ),
    "tiny-qwen3-vl": Geometry(
        hidden=64,
        layers=2,
        intermediate=128,
        heads=4,
        key_value_heads=2,
        head_dim=16,
        vocab=3008,
        tied=False,
        vision_params=450_752,
        vision_hidden=64,
        vision_intermediate=128,
    ),
}
