"""The examples of a job: tokenized, split, counted, and said in the log."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.conversations.questions import question_groups, strata
from app.conversations.render import Renderer
from app.conversations.split import choose_validation, draws, kept_aside
from app.schemas import JobSpec
from worker.trainer.encode import Records, Tokenized, encode_file, fit
from worker.trainer.events import EventLog
from worker.trainer.faults import JobFailed
from worker.trainer.images import Example
from worker.trainer.schedule import Share
from worker.trainer.token_cache import TokenCache, cache_key

PROGRESS_EVERY_S = 2.0


@dataclass(frozen=True)
class Data:
    train: list[Example]
    validation: list[Example]
    left_out: dict[str, int]
    num_injected: int
    num_truncated: int = 0
    shares: tuple[Share, ...] = ()  # of a mixture

    @property
    def longest(self) -> int:
        return max(one.num_tokens for one in [*self.train, *self.validation])

    @property
    def num_tokens(self) -> int:
        """Of the training examples: what an epoch computes."""
        return sum(one.num_tokens for one in self.train)

    @property
    def has_images(self) -> bool:
        return any(one.images for one in [*self.train, *self.validation])


def load_data(spec: JobSpec, renderer: Renderer, events: EventLog, poll: Callable[[], None]) -> Data:
    """Raises `JobFailed` if nothing is left to train on."""
    paths = [Path(one.path) for one in spec.mixture] or [Path(spec.dataset_path)]
    for path in [*paths, *([Path(spec.validation_path)] if spec.validation_path else [])]:
        if not path.is_file():
            raise JobFailed("dataset_missing", f"There is no file {path}.", "Give the path of a JSONL file.")
    sources = [_tokenized(path, spec, renderer, events, poll) for path in paths]
    found, sides = sources[0], _split(sources, paths, spec)
    train, validation = ([one for side in sides for one in side[place]] for place in (0, 1))
    if spec.validation_path:
        sources.append(_tokenized(Path(spec.validation_path), spec, renderer, events, poll))
        validation = [one for one in sources[-1].examples if one]
    left_out = sum((one.left_out for one in sources), Counter[str]())
    injected, truncated = sum(one.num_injected for one in sources), sum(one.num_truncated for one in sources)
    shares = _shares(spec, [len(side[0]) for side in sides], events)
    data = Data(train, validation, dict(left_out), injected, truncated, shares)
    _say(data, spec, sum(len(one.examples) for one in sources), events)
    if not train:
        raise JobFailed(
            "no_examples",
            f"None of the records can be trained: {_counts(left_out) or 'the dataset is empty'}."
            + (f" The first reason: {found.first_error}" if found.first_error else ""),
            "Look at the findings of the dataset, or raise max_length if the records are too long.",
        )
    if spec.validation_path and not validation:
        raise JobFailed(
            "no_validation_examples",
            f"None of the records of the validation dataset can be used: {_reasons(sources[-1])}.",
            "Look at its findings, raise max_length, or leave the validation dataset out.",
        )
    return data


def _reasons(found: Tokenized) -> str:
    first = f" (the first: {found.first_error})" if found.first_error else ""
    return (_counts(found.left_out) or "it is empty") + first


def _tokenized(path: Path, spec: JobSpec, renderer: Renderer, events: EventLog, poll: Callable[[], None]) -> Tokenized:
    """From the cache beside the dataset file where an earlier job left it there."""
    if renderer.has_clock:
        return fit(encode_file(path, renderer, spec.config, _Progress(events, poll)), spec.config)
    cache, key = TokenCache(path.parent / "tokens"), cache_key(path, renderer, spec.config)
    records = cache.read(key)
    if records:
        events.log(f"The tokens of {path.name} are those of an earlier job")
    else:
        records = _measured(path, spec, renderer, events, poll)
        cache.write(key, records)
    return fit(records, spec.config)


def _measured(path: Path, spec: JobSpec, renderer: Renderer, events: EventLog, poll: Callable[[], None]) -> Records:
    started = time.monotonic()
    records = encode_file(path, renderer, spec.config, _Progress(events, poll))
    seconds = time.monotonic() - started
    num_tokens = sum(len(one.ids) for one in records.records if one)
    events.log(f"Tokenized {num_tokens:,} tokens in {seconds:.1f} s, {num_tokens / max(seconds, 1e-6):,.0f} a second")
    return records


def _split(sources: list[Tokenized], paths: list[Path], spec: JobSpec) -> list[tuple[list[Example], list[Example]]]:
    """Each dataset by the place among its valid records: neither tokenizer nor max_length moves one to the other side.

    Of a mixture that shall not leak, what is asked in the validation part of one dataset is trained in none.
    """
    config, nums_valid = spec.config, [len(one.examples) for one in sources]
    wanted = kept_aside(nums_valid, config.validation_share, config.validation_count)
    if not spec.validation_path and (config.validation_count or 0) >= max(1, sum(nums_valid)):
        raise JobFailed(
            "no_examples",
            f"All {sum(nums_valid):,} records would be kept aside for validation, and none is left to train on.",
            "Lower validation_count.",
        )
    if spec.validation_path or not any(wanted):
        return [([one for one in found.examples if one], []) for found in sources]
    groups = question_groups(paths) if config.validation_leak_free else [None] * len(paths)
    kinds = [strata(path) if config.validation_stratified else None for path in paths]
    chosen = [
        choose_validation(num_valid, num_wanted, config.seed, group, kind)
        for num_valid, num_wanted, group, kind in zip(nums_valid, wanted, groups, kinds, strict=True)
    ]
    held = {group[i] for (_, aside), group in zip(chosen, groups, strict=True) if group for i in aside}
    sides = []
    for found, (train, aside), group in zip(sources, chosen, groups, strict=True):
        kept = [i for i in train if group is None or group[i] not in held]
        sides.append((_those(found, kept), _those(found, aside)))
    return sides


def _shares(spec: JobSpec, nums_train: list[int], events: EventLog) -> tuple[Share, ...]:
    if not spec.mixture:
        return ()
    shares, first = [], 0
    for one, num_train in zip(spec.mixture, nums_train, strict=True):
        if num_train:
            shares.append(Share(first, num_train, draws(num_train, one.weight)))
        first += num_train
        drawn = draws(num_train, one.weight)
        events.log(f"An epoch draws {drawn:,} times from the {num_train:,} train examples of {one.dataset.get('name')}")
    return tuple(shares)


def _those(found: Tokenized, indices: list[int]) -> list[Example]:
    return [example for i in indices if (example := found.examples[i]) is not None]


def _say(data: Data, spec: JobSpec, num_records: int, events: EventLog) -> None:
    prompt = spec.config.system_prompt
    if prompt:
        events.log(f'System prompt "{prompt}", put in front of {data.num_injected:,} of {num_records:,} records')
    else:
        events.log("No system prompt is put in front of records that have none")
    if data.left_out:
        events.log(f"Left out: {_counts(Counter(data.left_out))}", level="warning")
    if data.num_truncated:
        events.log(f"Cut to {spec.config.max_length:,} tokens: {data.num_truncated:,} records", level="warning")
    events.log(f"Dataset ready: {len(data.train):,} train examples, {len(data.validation):,} validation")
    if data.train:
        events.log(_epoch_text(data))


def _epoch_text(data: Data) -> str:
    num_tokens, num_targets = data.num_tokens, sum(one.num_targets for one in data.train)
    return (
        f"An epoch is {num_tokens:,} tokens, {num_targets:,} of them targets ({100 * num_targets / num_tokens:.1f} %); "
        f"the longest example has {data.longest:,}, the mean {num_tokens / len(data.train):,.0f}"
    )


def _counts(left_out: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))


class _Progress:
    """Polls for commands between batches, and says every two seconds how far it is."""

    def __init__(self, events: EventLog, poll: Callable[[], None]) -> None:
        self._events, self._poll = events, poll
        self._last = time.monotonic()

    def __call__(self, num_records: int) -> None:
        self._poll()
        if time.monotonic() - self._last >= PROGRESS_EVERY_S:
            self._last = time.monotonic()
            self._events.state("claimed", "tokenizing", f"Tokenized {num_records:,} records")
