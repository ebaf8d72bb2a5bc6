"""A wire in front of a server: it can be cut, refuse, hang, slow down and break in the middle of what it carries."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Fault = Literal["none", "refuse", "hang", "reset", "trickle"]
"""``refuse``: no connection; ``hang``: connections, but no byte; ``reset``: broken in the middle of an answer;
``trickle``: an answer of one byte in 0.2 s."""


class Wire:
    """Carries TCP connections to a server; faults begin at once, also in connections that are open."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._fault: Fault = "none"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.carried = 0
        """Bytes of answers before a connection is broken by ``reset``."""
        self.connections = 0
        """Connections that were accepted so far."""
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, fault: Fault, *, after: int = 0) -> None:
        """Begin a fault, or end it with ``none``; ``reset`` breaks a connection ``after`` so many bytes of answers."""
        self._fault, self.carried = fault, after
        if fault == "refuse":
            self._stop_listening()
            self.cut()
        elif self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, daemon=True).start()
        if fault == "none":
            self.cut()  # what hung does not go on

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything."""
        self._fault = "none"
        self._stop_listening()
        self.cut()

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would leave the thread in accept
        self._listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, 5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        there = threading.Thread(target=self._carry, args=(client, server, False), daemon=True)
        there.start()
        self._carry(server, client, True)
        there.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while self._fault == "hang":
                    time.sleep(0.01)
                if self._fault == "reset" and answers:
                    target.sendall(data[: self.carried])
                    self.carried -= min(self.carried, len(data))
                    if not self.carried:
                        break
                elif self._fault == "trickle" and answers:
                    for place in range(len(data)):
                        if self._fault != "trickle":
                            break
                        target.sendall(data[place : place + 1])
                        time.sleep(0.2)
                else:
                    target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(port: int, host: str = "127.0.0.1") -> Iterator[Wire]:
    """A wire to a server of this machine."""
    made = Wire(host, port)
    try:
        yield made
    finally:
        made.close()
