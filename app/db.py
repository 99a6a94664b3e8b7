"""The database: two engines on one SQLite file, and the only place that commits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request
from sqlalchemy import Engine, create_engine, event
from sqlmodel import Session

from app.space import Disk

NEW_EVENTS, NEW_WORK, DISK = "new_events", "new_work", "disk"


def _ignore(*_: Any) -> None:
    """Stands in until the web process listens."""


def to_json(value: Any) -> str:
    """As JSON columns hold it; NaN and infinity become null."""
    return msgspec.json.encode(value).decode()


def make_engine(path: Path, *, writer: bool) -> Engine:
    """An engine on the file. A writer begins IMMEDIATE: a deferred one can fail although it waits for locks."""
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=to_json,
        json_deserializer=msgspec.json.decode,
        pool_size=1 if writer else 16,
        max_overflow=0 if writer else 48,
        connect_args={"check_same_thread": False, "timeout": 15},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=15000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


class Database:
    """The store of one control center. Sessions end where their `with` ends; nothing else commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.publish: Callable[[list[Any]], None] = _ignore  # told of the events of each commit
        self.nudge: Callable[[], None] = _ignore  # told that a commit may have made work for a lane
        self.disk: Disk | None = None  # known to the web process; services ask for it with `disk_of`
        self.writer = make_engine(path, writer=True)
        self.reader = make_engine(path, writer=False)
        self._writing = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A writing session: committed when its block ends, rolled back when it raises.

        Its events are published once the rows are on disk, in the order of their ids.
        """
        info = {DISK: self.disk}
        with self._writing, Session(self.writer, expire_on_commit=False, info=info) as session:
            with session.begin():
                yield session
            # Still under the lock, so that listeners hear of commits in the order of the rows' ids.
            if events := session.info.get(NEW_EVENTS):
                self.publish(events)
            if session.info.get(NEW_WORK):
                self.nudge()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A reading session: one consistent snapshot, never committed."""
        with Session(self.reader, autoflush=False, info={DISK: self.disk}) as session:
            yield session

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


def announce(session: Session, event: Any) -> None:
    """Publish an event, a row or its wire form, when the session commits; a rolled-back session publishes nothing."""
    session.info.setdefault(NEW_EVENTS, []).append(event)


def announce_work(session: Session) -> None:
    """Wake an idle lane when the session commits."""
    session.info[NEW_WORK] = True


def disk_of(session: Session) -> Disk | None:
    """The disk that the session's database lies on, where the process looks after it."""
    disk: Disk | None = session.info.get(DISK)
    return disk


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


# Routes open `with database.read()` or `with database.write()` themselves: a session held by a dependency spans several
# turns of the thread pool, and forty writers waiting for the lock would leave its holder no thread to finish in.
DatabaseDep = Annotated[Database, Depends(get_database)]
