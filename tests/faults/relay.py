"""A network that can be cut: a relay in front of the control center. While cut nothing passes and nobody is told."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Relay:
    """Listens on a port of its own; what was held back passes after `heal`, as TCP sends it again."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._start(self._accept)

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.set()
        for one in (self._door, *self._sockets):
            _end(one)

    def _start(self, task: Callable[..., None], *arguments: socket.socket) -> None:
        threading.Thread(target=task, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
                self._open.wait()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [near, far]
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                self._open.wait()
                sink.sendall(block)
        for one in (source, sink):
            _end(one)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
