"""API keys and private keys, as the detectors of detect-secrets know them."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from app.conversations.findings import Finding
from app.conversations.lints.edit import change_text
from app.conversations.lints.record import Record, around


class Detector(NamedTuple):
    """A class of the library, what it finds, and patterns one of which is in every line in which it finds something.

    Each pattern begins with a plain letter or sign, which Python searches for at memory speed.
    """

    name: str
    words: str
    likely: tuple[re.Pattern[bytes], ...]
    needs: bytes = b""


def _detector(name: str, words: str, *likely: bytes, needs: bytes = b"") -> Detector:
    """`needs` is a sign without which no pattern can match, looked for before them all."""
    return Detector(name, words, tuple(map(re.compile, likely)), needs)


# The library is far slower than the patterns. Its detectors that go by high entropy or by words such as `password` are
# left out: hashes, ids and lines of code are no secrets.
DETECTORS = (
    _detector("aws.AWSKeyDetector", "an AWS access key", rb"A(?:[BKS]IA|CCA|3T)", rb"aws", rb"AWS"),
    _detector("private_key.PrivateKeyDetector", "a private key", rb"PRIVATE KEY", rb"PuTTY-User-Key"),
    _detector("github_token.GitHubTokenDetector", "a GitHub token", rb"gh[opsur]_", needs=b"_"),
    _detector("gitlab_token.GitLabTokenDetector", "a GitLab token", rb"gl[a-z]{2,5}-"),
    _detector("slack.SlackDetector", "a Slack token", rb"xox[a-z]-", rb"hooks\.slack\.com"),
    _detector("stripe.StripeDetector", "a Stripe key", rb"k_live_", needs=b"_"),
    _detector("openai.OpenAIDetector", "an OpenAI key", rb"T3BlbkFJ"),
    _detector("sendgrid.SendGridDetector", "a SendGrid key", rb"SG\."),
    _detector("npm.NpmDetector", "an npm token", rb":_authToken", needs=b"_"),
    _detector("pypi_token.PypiTokenDetector", "a PyPI token", rb"pypi-AgE"),
    _detector("azure_storage_key.AzureStorageKeyDetector", "an Azure storage key", rb"AccountKey=", needs=b"="),
    _detector("square_oauth.SquareOAuthDetector", "a Square secret", rb"sq0csp-"),
    _detector("telegram_token.TelegramBotTokenDetector", "a Telegram token", rb":AA"),
    _detector("jwt.JwtTokenDetector", "a JSON web token", rb"eyJ"),
    _detector("basic_auth.BasicAuthDetector", "a password in an address", rb"://", needs=b"/"),
)
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
    found = []
    for detector in DETECTORS:
        if detector.needs and detector.needs not in raw:
            continue
        for likely in detector.likely:
            if likely.search(raw):
                found.append(detector)
                break
    return found


def _secrets(detector: Detector, text: str) -> list[str]:
    return [one for one in _load(detector.name).analyze_string(text) if one in text]


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
