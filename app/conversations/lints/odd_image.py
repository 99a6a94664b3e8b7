"""Images that the model sees otherwise than their file may suggest."""

from collections.abc import Iterator

from app.conversations.findings import Finding
from app.conversations.lints.record import Record
from app.conversations.records import Image

WORDS = {
    "image_rotated": "is turned by its EXIF data",
    "image_converted": "is not plain RGB and is converted",
    "image_animated": "has several frames, of which the first is used",
    "image_large": "has more pixels than the model sees",
}


def find(record: Record) -> Iterator[Finding]:
    if not record.conversation.images:
        return
    for place, turn in enumerate(record.conversation.turns):
        for image in turn.content:
            if isinstance(image, Image):
                for kind in image.traits:
                    message = f"An image of {image.width} x {image.height} pixels {WORDS[kind]}."
                    yield record.finding(kind, place, message, image.source)
