"""An example: token ids and, for each, whether it is a target."""

import msgspec

from app.conversations.records import Image


class ImageSpan(msgspec.Struct, frozen=True):
    """One image of an example. `grid` is (time, height, width) in patches; tokens [start, end) are its own,
    `<|vision_start|>` and `<|vision_end|>` included."""

    image: Image
    grid: tuple[int, int, int]
    start: int
    end: int


class Encoded(msgspec.Struct, frozen=True):
    """Token ids of one conversation. `target_mask[i]` is 1 where token i has loss, else 0 (labels are not shifted)."""

    ids: list[int]
    target_mask: bytes
    images: tuple[ImageSpan, ...] = ()

    @property
    def num_targets(self) -> int:
        return sum(self.target_mask)

    @property
    def roles(self) -> list[str]:
        """For each token "target", "context" or "image"."""
        roles = ["target" if target else "context" for target in self.target_mask]
        for image in self.images:
            roles[image.start : image.end] = ["image"] * (image.end - image.start)
        return roles
