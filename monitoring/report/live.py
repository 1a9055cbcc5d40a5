"""Serves a run's report on this machine only, always up to date."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from ..optional import MissingPackageError
from .run_page import RunPage

ADDRESS = "127.0.0.1"
REFRESH_SECONDS = 5


def report_server(run: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """Returns a server for a run's report, which a browser reloads every 5 seconds.

    Args:
        run: The run's folder; records may come later.
        port: 0 takes a free one. Defaults to 0.

    Returns:
        A server; `serve_forever()` runs it, `server_port` is its port.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: The port is taken.
    """
    if not Path(run).is_dir():
        raise FileNotFoundError(f"Run folder {run} does not exist.")
    page, lock = RunPage(run, REFRESH_SECONDS), Lock()

    def render() -> str:
        with lock:  # requests are served by threads
            return page.render()

    return live_server(render, port)


def live_server(render: Callable[[], str], port: int = 0) -> ThreadingHTTPServer:
    """Returns a server for one page, at http://127.0.0.1:PORT/ and nowhere else.

    A request that names another host is refused: a foreign page could otherwise point its
    own name at this address and read what is served.

    Args:
        render: Returns the page; called for each request.
        port: 0 takes a free one. Defaults to 0.

    Returns:
        A server; `serve_forever()` runs it, `server_port` is its port.

    Raises:
        OSError: The port is taken.

    Example:
        >>> with live_server(lambda: "<p>now</p>") as server:
        ...     server.server_address[0]
        '127.0.0.1'
    """

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts = {f"{name}:{server.server_port}" for name in (ADDRESS, "localhost")}
            if self.headers.get("Host") not in hosts:
                self.send_error(421, "This server answers only to 127.0.0.1")
            elif self.path != "/":
                self.send_error(404, "There is only the report, at /")
            else:
                try:
                    body = render().encode()
                except (ValueError, OSError, MissingPackageError) as error:
                    self.send_error(503, "No report yet", " ".join(str(error).split()))
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass  # the console belongs to the user

    server = ThreadingHTTPServer((ADDRESS, port), Page)
    return server
