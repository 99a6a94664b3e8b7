"""API keys and private keys, as the detectors of detect-secrets know them, and some that it does not know."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from app.conversations.findings import Finding
from app.conversations.lints.edit import change_text
from app.conversations.lints.record import Record, around


class Detector(NamedTuple):
    """A class of the library or a pattern, what it finds, and strings one of which is in every line in which it finds
    something."""

    looks_for: str | re.Pattern[str]
    words: str
    likely: tuple[bytes, ...]


def _detector(name: str, words: str, *likely: bytes) -> Detector:
    return Detector(name, words, likely)


def _own(prefix: str, rest: str, words: str) -> Detector:
    """A word that begins so, also behind an escaped line break, with letters of both sizes as chance has them."""
    pattern = rf"(?:(?<![\w-])|(?<=\\[nrt])){prefix}(?=[\w-]*[A-Z])(?=[\w-]*[a-z]){rest}(?![\w-])"
    return Detector(re.compile(pattern, re.ASCII), words, (prefix.encode(),))


GITLAB = (b"glpat-", b"gldt-", b"glft-", b"glsoat-", b"glrt-", b"glcbt-", b"glimt-", b"glptt-", b"glagent-", b"gloas-",
          b"GR1348941")  # fmt: skip
# The library is far slower than a look for strings. Its detectors that go by high entropy or by words such as
# `password` are left out: hashes, ids and lines of code are no secrets.
DETECTORS = (
    _detector("aws.AWSKeyDetector", "an AWS access key", b"AKIA", b"ABIA", b"ASIA", b"ACCA", b"A3T", b"aws", b"AWS"),
    _detector("private_key.PrivateKeyDetector", "a private key", b"PRIVATE KEY", b"PuTTY-User-Key"),
    _detector("github_token.GitHubTokenDetector", "a GitHub token", b"gho_", b"ghp_", b"ghs_", b"ghu_", b"ghr_"),
    _detector("gitlab_token.GitLabTokenDetector", "a GitLab token", *GITLAB),
    _detector("slack.SlackDetector", "a Slack token", b"xox", b"hooks.slack.com"),
    _detector("stripe.StripeDetector", "a Stripe key", b"k_live_"),
    _detector("openai.OpenAIDetector", "an OpenAI key", b"T3BlbkFJ"),
    _detector("sendgrid.SendGridDetector", "a SendGrid key", b"SG."),
    _detector("npm.NpmDetector", "an npm token", b":_authToken"),
    _detector("pypi_token.PypiTokenDetector", "a PyPI token", b"pypi-AgE"),
    _detector("azure_storage_key.AzureStorageKeyDetector", "an Azure storage key", b"AccountKey="),
    _detector("square_oauth.SquareOAuthDetector", "a Square secret", b"sq0csp-"),
    _detector("telegram_token.TelegramBotTokenDetector", "a Telegram token", b":AA"),
    _detector("jwt.JwtTokenDetector", "a JSON web token", b"eyJ"),
    _detector("basic_auth.BasicAuthDetector", "a password in an address", b"://", b":\\/\\/"),
    _own("AIza", r"[\w-]{35}", "a Google API key"),
    _own("hf_", r"[a-zA-Z0-9]{34,40}", "a Hugging Face token"),
    _own("sk-ant-", r"[\w-]{32,160}", "an Anthropic key"),
    _own("npm_", r"[a-zA-Z0-9]{36}", "an npm token"),
)
# All of these strings in one pass over a line; the detector of each.
OWNERS = [place for place, detector in enumerate(DETECTORS) for _ in detector.likely]
ANY_LIKELY = BytesAhoCorasick([one for detector in DETECTORS for one in detector.likely], matchkind=MatchKind.Standard)
REMOVED = "[removed]"
KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)


def find(record: Record) -> Iterator[Finding]:
    suspected = suspects(record.raw)
    if not suspected:
        return
    for place, text in enumerate(record.texts):
        found = {one.words: secrets for one in suspected if (secrets := _secrets(one, text))}
        if found:
            at = min(text.find(secrets[0]) for secrets in found.values())
            yield record.finding("secret", place, f"The text holds {' and '.join(found)}.", around(text, at, at + 24))


def suspects(raw: bytes) -> list[Detector]:
    found = {OWNERS[one] for one, _, _ in ANY_LIKELY.find_matches_as_indexes(raw, overlapping=True)}
    return [DETECTORS[one] for one in sorted(found)]


def _secrets(detector: Detector, text: str) -> list[str]:
    if isinstance(detector.looks_for, re.Pattern):
        return detector.looks_for.findall(text)
    return [one for one in _load(detector.looks_for).analyze_string(text) if one in text]


@cache
def _load(name: str) -> Any:
    """Loaded when first wanted: the library takes half a second, and most files give it nothing to look at."""
    module, _, detector = name.partition(".")
    return getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), detector)()


def repair(value: Any, field: str) -> Any:
    return change_text(value, field, redact)


def redact(text: str) -> str:
    text = KEY_BLOCK.sub(REMOVED, text)
    for detector in suspects(text.encode()):
        for secret in _secrets(detector, text):
            text = text.replace(secret, REMOVED)
    return text
