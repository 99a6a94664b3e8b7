"""A model's chat template in a sandbox, with the names that transformers gives templates."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.errors import WrongInput

DICT_ATTRIBUTES = frozenset(dir(dict))


class ModelIncomplete(WrongInput):
    code, message = "model_incomplete", "The base model's folder lacks a file."


class Generation(Extension):
    """`{% generation %}` marks answers in some training templates; the text inside is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja declares it as an attribute of the instance

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox; a message's field, which is what templates ask for most, is found without its detours."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and attribute not in DICT_ATTRIBUTES:
            return obj[attribute]
        return super().getattr(obj, attribute)


def compile_template(source: str) -> jinja2.Template:
    """The template ready to render; raises `ModelIncomplete` where its syntax is broken."""
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    try:
        template = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ModelIncomplete(f"The model's chat template is broken at line {error.lineno}: {error.message}.") from None
    template.globals = dict(template.globals)  # each rendering copies them, from a ChainMap ten times as slowly
    return template


def read_template(model_dir: Path) -> str:
    """The chat template's source, from the first place that has one."""
    plain = model_dir / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = read_json(model_dir / name).get("chat_template")
        if isinstance(found, list):  # several, by name
            found = next((one["template"] for one in found if one.get("name") == "default"), None)
        if isinstance(found, str):
            return found
    raise ModelIncomplete(f"{model_dir.name} has no chat template: place chat_template.jinja into its folder.")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelIncomplete(f"{path.name} of the base model is not JSON: {error}.") from None
    return value if isinstance(value, dict) else {}


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
