"""Nothing lies about unused: every template is rendered or included, every script and style is loaded."""

from tests.rules.tree import all_files, files, text

CODE = "\n".join(text(path) for path in files(".py", under=("app",)))
PAGES = {path: text(path) for path in files(".html", under=("templates",))}


def test_every_template_is_rendered_or_included() -> None:
    unused = []
    for path in PAGES:
        name = f'"{path.relative_to("templates")}"'
        if name not in CODE and not any(name in body for other, body in PAGES.items() if other != path):
            unused.append(str(path))
    assert unused == []


def test_every_script_and_style_is_loaded_by_a_page() -> None:
    served = [path for path in all_files() if path.parts[0] == "static" and path.suffix in (".js", ".css")]
    loaders = [*PAGES.values(), *(text(path) for path in served if "vendor" not in path.parts), CODE]
    assert [str(path) for path in served if not any(path.name in body for body in loaders)] == []
