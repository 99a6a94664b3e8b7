"""The same conversation again; how its JSON was written does not matter."""

from app.conversations.lints.comparison import Comparison, Judge, Seen


def judge(files: Comparison) -> Judge:
    firsts = files.first_whole

    def look(row: int) -> Seen | None:
        first = firsts[row]
        return None if first == row else Seen(f"The same as line {files.line(first)}.", first, 0)

    return look
