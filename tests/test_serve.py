"""`mammo serve`: the answers of `mammo predict` in a real browser and as JSON, what is refused, what is kept."""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mammo import commands
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo

import bombs
import cv2
import described
import numpy as np
import pytest
import requests
from conftest import ROOT
from documents import block
from test_page import ATTACK, LAPTOP, PHONE, Reader, opened

from mammo.predicting import server  # isort: skip

SERVING = block("A page to drop scans on")
PATIENT = "Curie^Marie"
WAIT = 90  # seconds


class Served:
    """A server as a user starts it, with the folder of its temporary files and what it writes."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                env=os.environ
                | {"TMPDIR": str(self.temporary), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                start_new_session=True,
            )
        until = time.monotonic() + WAIT
        while not (found := re.search(r"^http://127\.0\.0\.1:(\d+)", self.log.read_text(), re.MULTILINE)):
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)
        self.port = int(found[1])
        self.address = f"http://127.0.0.1:{self.port}"

    def post(self, *contents: bytes, where: str = "/predict", name: str = "x.png", **fields: str) -> requests.Response:
        return requests.post(self.address + where, files=[("files", (name, each)) for each in contents], data=fields)

    def kept(self) -> list[str]:
        """Files below the folder of temporary files, but for code that TensorFlow generates and keeps until it ends."""
        found = [path for path in self.temporary.rglob("*") if path.is_file()]
        return [str(path) for path in found if not path.name.startswith("__autograph")]

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it, as Ctrl-C does unless told otherwise, and return its exit code."""
        os.killpg(self.process.pid, how)
        return self.process.wait(20)


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model where the command looks for it, and the folder `scans` with one of each kind."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "data").mkdir()
    shutil.copytree(trained / "data/model", folder / "data/model")
    images = np.load(trained / "data/prepared/images.npy")
    (folder / "scans").mkdir()
    for number, image in enumerate(images[:4], 1):
        cv2.imwrite(str(folder / f"scans/{number}.png"), image)
    described.write_dicom(folder / "scans/5.dcm", images[3], PatientName=PATIENT)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    served = Served([sys.executable, "-c", RUN, "serve", "--port", "0"], folder)
    yield served
    assert served.end() == 0
    assert list(served.temporary.iterdir()) == [], "its folder is gone"
    assert PATIENT.split("^")[0] not in served.log.read_text() and "Traceback" not in served.log.read_text()


RUN = f"import sys; sys.path.insert(0, {str(ROOT / 'stages')!r}); from mammo.commands import main; sys.exit(main())"


@pytest.fixture(scope="module")
def predicted(folder: Path) -> list[dict[str, Any]]:
    """What `mammo predict --json` says of the scans."""
    command = [sys.executable, "-c", RUN, "predict", "scans", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["images"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    yield from opened(Reader, tmp_path_factory.mktemp("profile"))


def scan(folder: Path, number: int) -> bytes:
    return next((folder / "scans").glob(f"{number}.*")).read_bytes()


# JSON


def test_the_endpoint_answers_as_predict_does_and_calls_scans_by_number(
    served: Served, folder: Path, predicted: list[dict[str, Any]]
) -> None:
    answer = served.post(*(scan(folder, number) for number in range(1, 6)), name=f"{PATIENT}.png")
    assert answer.status_code == 200
    content = answer.json()
    assert content["notice"] == "For research only: not a medical device, no finding, no advice."
    assert content["model"].startswith("Model trained on 72 images: ")
    assert [one.pop("file") for one in content["images"]] == ["1", "2", "3", "4", "5"]
    assert content["images"] == [{key: value for key, value in one.items() if key != "file"} for one in predicted]
    assert len({one["probability"] for one in content["images"]}) > 3
    assert "Curie" not in answer.text and served.kept() == []


def test_the_reading_is_that_of_the_chosen_threshold(served: Served, folder: Path) -> None:
    info = ModelInfo.model_validate_json((folder / "data/model/model.json").read_text())
    for rule, threshold in info.thresholds.items():
        content = served.post(scan(folder, 1), scan(folder, 3), threshold=rule).json()
        assert f"Threshold {threshold:.4f} of the probability ({rule}" in content["model"]
        for one in content["images"]:
            assert one["reading"] == ("cancer suspected" if one["probability"] >= threshold else "no suspicion")
    refused = served.post(scan(folder, 1), threshold="highest")
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("threshold highest: the model has balanced_accuracy, half")


def test_a_heat_map_is_sent_when_asked_for_and_is_that_of_explain(served: Served, folder: Path) -> None:
    (one,) = served.post(scan(folder, 3), heatmaps="yes").json()["images"]
    kind, _, content = one["heatmap"].partition(",")
    assert kind == "data:image/png;base64"
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape[1] == 2 * 400 + 8, "the scan, and beside it the scan under its heat map"
    assert served.kept() == []


def test_answers_come_where_tensorflow_cannot_be_imported_and_a_heat_map_says_what_it_lacks(
    folder: Path, predicted: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(folder / "data")
    blocked = "for each in ('tensorflow', 'keras'): sys.modules[each] = None\nfrom mammo"
    code = RUN.replace("; from mammo", f"\n{blocked}", 1)
    served = Served([sys.executable, "-c", code, "serve", "--port", "0"], tmp_path)
    try:
        (one,) = served.post(scan(folder, 1)).json()["images"]
        assert one["probability"] == predicted[0]["probability"]
        refused = served.post(scan(folder, 1), heatmaps="yes")
        assert refused.status_code == 501
        assert re.fullmatch(r"heat maps need the package (keras|tensorflow), .*", refused.json()["error"])
        assert served.post(scan(folder, 1)).status_code == 200
    finally:
        assert served.end() == 0


def test_the_python_of_the_page_prints_the_probability(
    served: Served, folder: Path, predicted: list[dict[str, Any]], tmp_path: Path
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/serve.md").read_text(), re.DOTALL)
    (tmp_path / "scan.png").write_bytes(scan(folder, 1))
    command = [sys.executable, "-c", code.replace("127.0.0.1:8470", f"127.0.0.1:{served.port}")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) == predicted[0]["probability"]


# Bad input


BAD = {
    "a text": (b"not an image", "is not a JPEG, PNG, PGM or TIFF image"),
    "an empty file": (b"", "is empty (0 bytes)"),
    "a bomb": (bombs.decoy(), "declares 30000×30000"),
    "a damaged picture": (cv2.imencode(".png", np.zeros((50, 50), np.uint8))[1].tobytes()[:60], "damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_answered_in_one_line_and_the_others_as_usual(
    served: Served, folder: Path, predicted: list[dict[str, Any]], kind: str
) -> None:
    content, reason = BAD[kind]
    first, second = served.post(content, scan(folder, 2), name="x").json()["images"]
    assert (first["reading"], first["probability"]) == ("unreadable", None)
    assert reason in first["reason"] and str(served.temporary) not in first["reason"] and "\n" not in first["reason"]
    assert second["probability"] == predicted[1]["probability"]
    assert served.kept() == []


def test_five_hundred_files_and_too_many_bytes_are_refused_with_what_is_allowed(served: Served) -> None:
    many = served.post(*[b"x"] * 500)
    assert (many.status_code, many.json()) == (413, {"error": "more than 50 files at once; send at most 50"})
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=WAIT)
    connection.request("POST", "/predict", bytes(server.BYTES + 1), FORM)
    large = connection.getresponse()
    said = {"error": "more than 300 MB at once; send fewer files at a time"}
    assert (large.status, json.loads(large.read())) == (413, said)
    connection.close()
    page = served.post(*[b"x"] * 51, where="/")
    assert page.status_code == 413 and "Not answered: more than 50 files at once; send at most 50." in page.text
    assert served.kept() == []


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        (b"", FORM, "no file came"),
        (b"junk", FORM, "this is not what a browser sends"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, "no file came"),
        (b"{}", {"Content-Type": "application/json"}, "no file came"),
        (b"x" * 2000, {"Content-Type": "multipart/form-data"}, "this is not what a browser sends"),
    ],
)
def test_what_is_no_form_with_files_is_refused_in_one_line(
    served: Served, body: bytes, headers: dict[str, str], error: str
) -> None:
    answer = requests.post(f"{served.address}/predict", data=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"].startswith(error)


def test_without_a_length_or_at_another_place_the_answer_is_a_line(served: Served) -> None:
    answer = requests.post(f"{served.address}/predict", data=iter([b"x"]), headers=FORM)
    assert (answer.status_code, list(answer.json())) == (411, ["error"])
    for path in ("/docs", "/openapi.json", "/../etc/passwd"):
        answer = requests.get(served.address + path)
        assert (answer.status_code, answer.text) == (404, "Not Found: the page is /, the endpoint POST /predict\n")


# Other sites


def answer_to(served: Served, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=WAIT)
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return content


def test_another_sites_name_and_another_sites_page_are_refused_and_no_other_site_reads_an_answer(
    served: Served,
) -> None:
    here = f"127.0.0.1:{served.port}"
    for host in (here, f"localhost:{served.port}", f"[::1]:{served.port}"):
        assert answer_to(served, "GET", "/", Host=host)[0] == 200
    for host in (
        "evil.example",
        f"evil.example:{served.port}",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "[",
        "",
    ):
        status, headers, text = answer_to(served, "GET", "/", Host=host)
        assert status in (400, 403) and ("Host" in text or "host" in text)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://127.0.0.1:{served.port}.evil.example"):
        status, headers, text = answer_to(
            served, "POST", "/predict", Host=here, Origin=origin, **{"Content-Length": "0"}
        )
        assert (status, text) == (403, "the request comes from a page of another site\n")
        assert not [name for name in headers if name.startswith("access-control")]
    status, headers, _ = answer_to(served, "OPTIONS", "/predict", Host=here, Origin=f"http://{here}")
    assert status == 405 and not [name for name in headers if name.startswith("access-control")]


def test_every_answer_has_a_policy_without_exceptions_and_is_not_stored(served: Served) -> None:
    for path in ("/", "/predict", "/nowhere"):
        headers = requests.get(served.address + path).headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert re.search(r"script-src 'sha256-[^ ']+'; style-src 'sha256-[^ ']+';", policy)
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert "server" not in headers


# In the browser


def show(browser: Reader, served: Served, width: int = LAPTOP, scheme: str = "light") -> None:
    browser.events.clear()
    browser.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width == PHONE
    )
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.send("Page.navigate", url=f"{served.address}/")
    browser.wait()
    assert "Research only: not a medical device." in browser.run("document.body.innerText")


def drop(browser: Reader, *paths: Path) -> None:
    """Drop files on the page as a hand does."""
    x, y = browser.run(
        """(() => { const box = document.getElementById('drop').getBoundingClientRect();
             return [(box.left + box.right) / 2, (box.top + box.bottom) / 2]; })()"""
    )
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


def finished(browser: Reader) -> str:
    """What the page says in the end."""
    until = time.monotonic() + WAIT
    while not (said := browser.run("document.getElementById('said').textContent")).endswith("."):
        assert time.monotonic() < until, said
        time.sleep(0.05)
    return said


def shown(one: dict[str, Any]) -> list[str]:
    """The lines of an answer on the page."""
    reading = one["reading"].capitalize()
    lines = [f"{reading}: {one['reason']}" if one["reason"] else reading]
    lines += [f"{name.capitalize()} {one[name]:.6f}" for name in ("probability", "calibrated") if one[name] is not None]
    return lines + [warning[0].upper() + warning[1:] for warning in one["warnings"]]


CARDS = """[...document.querySelectorAll('#answers li')].map((each) => [...each.children].filter((part) =>
             part.localName !== 'img').map((part) => part.textContent.trim()))"""


@pytest.mark.parametrize(("width", "scheme"), [(LAPTOP, "light"), (PHONE, "dark")])
def test_a_scan_dropped_on_the_page_gives_the_answer_of_predict(
    browser: Reader, served: Served, folder: Path, predicted: list[dict[str, Any]], width: int, scheme: str
) -> None:
    show(browser, served, width, scheme)
    browser.run("document.getElementById('heatmaps').checked = true")
    text = folder / f"{PATIENT}.txt"
    text.write_text("not an image")
    drop(browser, *sorted((folder / "scans").iterdir()), text)
    assert finished(browser) == "5 of 6 scans answered; the others say why not."
    cards = browser.run(CARDS)
    assert [card[0] for card in cards] == [f"Scan {number}" for number in range(1, 7)]
    assert [card[1:] for card in cards[:5]] == [shown(one) for one in predicted]
    assert cards[5][1:] == ["Unreadable: is not a JPEG, PNG, PGM or TIFF image"]
    maps = browser.run(
        "[...document.images].map((each) => [each.complete && each.naturalWidth, each.closest('li') !== null])"
    )
    assert maps == [[808, True]] * 5
    assert browser.complaints() == []
    assert {url.split("?")[0] for url in browser.requests() if not url.startswith("data:")} <= {
        f"{served.address}/",
        f"{served.address}/predict",
    }
    assert "Curie" not in browser.run("document.body.innerText")
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert served.kept() == []


def test_five_hundred_files_dropped_at_once_are_refused_by_the_page(
    browser: Reader, served: Served, tmp_path: Path
) -> None:
    show(browser, served)
    paths = [tmp_path / f"{number}.png" for number in range(500)]
    for path in paths:
        path.write_bytes(b"x")
    drop(browser, *paths)
    assert finished(browser) == "500 files at once are too many: at most 50."
    assert browser.run("document.querySelectorAll('#answers li').length") == 0
    assert not any(url.endswith("/predict") for url in browser.requests())


def test_a_browser_without_script_sends_the_form_and_gets_the_page_with_answers(
    browser: Reader, served: Served, folder: Path, predicted: list[dict[str, Any]]
) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        show(browser, served)
        node = browser.send("DOM.getDocument")["root"]["nodeId"]
        input_ = browser.send("DOM.querySelector", nodeId=node, selector="#files")["nodeId"]
        paths = [str(folder / "scans" / name) for name in ("2.png", "5.dcm")]
        browser.send("DOM.setFileInputFiles", nodeId=input_, files=paths)
        browser.run("document.getElementById('threshold').value = 'half'")
        browser.run("document.getElementById('send').click()")
        until = time.monotonic() + WAIT
        while browser.run("document.querySelectorAll('#answers li').length") != 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        found = [card[1:] for card in browser.run(CARDS)]
        assert [card[1] for card in found] == [shown(predicted[place])[1] for place in (1, 4)]
        assert "(half" in browser.run("document.getElementById('about').textContent")
        assert browser.run("document.getElementById('threshold').value") == "half"
        assert browser.complaints() == []
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_what_is_wrong_is_a_page_too_and_shown_as_text(served: Served) -> None:
    page = served.post(b"x", where="/", threshold=ATTACK)
    assert page.status_code == 400
    assert "Not answered: threshold &lt;img src=x onerror=pwned=1&gt;: the model has" in page.text
    assert ATTACK not in page.text and "Research only" in page.text


# The command


def test_the_command_of_the_page_serves_and_ends_as_it_stands_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(folder / "data")
    served = Served(["bash", "-c", "exec " + "\n".join(SERVING)], tmp_path)
    try:
        assert served.port in server.PORTS
        assert requests.get(served.address).status_code == 200
        with pytest.raises(UserError, match=rf"--host 127.0.0.1, --port {served.port}: .*in use; name another"):
            server.listen("127.0.0.1", served.port)
        with server.listen("127.0.0.1", None) as another:
            assert another.getsockname()[1] != served.port
    finally:
        assert served.end(signal.SIGTERM) == 0
        assert list(served.temporary.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next_and_what_a_running_one_uses_is_not(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(folder / "data")
    command = [sys.executable, "-c", RUN, "serve", "--port", "0"]
    killed = Served(command, tmp_path)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    (left,) = killed.temporary.iterdir()
    (left / "scans").mkdir()
    shutil.copy(folder / "scans/1.png", left / "scans/1")
    running = killed.temporary / f"mammo-serve-{os.getpid()}-x"
    running.mkdir()
    served = Served(command, tmp_path)
    try:
        assert not left.exists() and running.is_dir()
    finally:
        assert served.end() == 0
    assert list(served.temporary.iterdir()) == [running]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_right_after_the_address_is_printed_ends_it(folder: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN, "serve", "--port", "0"]
    for delay in (0.0, 0.002):
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            next(line for line in process.stdout if line.startswith("http://"))
            time.sleep(delay)
            process.send_signal(how)
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("no.such.host.example", 0, "--host no.such.host.example, --port 0: "),
        ("127.0.0.1", 70000, "--port 70000: ports go from 0 to 65535"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(host: str, port: int, said: str) -> None:
    with pytest.raises(UserError) as caught:
        server.listen(host, port)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_another_host_than_this_machine_says_what_that_means() -> None:
    assert server.exposure("127.0.0.1") == server.exposure("::1") == ""
    for address in ("0.0.0.0", "192.0.2.7", "::"):
        assert "without a password, and scans travel unencrypted" in server.exposure(address)


def test_without_the_extra_one_line_says_how_to_install_it(folder: Path) -> None:
    package = "uvicorn"
    code = RUN.replace("from mammo", f"sys.modules[{package!r}] = None; from mammo", 1)
    done = subprocess.run(
        [sys.executable, "-c", code, "serve"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"mammo serve: the package {package} is missing: `pip install -e '.[serve]'` in ")
    assert done.stderr.count("\n") == 1


def test_a_model_that_predict_refuses_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands.main(["serve"]) == 1
    assert "data/model/model" in capsys.readouterr().err
    monkeypatch.chdir(folder)
    assert commands.main(["serve", "--threshold", "highest"]) == 1
    assert capsys.readouterr().err.startswith("mammo serve: --threshold highest: the model has balanced_accuracy")
