"""The same question with another answer; white space in the answer does not matter."""

from app.conversations.lints.comparison import Comparison, Judge, Seen


def judge(files: Comparison) -> Judge:
    questions, wholes, answers = files.first_question, files.first_whole, files.columns["answer"]

    def look(row: int) -> Seen | None:
        first = questions[row]
        if first == row or wholes[row] != row or answers[row] == answers[first]:
            return None
        return Seen(f"The question of line {files.line(first)} has another answer there.", first)

    return look
