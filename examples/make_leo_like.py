#!/usr/bin/env python3
"""Write a JSONL chat dataset that looks like the field's own, with faults planted at known lines.

The rows ask a model to compose operations (filter, group, sort, count, join) over a small table of
records and to answer with data. As in the field: no row has a system message, and answers come as
strings, integers, objects and lists.

Usage:
    make_leo_like.py OUT.jsonl [--rows 10000] [--seed 42] [--clean]

Writes OUT.jsonl and OUT.truth.json: {"rows": N, "faults": {NAME: [line numbers, from 1]}}. The same
arguments give the same bytes. Standard library only. Empty lists and objects are valid answers.

Faults (share of rows, at least one row each; a row carries one, but a contradiction may also look like a near duplicate):
    bare_count        5.96 %  the answer is a bare number (int, or a string holding one)
    exact_duplicate   1.00 %  the row stands again further up, byte for byte
    contradiction     0.60 %  the same question as an earlier row, with another answer
    empty_answer      0.40 %  the assistant's content is "" or only white space
    null_content      0.30 %  a content field is null
    broken_json       0.50 %  the answer starts as JSON and is cut off
    mojibake          0.40 %  UTF-8 text that was decoded as Windows-1252 on its way
    no_answer         0.30 %  the last turn is the user's: nothing to learn
    unknown_role      0.20 %  a role that no chat template knows
    not_json          0.10 %  the line is not JSON
    wrong_shape       0.10 %  the line is JSON but no conversation (a list, a number, no messages)
    think_leak        0.40 %  the answer begins with an unclosed <think> block
    secret            0.20 %  an API key or a private key's header stands in the text
    too_long          0.30 %  the row is far over 2,048 tokens
    near_duplicate    0.80 %  an earlier row with a few characters changed
"""

import argparse
import json
import random
from pathlib import Path

SHARES = {
    "bare_count": 0.0596,
    "exact_duplicate": 0.0100,
    "contradiction": 0.0060,
    "empty_answer": 0.0040,
    "null_content": 0.0030,
    "broken_json": 0.0050,
    "mojibake": 0.0040,
    "no_answer": 0.0030,
    "unknown_role": 0.0020,
    "not_json": 0.0010,
    "wrong_shape": 0.0010,
    "think_leak": 0.0040,
    "secret": 0.0020,
    "too_long": 0.0030,
    "near_duplicate": 0.0080,
}
CITIES = ["Zürich", "São Paulo", "Kraków", "Málaga", "Osaka", "Lagos", "Québec", "Tromsø", "Pune", "Austin"]
KINDS = ["invoice", "refund", "transfer", "deposit", "payout"]
STATES = ["open", "paid", "late", "void"]
ADJECTIVES = ["brisk", "quiet", "amber", "rapid", "solid", "lunar", "plain", "vivid"]
NOUNS = ["harbor", "meadow", "circuit", "lantern", "orchard", "summit", "willow", "kettle"]


def records(rng, count):
    return [
        {
            "id": rng.randrange(1000, 9999),
            "name": f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
            "city": rng.choice(CITIES),
            "kind": rng.choice(KINDS),
            "state": rng.choice(STATES),
            "amount": round(rng.uniform(5, 950), 2),
            "day": f"2025-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
        }
        for _ in range(count)
    ]


def question_and_answer(rng, number):
    table = records(rng, rng.randrange(10, 21))
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in table)
    floor = rng.randrange(50, 500)
    kind, state, city = rng.choice(KINDS), rng.choice(STATES), rng.choice(CITIES)
    operation = rng.randrange(5)
    if operation == 0:
        ask = f"Keep the records of kind '{kind}' with an amount of at least {floor}, sorted by amount, largest first."
        answer = sorted((r for r in table if r["kind"] == kind and r["amount"] >= floor), key=lambda r: -r["amount"])
    elif operation == 1:
        ask = f"Group the records by city and give, for state '{state}', the sum of the amounts of each city."
        answer = {}
        for row in table:
            if row["state"] == state:
                answer[row["city"]] = round(answer.get(row["city"], 0) + row["amount"], 2)
    elif operation == 2:
        ask = f"Name the records in {city}, in order of day, and say how many there are."
        names = [r["name"] for r in sorted(table, key=lambda r: r["day"]) if r["city"] == city]
        answer = {"count": len(names), "names": names}
    elif operation == 3:
        ask = f"Give the earliest and the latest record of state '{state}'."
        kept = sorted((r for r in table if r["state"] == state), key=lambda r: r["day"])
        answer = {"earliest": kept[0] if kept else None, "latest": kept[-1] if kept else None}
    else:
        ask = f"For each kind, give its number of records and its mean amount, leaving out amounts under {floor}."
        answer = {}
        for one in KINDS:
            kept = [r["amount"] for r in table if r["kind"] == one and r["amount"] >= floor]
            if kept:
                answer[one] = {"count": len(kept), "mean": round(sum(kept) / len(kept), 2)}
    prompt = (
        f"Task {number:06}. You are given one JSON record a line.\n\n{lines}\n\n{ask}\nAnswer with the result alone."
    )
    return prompt, answer


def row(prompt, answer, extra=None):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": messages, **(extra or {})}


def written(rng, answer):
    """The field's answers were strings about half the time, raw JSON values otherwise."""
    return json.dumps(answer, ensure_ascii=False) if rng.random() < 0.5 else answer


def faulty(rng, fault, number, done):
    """One row with the fault named; `done` holds the clean rows so far as (prompt, answer), each copied at most once."""
    prompt, answer = question_and_answer(rng, number)
    if fault in ("exact_duplicate", "contradiction", "near_duplicate"):
        earlier, kept = done.pop(rng.randrange(len(done)))
    if fault == "bare_count":
        count = rng.choice([0, 0, 1, 1, 2, 3])
        ask = (
            prompt.rsplit("\n\n", 1)[0]
            + "\n\nCount the records that satisfy the contract.\nAnswer with the result alone."
        )
        return row(ask, count if rng.random() < 0.7 else str(count))
    if fault == "exact_duplicate":
        return row(earlier, kept)
    if fault == "contradiction":
        return row(earlier, json.dumps({"count": rng.randrange(90, 99), "names": ["none of these"]}))
    if fault == "near_duplicate":
        return row(earlier.replace("You are given", "You have been given", 1), kept)
    if fault == "empty_answer":
        return row(prompt, rng.choice(["", " ", "\n\n"]))
    if fault == "null_content":
        return row(prompt, None) if rng.random() < 0.5 else row(None, written(rng, answer))
    if fault == "broken_json":
        text = json.dumps({"result": answer, "note": "complete"}, ensure_ascii=False)
        return row(prompt, text[: max(8, int(len(text) * 0.6))])
    if fault == "mojibake":
        text = json.dumps(
            {"city": rng.choice(["Zürich", "São Paulo", "Málaga", "Québec", "Tromsø"]), "result": answer},
            ensure_ascii=False,
        )
        return row(prompt, text.encode("utf-8").decode("cp1252", errors="ignore"))
    if fault == "no_answer":
        return {"messages": [{"role": "user", "content": prompt}]}
    if fault == "unknown_role":
        made = row(prompt, written(rng, answer))
        made["messages"][1]["role"] = rng.choice(["bot", "agent", "Assistant "])
        return made
    if fault == "not_json":
        return json.dumps(row(prompt, answer), ensure_ascii=False)[:-7]
    if fault == "wrong_shape":
        value = rng.randrange(10**6)
        return rng.choice(
            [[value, 2, 3], value, {"text": value}, {"messages": f"none {value}"}, {"messages": [], "id": value}]
        )
    if fault == "think_leak":
        return row(prompt, "<think>\nLet me look at the records one by one. " + json.dumps(answer, ensure_ascii=False))
    if fault == "secret":
        key = "AKIA" + "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
        note = rng.choice(
            [
                f"use {key} to fetch the table",
                f"-----BEGIN RSA PRIVATE KEY-----\nMII{key}\n-----END RSA PRIVATE KEY-----",
            ]
        )
        return row(prompt, json.dumps({"note": note, "result": answer}, ensure_ascii=False))
    if fault == "too_long":
        table = "\n".join(json.dumps(r, ensure_ascii=False) for r in records(rng, 400))
        return row(
            f"Task {number:06}. You are given one JSON record a line.\n\n{table}\n\nGive the first record.",
            written(rng, answer),
        )
    raise ValueError(fault)


def build(num_rows, seed, clean):
    rng = random.Random(seed)
    plan = [None] * num_rows
    if not clean:
        planted = [name for name, share in SHARES.items() for _ in range(max(1, round(share * num_rows)))]
        head = min(50, num_rows // 4)  # the first rows stay clean, so that a copy has something to copy
        for place, name in zip(rng.sample(range(head, num_rows), len(planted)), planted):
            plan[place] = name
    lines, truth, done = [], {name: [] for name in SHARES}, []
    for number, fault in enumerate(plan, start=1):
        if fault is None:
            prompt, answer = question_and_answer(rng, number)
            answer = written(rng, answer)
            done.append((prompt, answer))
            made = row(prompt, answer)
        else:
            made = faulty(rng, fault, number, done)
            truth[fault].append(number)
        lines.append(made if isinstance(made, str) else json.dumps(made, ensure_ascii=False))
    return lines, truth


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--clean", action="store_true", help="plant no fault")
    args = parser.parse_args()
    lines, truth = build(args.rows, args.seed, args.clean)
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    args.out.with_suffix(".truth.json").write_text(
        json.dumps({"rows": len(lines), "faults": truth}, indent=1), encoding="utf-8"
    )
    print(f"{len(lines)} rows, {sum(map(len, truth.values()))} of them faulty -> {args.out}")


if __name__ == "__main__":
    main()
