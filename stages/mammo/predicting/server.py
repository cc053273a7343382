"""The page and the JSON endpoint of `mammo serve`, on FastAPI."""

import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mammo.core.errors import UserError, is_lack_of_memory
from mammo.core.model_info import ModelInfo
from mammo.core.wording import shown
from mammo.imaging import limits
from mammo.predicting.served_answers import Answers, Sent
from mammo.reporting import pages, scripts

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import FormData, Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILES = 50  # in one request
BYTES = limits.MAX_BYTES + 1_000_000  # of one request: the largest file that is read, and the form around it
FIELD = 1_000  # bytes of a field that is no file
PORTS = range(8470, 8480)
CONNECTIONS = 32  # at once; further ones are answered "unavailable"
GRACE = 5  # seconds that a request may take after Ctrl-C
STYLES, SCRIPT = ("style.css", "serve.css"), "serve.js"
HEADERS = {
    "Content-Security-Policy": scripts.policy(
        scripts.asset(*STYLES),
        scripts.asset(SCRIPT),
        connect_src="'self'",
        form_action="'self'",
        frame_ancestors="'none'",
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser would send forms with the origin "null"
    "X-Content-Type-Options": "nosniff",
}


class RefusedError(Exception):
    """A request that is not answered: the status, and one line that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def run(model: Path, info: ModelInfo, rule: str, host: str, port: int | None) -> None:
    """Serve until Ctrl-C or SIGTERM; print the address.

    Raises:
        UserError: the network cannot be read, or the address cannot be used.

    """
    listening = listen(host, port)
    address, number = listening.getsockname()[:2]
    with listening, Answers(model, info) as answers:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the folder of `Answers` would stay
        for line in answers.about(rule).values():
            print(line)
        if warning := exposure(address):
            print(f"mammo serve: {warning}", file=sys.stderr)
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what was sent is in no log
        config = uvicorn.Config(
            Guard(application(answers, rule), host, address),
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        server = uvicorn.Server(config)
        with contextlib.suppress(KeyboardInterrupt), server.capture_signals():  # from here on no signal is lost
            print(f"http://{f'[{address}]' if ':' in address else address}:{number} (Ctrl-C ends it)", flush=True)
            server.run(sockets=[listening])


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on a host and a port, by default the first free one of `PORTS`.

    Raises:
        UserError: the address cannot be used.

    """
    if port is not None and not 0 <= port < 65536:
        raise UserError(f"--port {port}: ports go from 0 to 65535")
    reason = ""
    for number in PORTS if port is None else (port,):
        try:
            family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
            return socket.create_server((address[0], number), family=family)
        except (OSError, UnicodeError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).split(" (")[0]
    where = f"ports {PORTS[0]} to {PORTS[-1]}" if port is None else f"--port {port}"
    raise UserError(f"--host {shown(host)}, {where}: {reason}; name another one")


def exposure(address: str) -> str:
    """Return what listening on an address means; empty if only this machine reaches it."""
    if ipaddress.ip_address(address).is_loopback:
        return ""
    return (
        f"{address} is not of this machine alone: whoever reaches it over the network can send scans and read the "
        "answers, without a password, and scans travel unencrypted"
    )


class Guard:
    """Adds the headers of every answer, and refuses requests that a page of another site makes."""

    def __init__(self, app: ASGIApp, *hosts: str) -> None:
        """Allow requests for `hosts`: the name that was given and the address of the socket."""
        self._app, self._hosts = app, {host.lower() for host in hosts}
        self._only_here = ipaddress.ip_address(hosts[-1]).is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            return
        refusal = self._refused(Headers(scope=scope))
        await (PlainTextResponse(f"{refusal}\n", 403) if refusal else self._app)(scope, receive, with_headers)

    def _refused(self, headers: Headers) -> str:
        """Return why a request is refused; a site whose name leads here (DNS rebinding) shows by its own name."""
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            sender = host if origin is None else urlsplit(origin).netloc
        except ValueError:
            return "the request's Host or Origin is not one"
        if not self._is_ours(name):
            return "the request is for another host; open the address that mammo serve printed"
        return "" if sender == host else "the request comes from a page of another site"

    def _is_ours(self, name: str) -> bool:
        if name in self._hosts or name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._only_here


def application(answers: Answers, default: str) -> FastAPI:
    """Return the application; `default` is the rule of the threshold unless a request names another."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def page(status: int = 200, rule: str = default, **content: Any) -> HTMLResponse:
        """Return the page: empty, with answers, or with what went wrong."""
        most = {"files": FILES, "bytes": limits.MAX_BYTES}
        values = {"found": None, "refusal": "", "info": answers.info, "about": answers.about(rule), "rule": rule}
        return HTMLResponse(pages.rendered_page("serve.html", STYLES, SCRIPT, **(values | most | content)), status)

    @app.get("/")
    async def show() -> Response:
        return page()

    @app.post("/")
    async def show_answers(request: Request) -> Response:
        """Answer a browser that runs no script."""
        found, rule = await answered(request, answers, default)
        return page(rule=rule, found=found["images"])

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        return JSONResponse((await answered(request, answers, default))[0])

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return PlainTextResponse(f"{error.detail}: the page is /, the endpoint POST /predict\n", error.status_code)

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, refusal: RefusedError) -> Response:
        if request.url.path == "/predict":
            return JSONResponse({"error": refusal.text}, refusal.status)
        return page(refusal.status, refusal=refusal.text)

    return app


async def answered(request: Request, answers: Answers, default: str) -> tuple[dict[str, Any], str]:
    """Return the answers to a form, and the rule of its threshold.

    Raises:
        RefusedError: the form is too long, holds too much or nothing, or cannot be answered here.

    """
    form = await received(request)
    try:
        rule = str(form.get("threshold") or default)
        if rule not in answers.info.thresholds:
            raise RefusedError(400, f"threshold {shown(rule)[:50]}: the model has {', '.join(answers.info.thresholds)}")
        sent = [file for file in form.getlist("files") if isinstance(file, UploadFile) and (file.filename or file.size)]
        if not sent:
            raise RefusedError(400, "no file came; choose images or DICOM files, or drop them on the page")
        files = [Sent(file.file, file.filename) for file in sent]
        return await run_in_threadpool(answers.predict, files, rule, bool(form.get("heatmaps"))), rule
    except UserError as error:
        raise RefusedError(501, str(error)) from error
    except Exception as error:
        if is_lack_of_memory(error):
            raise RefusedError(503, "there is not enough memory now; send fewer files, or again later") from error
        raise
    finally:
        await form.close()


async def received(request: Request) -> FormData:
    """Return the form of a request; what is too much is read to its end, so that the browser gets the answer.

    Raises:
        RefusedError: there is no length, it is beyond `BYTES`, there are more files than `FILES`, or this is no form.

    """
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise RefusedError(411, "the request does not say how long it is (Content-Length)")
    try:
        if int(length) > BYTES:
            await discard(request)
            raise RefusedError(413, f"more than {limits.MAX_BYTES // 1_000_000} MB at once; send fewer files at a time")
        try:
            return await request.form(max_files=FILES, max_fields=10, max_part_size=FIELD)
        except HTTPException as error:
            await discard(request)
            if str(error.detail).startswith("Too many files"):
                raise RefusedError(413, f"more than {FILES} files at once; send at most {FILES}") from error
            raise RefusedError(400, f"this is not what a browser sends: {error.detail}") from error
    except ClientDisconnect as error:
        raise RefusedError(400, "the connection ended before the files had come") from error


async def discard(request: Request) -> None:
    """Read what is left of a request."""
    with contextlib.suppress(RuntimeError):  # nothing is left
        async for _ in request.stream():
            pass
