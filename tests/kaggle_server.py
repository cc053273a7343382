"""A loopback server that behaves like Kaggle, for tests that drive the real kagglehub client.

The client is untouched. `KAGGLE_API_ENVIRONMENT=LOCALHOST`, a switch of its own, makes it call http://localhost, and
`http_proxy` leads that name, and the storage host to which the API redirects, to this server.
"""

import base64
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HANDLE = "hayder17/breast-cancer-detection/versions/1"
STORAGE = "http://storage.test/archive.zip"
TOKEN = "the-token-of-a-test"


@dataclass(frozen=True)
class Answer:
    """A refusal of the API."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Behaviour:
    """In what the server differs from a healthy one."""

    first: Sequence[Answer] = ()
    """Refusals of the first calls; then it answers."""
    always: Answer | None = None
    """The refusal of every call."""
    cut_after: int | None = None
    """Bytes of the archive after which the first transfer is cut."""
    hangs: bool = False
    """Whether that transfer falls silent in place of being cut."""
    pause: float = 0.0
    """Seconds between the quarters of an archive."""
    md5: str | None = None
    """The checksum it gives in place of the right one, base64."""
    ranges: bool = True
    """Whether it sends the part that was asked for, or always everything."""
    silences: int = 0
    """How many calls it accepts and never answers."""
    token: str | None = None
    """The only credential it accepts; without one it accepts any and none."""


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: dict
    time: float
    """Seconds of a monotonic clock."""


@dataclass
class Kaggle:
    """The running server."""

    url: str
    """Its address, without a slash at the end."""
    environment: dict[str, str]
    """Variables for a child process whose kagglehub is to call this server; all else as in this process."""
    cache: Path
    """The client's cache folder, KAGGLEHUB_CACHE."""
    requests: list[Request] = field(default_factory=list)
    """All that arrived, in order."""
    open: threading.Event = field(default_factory=threading.Event)
    """While cleared, archives wait to be sent."""


@contextmanager
def serve(archive: Path, behaviour: Behaviour = Behaviour(), handle: str = HANDLE) -> Iterator[Kaggle]:
    """Serve `archive` as the Kaggle set `handle`, to clients with a cache folder that ends with the server."""
    content = archive.read_bytes()
    checksum = behaviour.md5 or base64.b64encode(hashlib.md5(content).digest()).decode()
    refusals = list(behaviour.first)
    stop = threading.Event()
    cuts = [behaviour.cut_after] if behaviour.cut_after is not None else []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.note(body)
            if len(kaggle.requests) <= behaviour.silences:
                stop.wait()
                self.close_connection = True
                return
            answer = behaviour.always or (refusals.pop(0) if refusals else None) or self.checked(body)
            message = {"code": answer.status, "message": "as Kaggle words it"} if answer.status >= 400 else {}
            self.send(answer.status, answer.headers, json.dumps(message).encode(), "application/json")

        def checked(self, body: dict) -> Answer:
            credential = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if behaviour.token not in (None, credential):
                return Answer(401)
            asked = [str(body.get(key)) for key in ("ownerSlug", "datasetSlug", "datasetVersionNumber")]
            known = [part for part in handle.split("/") if part != "versions"]
            if asked != known or not self.path.endswith("/v1/datasets.DatasetApiService/DownloadDataset"):
                return Answer(404)
            return Answer(302, {"Location": STORAGE})

        def do_GET(self) -> None:
            self.note({})
            headers = {"Accept-Ranges": "bytes", "x-goog-hash": f"md5={checksum}"}
            start = 0
            asked = self.headers.get("Range")
            if asked and behaviour.ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            limit = cuts.pop(0) if cuts else None
            kaggle.open.wait()
            self.send(206 if start else 200, headers, content[start:], "application/zip", limit)

        def send(
            self, status: int, headers: Mapping[str, str], body: bytes, kind: str, limit: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = limit is not None
            quarter = len(body) // 4 + 1
            # A client that is done with a redirect or an archive it has already hangs up in the middle.
            try:
                for start in range(0, len(body[:limit]), quarter):
                    self.wfile.write(body[:limit][start : start + quarter])
                    stop.wait(behaviour.pause)
            except ConnectionError:
                self.close_connection = True
            if limit is not None and behaviour.hangs:
                stop.wait()

        def note(self, body: dict) -> None:
            kaggle.requests.append(Request(self.command, self.path, dict(self.headers), body, time.monotonic()))

        def log_message(self, *_: object) -> None:
            pass

    with tempfile.TemporaryDirectory() as cache, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        url = f"http://127.0.0.1:{server.server_port}"
        kaggle = Kaggle(url, environment(url, Path(cache)), Path(cache))
        kaggle.open.set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield kaggle
        finally:
            stop.set()
            kaggle.open.set()
            server.shutdown()
            thread.join()


def environment(url: str, cache: Path) -> dict[str, str]:
    """Variables that lead kagglehub to `url` with a credential of its own, a cache of its own and no patience."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("KAGGLE") and name.lower() not in ("http_proxy", "no_proxy", "all_proxy")
    }
    return {
        **inherited,
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": url,
        "KAGGLEHUB_CACHE": str(cache),
        "KAGGLE_API_TOKEN": TOKEN,
        "MAMMO_KAGGLE_BACKOFF": "0.01",
    }


def host_of(request: Request) -> str:
    """The host that a request was meant for."""
    return urlsplit(request.url).hostname or ""
