"""Fetching a file: resumed where a connection broke, checked by size and SHA-256."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from infogan_jax.files import locked

_TRIES = 4  # per address
_TIMEOUT = 20  # seconds without data
_CHUNK = 1 << 16


class RemoteFile(NamedTuple):
    """A file as its publisher describes it."""

    name: str
    size: int  # bytes
    sha256: str


class DownloadError(Exception):
    """No address gave the file."""


def fetch(file: RemoteFile, urls: Sequence[str], folder: Path) -> Path:
    """Returns the file's path in the folder, fetched from the first address it is at.

    An unfinished file stays beside it under the name `*.part` and is continued by the
    next call. Of several processes one fetches, and the others wait for it.

    Raises:
        DownloadError: with the reason of each address.
    """
    with locked(folder / f".{file.name}.lock"):
        return _fetch(file, urls, folder)


def _fetch(file: RemoteFile, urls: Sequence[str], folder: Path) -> Path:
    path = folder / file.name
    if path.exists() and _digest(path) == file.sha256:
        return path
    part = folder / f"{file.name}.part"
    reasons = []
    for base in urls:
        url = f"{base.rstrip('/')}/{file.name}"
        try:
            _transfer(url, part, file.size)
        except OSError as error:
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
            continue
        if _digest(part) == file.sha256:
            part.replace(path)
            return path
        part.unlink()
        reasons.append(f"{url}: the SHA-256 is not the published one")
    raise DownloadError("; ".join(reasons))


def _transfer(url: str, part: Path, size: int) -> None:
    for attempt in range(_TRIES):
        have = part.stat().st_size if part.exists() else 0
        if have == size:
            return
        if have > size:
            part.unlink()
            have = 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
                # A server without range requests sends the whole file again.
                mode = "ab" if reply.status == 206 else "wb"
                with part.open(mode) as out:
                    while chunk := reply.read(_CHUNK):
                        out.write(chunk)
        except urllib.error.HTTPError:
            raise  # the server has answered; a retry would change nothing
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, OSError) and not isinstance(
                reason, TimeoutError | ConnectionError
            ):
                raise  # no such host, no route: there is no network
        time.sleep(0.2 * 2**attempt)
    have = part.stat().st_size if part.exists() else 0
    if have != size:
        raise OSError(f"broke off after {have} of {size} bytes, {_TRIES} times")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
