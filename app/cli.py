"""trainctl: the command line. Commands import what they need when they run, so that each starts at once."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.config import Settings
from app.errors import AppError
from app.upkeep import commands as upkeep_commands

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
cli.add_typer(upkeep_commands)

DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the pages and the API.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Gpus = Annotated[str | None, typer.Option(help="GPUs that become a lane each, such as 0,1; all unless given.")]
Lanes = Annotated[str | None, typer.Option(help="Groups of GPUs that become a lane each, such as '0;1,2'.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="A label of its lanes; may be repeated.")]
JobAction = Literal[
    "list", "show", "log", "history", "cancel", "pause", "resume", "retry", "save", "sample", "priority", "move",
    "preempt", "clone",
]  # fmt: skip
ModelRoot = Annotated[list[Path] | None, typer.Option(help="A folder with base models; may be repeated.")]


def settings_with(**given: Any) -> Settings:
    """The settings of the environment, with what was given on the command line on top."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _roots(given: list[Path] | None) -> str | None:
    return os.pathsep.join(str(one.absolute()) for one in given) if given else None


def _by_commas(given: list[str] | None) -> str | None:
    return ",".join(given) if given else None


@cli.command()
def up(
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    model_root: ModelRoot = None,
    default_model: Annotated[str | None, typer.Option(help="The base model of the inbox and of the form.")] = None,
    default_recipe: Annotated[str | None, typer.Option(help="The recipe of the inbox and of the form.")] = None,
    inbox: Annotated[
        Path | None, typer.Option(help="A folder whose files are trained; DATA_DIR/inbox unless given.")
    ] = None,
    hub: Annotated[
        bool | None, typer.Option("--hub/--no-hub", help="Whether the Hugging Face Hub may be used.")
    ] = None,
    allowed_hosts: Annotated[str | None, typer.Option(help="Further host names to answer to, by commas.")] = None,
    gpus: Gpus = None,
    lanes: Lanes = None,
    label: Labels = None,
) -> None:
    """Start the control center: pages, broker and one worker for each GPU (or the CPU)."""
    from app.launch import up as launch
    from app.security import ensure_token, make_login_code

    settings = settings_with(
        data_dir=data_dir,
        host=host,
        port=port,
        model_roots=_roots(model_root),
        default_model=default_model,
        default_recipe=default_recipe,
        inbox=inbox,
        hub=hub,
        allowed_hosts=allowed_hosts,
        gpus=gpus,
        lanes=lanes,
        labels=_by_commas(label),
    )

    def greeting() -> str:
        code = make_login_code(ensure_token(settings.data_dir, "operator"))
        return f"Training Control Center: {settings.base_url}/login?code={code}"

    raise typer.Exit(launch(settings, greeting=greeting))


@cli.command()
def web(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Serve the pages and the API alone (`up` starts this and the rest)."""
    from app.serve import serve

    serve(settings_with(data_dir=data_dir, host=host, port=port))


@cli.command()
def worker(
    server: Annotated[str | None, typer.Option(help="Address of the control center.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the worker token.")] = None,
    data_dir: DataDir = None,
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", "--worker-dir", help="Where it keeps jobs, data and models.")
    ] = None,
    node_name: Annotated[str | None, typer.Option("--node-name", "--name", help="Name of this machine.")] = None,
    gpus: Gpus = None,
    lanes: Lanes = None,
    label: Labels = None,
    model_root: ModelRoot = None,
) -> None:
    """Give this machine's GPUs to a control center; REDIS_URL must be the same as there."""
    from app.launch import worker as launch

    settings = settings_with(
        server_url=server,
        token_file=token_file,
        data_dir=data_dir,
        worker_dir=work_dir,
        node_name=node_name,
        gpus=gpus,
        lanes=lanes,
        labels=_by_commas(label),
        model_roots=_roots(model_root),
    )
    raise typer.Exit(launch(settings))


@cli.command()
def token(
    data_dir: DataDir = None,
    scope: Annotated[Literal["operator", "worker"], typer.Option(help="Whose token.")] = "operator",
) -> None:
    """Print the token for curl (`--scope worker`: the one for further machines)."""
    from app.security import ensure_token, token_path

    settings = settings_with(data_dir=data_dir)
    path = settings.worker_token_path if scope == "worker" else None
    if not token_path(settings.data_dir, "operator").exists():
        typer.echo(f"{settings.data_dir} is new: a control center with another --data-dir has another token.", err=True)
    typer.echo(ensure_token(settings.data_dir, scope, path))


@cli.command("login-url")
def login_url(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Print an address that signs a browser in, once, within ten minutes."""
    from app.running import reaching
    from app.security import ensure_token, make_login_code

    settings = reaching(settings_with(data_dir=data_dir, host=host, port=port))
    typer.echo(f"{settings.base_url}/login?code={make_login_code(ensure_token(settings.data_dir, 'operator'))}")


@cli.command()
def check(
    file: Annotated[Path, typer.Argument(help="A dataset file, as it would be uploaded.")],
    model: Annotated[str | None, typer.Option(help="Base model whose tokenizer measures the lengths.")] = None,
    max_length: Annotated[int, typer.Option(min=16, help="Tokens a record may have.")] = 2048,
    train: Annotated[
        Path | None, typer.Option(help="The training data of this validation file, to see what stands in both.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="How the records are meant: messages, prompt, ...")] = None,
    fields: Annotated[
        str | None, typer.Option(help="The file's own names, such as prompt=question,response=answer.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the report there, - for standard output.")
    ] = None,
    data_dir: DataDir = None,
    model_root: ModelRoot = None,
) -> None:
    """Check a dataset: exit 0 without errors, 1 with errors, 2 where it cannot be read."""
    from app.check import check as run_check
    from app.check import exit_code, model_folder, summary
    from app.conversations.containers.reading import Reading

    try:
        settings = settings_with(data_dir=data_dir, model_roots=_roots(model_root))
        report = run_check(file, model_folder(model, settings), max_length, train, Reading.written(shape, fields))
    except AppError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(2) from None
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    if str(json_path) == "-":
        sys.stdout.write(text)
    else:
        if json_path is not None:
            _write(json_path, text)
        typer.echo("\n".join(summary(report, file)))
    raise typer.Exit(exit_code(report))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(f"{path} cannot be written: {error.strerror}.", err=True)
        raise typer.Exit(2) from None


@cli.command()
def job(
    action: Annotated[
        JobAction,
        typer.Argument(help="What to do."),
    ],
    job_id: Annotated[int | None, typer.Argument(help="The job's number.")] = None,
    value: Annotated[
        str | None, typer.Argument(help="`priority`: urgent, high, normal or low. `move`: 1 is next.")
    ] = None,
    before: Annotated[int | None, typer.Option(help="`move`: the job it shall stand before.")] = None,
    now: Annotated[bool, typer.Option(help="`cancel`: stop at once, without saving.")] = False,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Ask something of a job, as the pages do."""
    from app.job_client import run_action
    from app.running import reaching

    settings = reaching(settings_with(data_dir=data_dir, host=host, port=port))
    raise typer.Exit(run_action(settings, action, job_id, value, now, before))


@cli.command()
def queue(
    action: Annotated[Literal["list", "pause", "resume", "quiet"], typer.Argument(help="What to do.")] = "list",
    hours: Annotated[
        str | None, typer.Argument(help="`quiet`: hours of each day such as 22:00-07:00, or none.")
    ] = None,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Show the queue in its order, pause it (running jobs go on), let it go on, or set its quiet hours."""
    from app.job_client import run_queue
    from app.running import reaching

    raise typer.Exit(run_queue(reaching(settings_with(data_dir=data_dir, host=host, port=port)), action, hours))


@cli.command()
def node(
    action: Annotated[Literal["list", "drain", "undrain", "forget"], typer.Argument(help="What to do.")] = "list",
    name: Annotated[str | None, typer.Argument(help="The node's name or number.")] = None,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Show the machines and their lanes, let one finish its jobs and take no more, or forget one that is gone."""
    from app.job_client import run_node
    from app.running import reaching

    raise typer.Exit(run_node(reaching(settings_with(data_dir=data_dir, host=host, port=port)), action, name))


@cli.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    short_help="Train by hand, without a server: --dataset F --model M --output-dir D.",
)
def train(context: typer.Context) -> None:
    """Hands all flags to the worker's side, which imports what training needs."""
    os.execv(sys.executable, [sys.executable, "-m", "worker.manual", *context.args])


@cli.command()
def demo(data_dir: DataDir = None, port: Port = None) -> None:
    """Train a bundled sample on the built-in tiny model and show the answers before and after."""
    from app.demo import run_demo

    raise typer.Exit(run_demo(data_dir, port))


def main() -> None:
    try:
        cli()
    except AppError as error:
        sys.exit(error.message)
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror or error}.")


if __name__ == "__main__":
    main()
