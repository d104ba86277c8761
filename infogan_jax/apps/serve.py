"""A small web server for one folder of static files: `--mode=serve`."""

import contextlib
import functools
import http.server
import ipaddress
import logging
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infogan_jax.errors import UserError

logger = logging.getLogger(__name__)

_TYPES = {  # a machine's own table may be wrong
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".stablehlo": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
_IMMUTABLE = "public, max-age=31536000, immutable"  # names in assets/ have a hash


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files of one folder; a local server only to requests by a local name."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds of silence after which a connection is closed
    extensions_map = _TYPES | {"": "application/octet-stream"}
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def send_head(self) -> Any:
        # Another run may have had this port, so dates of files are no guide.
        del self.headers["If-Modified-Since"]
        # DNS rebinding: a page elsewhere may resolve its own name to this machine.
        is_local = getattr(self.server, "is_local", True)
        if is_local and not is_loopback(_host(self.headers.get("Host"))):
            return self.send_error(403, "unknown host")
        path = Path(self.translate_path(self.path))
        root = Path(self.directory).resolve()
        if path.is_dir() and path.resolve() == root:
            path = root / "index.html"
        if not path.is_file() or not path.resolve().is_relative_to(root):
            return self.send_error(404, "no such file")
        return super().send_head()

    def send_response(self, code: int, message: str | None = None) -> None:
        path = urlsplit(getattr(self, "path", "")).path  # unset if it was no HTTP
        self._is_immutable = code == 200 and path.startswith("/assets/")
        super().send_response(code, message)

    def end_headers(self) -> None:
        self.send_header(
            "Cache-Control", _IMMUTABLE if self._is_immutable else "no-cache"
        )
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing: requests are no news."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"

    def __init__(self, folder: Path, host: str, port: int):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        handler = functools.partial(Handler, directory=str(folder))
        super().__init__((host, port), handler)
        self.is_local = is_loopback(str(self.server_address[0]))  # also for 127.1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stays silent about a client that went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def check_port(port: int) -> None:
    """Raises UserError for a number that no port has."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port={port}: expected 0 to 65535")


def make_server(folder: Path, host: str, port: int) -> Server:
    """Returns a server of a folder's files, ready for `serve_forever`.

    Args:
        folder: of static files, with an index.html.
        host: the interface it listens on.
        port: 0: any that is free.

    Raises:
        UserError: there is no such interface or port, or it is in use.
    """
    if not host:
        raise UserError("--host=: expected an address, or 0.0.0.0 for all interfaces")
    check_port(port)
    try:
        return Server(folder, host, port)
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host={host} --port={port}: cannot listen there ({reason}); "
            "choose another port, or --port=0 for any that is free"
        ) from None


def serve(folder: Path, host: str, port: int, open_browser: bool) -> None:
    """Serves until Ctrl-C; `open_browser` opens one where there is a screen."""
    with make_server(folder, host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{server.server_port}/"
        logger.info(f"the page is at {address} until Ctrl-C")
        if not server.is_local:
            logger.info(f"note: everyone who reaches --host={host} can see it")
        has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY")
        if open_browser and has_screen:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def is_loopback(host: str) -> bool:
    """Returns whether a name or an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(header: str | None) -> str:
    """The name in a Host header, without its port; empty if it has none."""
    try:
        return urlsplit(f"//{header or ''}").hostname or ""
    except ValueError:
        return ""
