"""Commands that look after a data directory: backup, restore, doctor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from app.config import Settings

commands = typer.Typer()

DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept.")]


def _settings(data_dir: Path | None) -> Settings:
    return Settings() if data_dir is None else Settings(data_dir=data_dir)


@commands.command()
def backup(
    to: Annotated[Path | None, typer.Option(help="A folder, or a .tar to be made; else <data>/backups.")] = None,
    full: Annotated[bool, typer.Option(help="With datasets, checkpoints and adapters.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Copy the database as of now, with a manifest of all artefacts; also while the control center works."""
    from app.backup import back_up
    from app.storage import Storage

    typer.echo(back_up(Storage(_settings(data_dir).data_dir), to, full))


@commands.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="What `trainctl backup` made, or a database of <data>/backups.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option(help="Also into a directory that is not empty.")] = False,
) -> None:
    """Put a backup into a data directory: exit 1 where artefacts that it names are missing or altered."""
    from app.restore import restore as run_restore
    from app.storage import Storage

    storage = Storage(_settings(data_dir).data_dir)
    report = run_restore(backup, storage, force)
    for word, paths in (("missing", report.missing), ("altered", report.altered)):
        for path in paths:
            typer.echo(f"{word}: {path}")
    wrong = len(report.missing) + len(report.altered)
    typer.echo(f"Restored into {storage.root}: {report.present:,} artefacts are whole, {wrong:,} are not.")
    raise typer.Exit(int(wrong > 0))


@commands.command()
def doctor(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Look at this machine and say what would keep it from training: exit 1 on an error."""
    from app.doctor import examine
    from app.running import reaching

    found = examine(reaching(_settings(data_dir)))
    if as_json:
        typer.echo(json.dumps([vars(one) for one in found], ensure_ascii=False, indent=1))
    else:
        for one in found:
            typer.echo(f"{one.state:<8} {one.name}: {one.message}" + (f" {one.advice}" if one.advice else ""))
    raise typer.Exit(int(any(one.state == "error" for one in found)))
