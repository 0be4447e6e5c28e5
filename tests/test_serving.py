"""`winnow serve` as strangers meet it: a real server, plain HTTP and websocket clients as the browsers."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path

import httpx
import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from servers import start_winnow, stop
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from winnow.share.kernels import fitting_visitors
from winnow.share.serving import NoSuchApp, PortTaken, choose_token, find_port, serve
from winnow.share.visitors import Allowance, Door

APP = """
import os, ipywidgets
button = ipywidgets.Button(description="go")
out = ipywidgets.Output()
def answer(_):
    with out:
        raise RuntimeError("the secret is pelican")
button.on_click(answer)
print("printed by", os.getpid())
ipywidgets.VBox([button, out])
"""
PRIVATE = {
    "data/cat/a.jpg": b"\xff\xd8\xff pelican",
    "data/catalog.db": b"SQLite format 3 pelican",
    "feedback/1.jpg": b"\xff\xd8\xff pelican",
    "export.pkl": b"pelican",
    "secret.svg": b"<svg>pelican</svg>",
}


def write_app(folder: Path, source: str = APP) -> Path:
    nb = new_notebook(cells=[new_code_cell(source)])
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, folder / "app.ipynb")
    for name, content in PRIVATE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "app.ipynb"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder with an app and files that nobody may see."""
    return write_app(tmp_path_factory.mktemp("served")).parent


@pytest.fixture(scope="module")
def server(served):
    """One server with room for everybody."""
    process, url = start_winnow(served / "app.ipynb", "--max-visitors=50")
    yield url
    stop(process)


@pytest.fixture
def start(tmp_path):
    """`start("--max-visitors=2", source=…)`: a server of one's own."""
    processes = []

    def run(*options, source=APP, env=None):
        process, url = start_winnow(write_app(tmp_path, source), *options, env=env)
        processes.append(process)
        return url

    yield run
    for process in processes:
        stop(process)


class Browser:
    """A visitor: keeps cookies, opens the app, talks to its kernel."""

    def __init__(self, url: str):
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60)

    def open(self) -> httpx.Response:
        answer = self.http.get("")
        found = re.search(r'"kernelId": "([\w-]+)"', answer.text)
        self.kernel = found.group(1) if found else None
        return answer

    def socket(self, kernel: str | None = None, protocol: str | None = None):
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar)
        address = f"{self.url.replace('http', 'ws')}api/kernels/{kernel or self.kernel}/channels?session_id=s"
        return connect(
            address,
            additional_headers={"Cookie": cookies},
            subprotocols=[protocol] if protocol else None,
            max_size=None,
        )

    def close(self) -> None:
        assert self.http.post(f"voila/api/shutdown/{self.kernel}").status_code == 204


def message(kind: str, content: dict, channel: str = "shell") -> dict:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": "", "session": "s", "version": "5.3"}
    header["date"] = "2026-01-01T00:00:00Z"
    return {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}


def as_v1(said: dict) -> bytes:
    """The same message in the binary protocol that JupyterLab speaks."""
    parts = [said["channel"].encode()]
    parts += [json.dumps(said[key]).encode() for key in ("header", "parent_header", "metadata", "content")]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(number.to_bytes(8, "little") for number in [len(offsets), *offsets]) + b"".join(parts)


def listen(socket, seconds: float = 1.0) -> str:
    """Everything that the kernel says within `seconds` after its last word."""
    heard = []
    while True:
        try:
            said = socket.recv(timeout=seconds)
        except (TimeoutError, ConnectionClosed):
            return "\n".join(heard)
        heard.append(said if isinstance(said, str) else said.decode("latin-1"))


def widget_of(heard: str, name: str) -> str:
    """The comm id of the widget of this model in a reply to `request_states`."""
    states = next(json.loads(line) for line in heard.splitlines() if '"update_states"' in line)
    found = states["content"]["data"]["states"]
    return next(key for key, value in found.items() if value["model_name"] == name)


def ask_for_states(socket) -> str:
    """Open ipywidgets' control channel and ask for all widgets, as the page does."""
    comm = {"comm_id": "c1", "target_name": "jupyter.widget.control", "data": {}}
    opening = message("comm_open", comm)
    opening["metadata"] = {"version": "1.0.0"}
    socket.send(json.dumps(opening))
    socket.send(json.dumps(message("comm_msg", {"comm_id": "c1", "data": {"method": "request_states"}})))
    return listen(socket)


def test_health_answers_without_a_token_and_starts_no_kernel(start):
    url = start("--token=pelican", "--max-visitors=3")
    counts = [httpx.get(url + "health").json() for _ in range(5)]
    assert all(count["status"] == "ok" and count["visitors"] == 0 for count in counts)
    assert counts[0]["places"] == 3 and counts[0].keys() == counts[-1].keys()


@pytest.mark.parametrize("name", [*PRIVATE, "app.ipynb"])
def test_no_file_of_the_folder_can_be_fetched_under_any_address(server, served, name):
    visitor = Browser(server)
    visitor.open()
    roots = ["", "files/", "voila/files/", "static/", "voila/static/", "voila/templates/", "tree/", "view/"]
    roots += ["voila/static/../../", "voila/labextensions/", "api/contents/", "voila/api/contents/", "edit/"]
    roots += [
        "voila/render/",
        "nbconvert/html/",
        "lab/tree/",
        "voila/templates/..%2f..%2f",
        "voila/api/themes/",
    ]
    for root in roots:
        for asked in (f"{root}{name}", f"{root}%2e%2e/{name}", f"{root}{served}/{name}"):
            answer = visitor.http.get(asked)
            assert answer.status_code in (403, 404) and b"pelican" not in answer.content, asked


@pytest.mark.parametrize(
    "address", ["api/kernels", "api/sessions", "api/terminals", "api/kernelspecs", "tree"]
)
def test_jupyters_own_addresses_do_not_exist(server, address):
    visitor = Browser(server)
    visitor.open()
    assert visitor.http.get(address).status_code == 404
    assert visitor.http.post(address, json={"name": "python3"}).status_code == 404


@pytest.mark.parametrize("protocol", [None, "v1.kernel.websocket.jupyter.org"])
def test_code_sent_through_the_socket_is_not_executed(server, tmp_path, protocol):
    visitor = Browser(server)
    visitor.open()
    proof = tmp_path / "executed"
    code = f"open({str(proof)!r}, 'w').close()"
    asked = [
        ("execute_request", {"code": code, "silent": False, "store_history": True, "user_expressions": {}}),
        ("execute_request", {"code": "1", "silent": True, "user_expressions": {"a": code}}),
        ("debug_request", {"command": "evaluate", "arguments": {"expression": code}}),
        ("inspect_request", {"code": code, "cursor_pos": 1}),
        ("complete_request", {"code": code, "cursor_pos": len(code)}),
        ("create_subshell_request", {}),
        ("input_reply", {"value": code}),
    ]
    with visitor.socket(protocol=protocol) as socket:
        for (kind, content), channel in itertools.product(
            asked, ("shell", "control", "stdin", "iopub", "hb")
        ):
            said = message(kind, content, channel)
            socket.send(as_v1(said) if protocol else json.dumps(said))
        said = message("kernel_info_request", {})
        socket.send(as_v1(said) if protocol else json.dumps(said))
        heard = listen(socket)
    assert "kernel_info_reply" in heard, "the socket itself works"
    assert not proof.exists()
    assert "execute_reply" not in heard and "inspect_reply" not in heard and "complete_reply" not in heard
    visitor.close()


def test_another_browser_can_neither_talk_to_nor_end_a_visitors_kernel(server):
    visitor, stranger, nobody = Browser(server), Browser(server), Browser(server)
    visitor.open()
    stranger.open()
    for other in (stranger, nobody):
        with pytest.raises(InvalidStatus) as refused:
            other.socket(visitor.kernel)
        assert refused.value.response.status_code == 404
        assert other.http.get(f"api/kernels/{visitor.kernel}").status_code == 404
        assert other.http.delete(f"api/kernels/{visitor.kernel}").status_code in (404, 405)
        assert other.http.post(f"voila/api/shutdown/{visitor.kernel}").status_code == 404
    assert visitor.http.get(f"api/kernels/{visitor.kernel}").status_code == 200
    visitor.close()
    stranger.close()


def test_a_cookie_made_by_hand_opens_nothing(server):
    visitor, forger = Browser(server), Browser(server)
    visitor.open()
    name, _, value = visitor.http.cookies["winnow-visitor"].strip('"').rpartition("|")
    forger.http.cookies.set("winnow-visitor", f"{name}|{'0' * len(value)}")
    with pytest.raises(InvalidStatus):
        forger.socket(visitor.kernel)
    visitor.close()


def test_a_callbacks_traceback_stays_with_the_owner(server):
    visitor = Browser(server)
    visitor.open()
    with visitor.socket() as socket:
        button = widget_of(ask_for_states(socket), "ButtonModel")
        click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
        socket.send(json.dumps(message("comm_msg", click)))
        heard = listen(socket)
    assert '"execution_state": "busy"' in heard, "the callback ran"
    assert "pelican" not in heard and "Traceback" not in heard
    visitor.close()


def test_a_failing_notebook_shows_a_sentence_and_no_traceback(start):
    answer = Browser(start(source="secret = 'pelican'\nraise RuntimeError(secret + '!')")).open()
    assert "error when executing cell" in answer.text and "owner finds the reason" in answer.text
    assert "pelican" not in answer.text and "Traceback" not in answer.text


def test_who_finds_no_place_stands_in_line_and_comes_in_before_a_newcomer(start):
    url = start("--max-visitors=2")
    first, second, third, fourth = (Browser(url) for _ in range(4))
    assert first.open().status_code == second.open().status_code == 200
    busy = third.open()
    assert busy.status_code == 503 and "you are next" in busy.text
    assert busy.headers["retry-after"] == "5" and third.http.get("line").json()["position"] == 1
    assert "number 2 in line" in fourth.open().text
    first.close()
    assert fourth.open().status_code == 503, "the place is the third's"
    assert third.http.get("line").json()["position"] == 0, "asking alone gives the place to nobody"
    assert third.open().status_code == 200
    second.close()
    assert fourth.open().status_code == 200


def test_a_hundred_open_pages_of_one_robot_never_make_more_kernels_than_places(start):
    url = start("--max-visitors=2")
    answers = [Browser(url).open().status_code for _ in range(20)]
    assert answers.count(200) == 2 and answers.count(503) == 18
    assert httpx.get(url + "health").json()["visitors"] == 2


def wait_for_visitors(url: str, count: int, seconds: float = 15) -> int:
    limit = time.monotonic() + seconds
    while (now := httpx.get(url + "health").json()["visitors"]) != count and time.monotonic() < limit:
        time.sleep(0.2)
    return now


def test_a_visit_outlives_a_lost_connection_for_the_grace_time_only(start):
    url = start("--grace-seconds=4")
    visitor = Browser(url)
    visitor.open()
    with visitor.socket():
        pass
    time.sleep(1)
    with visitor.socket() as socket:  # a phone that comes back
        socket.send(json.dumps(message("kernel_info_request", {})))
        assert "kernel_info_reply" in listen(socket)
    assert wait_for_visitors(url, 0) == 0


def test_a_visit_without_any_use_ends(start):
    url = start("--idle-minutes=0.05")
    visitor = Browser(url)
    visitor.open()
    with visitor.socket():
        assert wait_for_visitors(url, 0) == 0
    assert visitor.http.get(f"api/kernels/{visitor.kernel}").status_code == 404


def test_a_kernel_that_grows_too_big_ends_alone(start):
    source = APP + "\nimport threading\nbig = []\ngrow = lambda: big.append(b'1' * 200_000_000)\n"
    source += "button.on_click(lambda _: threading.Timer(0.5, grow).start())"
    url = start("--memory-mb=180", source=source)
    visitor, other = Browser(url), Browser(url)
    visitor.open()
    other.open()
    with visitor.socket() as socket:
        button = widget_of(ask_for_states(socket), "ButtonModel")
        click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
        socket.send(json.dumps(message("comm_msg", click)))
        assert wait_for_visitors(url, 1) == 1
    assert other.http.get(f"api/kernels/{other.kernel}").status_code == 200


def test_who_sends_too_much_at_once_is_cut_off(server):
    visitor = Browser(server)
    visitor.open()
    with visitor.socket() as socket:
        load = "x" * 4_000_000  # the server drops it unread, so a busy machine is fast enough too
        with pytest.raises(ConnectionClosed):
            for _ in range(400):
                socket.send(load)
    visitor.close()
    assert Browser(server).open().status_code == 200


def test_a_malformed_message_harms_nobody(server):
    visitor = Browser(server)
    visitor.open()
    with visitor.socket() as socket:
        for said in (
            "",
            "{",
            "[]",
            "null",
            '{"header": null}',
            '{"header": {}}',
            b"",
            b"\x00" * 40,
            b"\xff" * 9,
        ):
            socket.send(said)
        socket.send(json.dumps(message("kernel_info_request", {})))
        assert "kernel_info_reply" in listen(socket)
    visitor.close()


def test_on_a_public_address_the_app_needs_the_token_that_was_printed(start):
    url = start("--host=0.0.0.0", "--token=pelican")
    assert "kernelId" not in httpx.get(url, follow_redirects=True).text
    assert httpx.get(url, params={"token": "wrong"}).status_code in (302, 403)
    with httpx.Client(base_url=url, params={"token": "pelican"}, timeout=60) as client:
        assert "kernelId" in client.get("").text


def test_a_token_is_made_only_for_a_public_address():
    assert choose_token("127.0.0.1", None) == choose_token("localhost", None) == ""
    assert len(choose_token("0.0.0.0", None)) > 20 and choose_token("0.0.0.0", None) != choose_token(
        "::", None
    )
    assert choose_token("0.0.0.0", "mine") == "mine" and choose_token("0.0.0.0", "") == ""


def test_settings_left_in_somebodys_home_open_no_door(start, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    settings = {
        "VoilaConfiguration": {"file_allowlist": [".*"], "file_denylist": [], "show_tracebacks": True}
    }
    (home / "voila.json").write_text(json.dumps(settings))
    shutil.copy(home / "voila.json", tmp_path)
    url = start(env={"JUPYTER_CONFIG_DIR": str(home)})
    assert httpx.get(url + "voila/files/secret.svg").status_code == 404


def test_behind_a_proxys_path_every_address_moves_along(tmp_path):
    process, url = start_winnow(write_app(tmp_path), "--base-url=/user/me/app", base="user/me/app/")
    try:
        visitor = Browser(url)
        assert visitor.open().status_code == 200
        with visitor.socket() as socket:
            socket.send(json.dumps(message("kernel_info_request", {})))
            assert "kernel_info_reply" in listen(socket)
        assert httpx.get(url.replace("user/me/app/", "")).status_code == 404
    finally:
        stop(process)


def test_nobody_can_override_the_template(server):
    answer = httpx.get(server, params={"template": "reveal", "theme": "dark"}, timeout=60)
    assert answer.status_code == 200 and 'data-jp-theme-light="true"' in answer.text


def test_the_page_names_no_other_server(server):
    answer = httpx.get(server, timeout=60)
    foreign = set(re.findall(r"""(?:src|href)=["']?(https?:)?//([^/"' >]+)""", answer.text))
    assert not foreign
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


def test_a_missing_notebook_or_a_taken_port_is_one_sentence(tmp_path, server):
    with pytest.raises(NoSuchApp, match="give the path of an app"):
        serve(tmp_path / "app.ipynb")
    with pytest.raises(PortTaken, match="choose another one with --port"):
        serve(write_app(tmp_path), port=int(server.split(":")[2].strip("/")))
    assert find_port("127.0.0.1", None) >= 8866


def test_the_line_is_first_come_first_served_and_forgets_who_left():
    clock = [0.0]
    door = Door(places=1, patience=20, now=lambda: clock[0])
    assert door.ask("a", taken=0) == 0
    assert [door.ask(name, taken=1) for name in "bcd"] == [1, 2, 3]
    clock[0] = 15
    assert [door.ask("c", taken=1), door.ask("d", taken=1)] == [2, 3]
    clock[0] = 25  # b has not asked for 25 s
    assert door.ask("d", taken=0) == 2
    assert door.ask("c", taken=0) == 0
    assert door.waiting == 1


def test_an_allowance_recovers_with_time():
    clock = [0.0]
    allowance = Allowance(burst=100, rate=10, now=lambda: clock[0])
    assert allowance.spend(90) and not allowance.spend(20)
    clock[0] = 5
    assert allowance.spend(30)


def test_as_many_visitors_as_fit_the_memory_and_at_least_one():
    assert fitting_visitors(total_mb=2048) >= 15
    assert fitting_visitors(total_mb=100) == 1


def kernels_of(process) -> list[psutil.Process]:
    """Forked kernels and ones that were started whole."""
    found = psutil.Process(process.pid).children(recursive=True)
    names = {child.pid: " ".join(child.cmdline()) for child in found}
    mothers = {
        child.pid
        for child in found
        if child.ppid() == process.pid and "winnow.share.forking" in names[child.pid]
    }
    return [child for child in found if child.pid not in mothers and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_a_killed_mother_costs_open_pages_but_never_the_next_visitor(tmp_path):
    process, url = start_winnow(write_app(tmp_path), "--max-visitors=5")
    try:
        Browser(url).open()
        mother = next(c for c in psutil.Process(process.pid).children() if "forking" in " ".join(c.cmdline()))
        assert {kernel.ppid() for kernel in kernels_of(process)} == {mother.pid}
        mother.kill()
        assert wait_for_visitors(url, 0) == 0
        visitor = Browser(url)
        assert "kernelId" in visitor.open().text
        with visitor.socket() as socket:
            socket.send(json.dumps(message("kernel_info_request", {})))
            assert "kernel_info_reply" in listen(socket)
    finally:
        stop(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_kernel_outlives_the_server(tmp_path, number):
    process, url = start_winnow(write_app(tmp_path))
    Browser(url).open()
    kernels = kernels_of(process)
    assert kernels
    process.send_signal(number)
    process.wait(20)
    gone, alive = psutil.wait_procs(kernels, timeout=10)
    assert not alive and gone
