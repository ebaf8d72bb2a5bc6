"""A web server on this machine that pictures can be fetched from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def web_server(files: Mapping[str, bytes | str]) -> Iterator[str]:
    """URL of a server that has these files by path, as JPEGs whatever they are, and 404 for any other.

    Text in place of a file is where it redirects to, sent as raw UTF-8.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            if isinstance(body, str):
                self.send_response(302)
                self.send_header("location", body.encode().decode("latin-1"))
                body = b""
            else:
                self.send_response(200 if body is not None else 404)
            self.send_header("content-type", "image/jpeg")
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
