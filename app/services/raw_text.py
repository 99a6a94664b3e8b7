"""A raw line for a person: indented, and every value exactly as it was written."""

import re

INDENT = "  "
MOST_CHARACTERS = 200_000
LONG_PICTURE = re.compile(r"(base64,[A-Za-z0-9+/]{24})[A-Za-z0-9+/=]{40,}")
PART = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def indented(raw: str) -> str:
    """The JSON with line breaks; numbers, escapes and repeated keys stay, the bytes of pictures are shortened."""
    text = LONG_PICTURE.sub(lambda found: f"{found[1]}... ({len(found[0]) - 7:,} characters)", raw)
    lines, line, depth = list[str](), "", 0
    parts = PART.findall(text[:MOST_CHARACTERS])
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part in "}]" and not line.endswith(("{", "[")):
            lines.append(INDENT * depth + line)
            line, depth = "", depth - 1
        elif part in "}]":
            depth -= 1
        line += part + (" " if part == ":" else "")
        if part in "{[":
            depth += 1
        if part == "," or (part in "{[" and following not in ("}", "]")):
            lines.append(INDENT * (depth - (part != ",")) + line)
            line = ""
    return "\n".join([*lines, INDENT * max(depth, 0) + line]) + ("\n..." if len(text) > MOST_CHARACTERS else "")
