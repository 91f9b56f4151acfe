"""What may answer at the address of Patroni's REST API, and where a password goes because of it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scannerdb.addresses import is_among, one_place
from scannerdb.connection import connect
from scannerdb.errors import ConnectionFailed, InvalidInput, ScannerDbError
from scannerdb.login import Options
from scannerdb.patroni import look
from scannerdb.primary import places

MEMBER = {"name": "m1", "role": "leader", "state": "running", "host": "127.0.0.1", "port": 5432, "timeline": 1}


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A port at which each request is read, and answered with whatever `answer` sends."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = door.accept()
                threading.Thread(target=one, args=(line,), daemon=True).start()

    def one(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.recv(65536)
            answer(line)

    with socket.create_server((host, 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1]
        with contextlib.suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)


def http(body: str, status: str = "200 OK", more: str = "") -> Callable[[socket.socket], object]:
    text = f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}"
    return lambda line: line.sendall(text.encode())


def cluster(**words: Any) -> str:
    return json.dumps({"members": [{**MEMBER, **words}]})


def drip(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(200):
        line.sendall(b" ")
        time.sleep(0.1)


def trickled_headers(line: socket.socket) -> None:
    for _ in range(200):
        line.sendall(b"X")
        time.sleep(0.1)


def test_a_redirect_is_not_followed() -> None:
    asked = []
    with answering(lambda line: (asked.append(1), http(cluster())(line))) as elsewhere:
        leads = http("", "302 Found", f"Location: http://127.0.0.1:{elsewhere}/cluster\r\n")
        with (
            answering(leads) as port,
            pytest.raises(ConnectionFailed, match="leads elsewhere") as told,
        ):
            look([f"http://127.0.0.1:{port}"])
    assert (asked, bool(told.value.hint)) == ([], True)


def test_no_password_goes_where_only_patroni_points() -> None:
    """Whoever can answer for Patroni would else be given the login."""
    met: list[int] = []
    with contextlib.ExitStack() as stack:
        stranger = stack.enter_context(answering(lambda line: met.append(1), "127.0.0.2"))
        port = stack.enter_context(answering(http(cluster(host="127.0.0.2", port=stranger))))
        options = Options(password="secret", patroni_urls=(f"http://127.0.0.1:{port}",))
        with pytest.raises(ConnectionFailed, match=r"^The primary could not be looked for, because Patroni's leader"):
            connect(options)
        assert met == []
        for named in ("127.0.0.2", "127.0.0.0/8"):
            allowed = Options(patroni_urls=options.patroni_urls, patroni_members=(named,))
            assert [one.host for one in places(allowed)[0]] == ["127.0.0.2"]


def test_a_standby_at_a_place_that_nobody_named_is_left_out() -> None:
    members = [MEMBER, {**MEMBER, "name": "m2", "role": "replica", "host": "192.0.2.7"}]
    with answering(http(json.dumps({"members": members}))) as port:
        asked, view = places(Options(host="localhost", patroni_urls=(f"http://localhost:{port}",)))
    assert [one.host for one in asked] == ["127.0.0.1"]
    assert view is not None
    assert [one.host for one in view.strange] == ["192.0.2.7"]


def test_who_is_named() -> None:
    assert is_among("127.0.0.1", ["localhost"])
    assert is_among("DB1.example.", ["db1.example"])
    assert is_among("10.0.0.7", ["10.0.0.0/29", "db"])
    assert not is_among("10.0.0.8", ["10.0.0.0/29", "db"])
    assert not is_among("localhost", ["127.0.0.1"]), "where a name leads is not for us to believe"
    assert one_place(("localhost", 1), ("127.0.0.1", 1))
    assert not one_place(("localhost", 1), ("127.0.0.1", 2))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("<html><body>It works!</body></html>"), "is no JSON"),
        (http("gone", "404 Not Found"), "HTTP status 404"),
        (http("[]"), "lists no members"),
        (http('{"members": {}}'), "lists no members"),
        (http('{"members": [null]}'), "no name, role or state"),
        (http(cluster(host="")), "host is none"),
        (http(cluster(host="/tmp")), "host is none"),
        (http(cluster(host="a,b")), "host is none"),
        (http(cluster(host=7)), "host is none"),
        (http(cluster(port="5432")), "port is none"),
        (http(cluster(port=1e9)), "port is none"),
        (http(cluster(port=True)), "port is none"),
        (http("[" * 5000), "is no JSON"),
        (lambda line: line.sendall(b"E\0\0\0\x20SFATAL"), "speaks no HTTP"),
        (lambda line: line.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 50\r\n\r\n{"), ""),
        (lambda line: None, ""),
        (drip, "no answer within 0.5 s"),
        (trickled_headers, "no answer within 0.5 s"),
    ],
)
def test_every_wrong_answer_is_a_sentence(answer: Callable[[socket.socket], object], said: str) -> None:
    with answering(answer) as port:
        started = time.monotonic()
        with pytest.raises(ConnectionFailed) as told:
            look([f"http://127.0.0.1:{port}"], timeout_s=0.5)
        assert time.monotonic() - started < 10
    assert said in told.value.message
    assert told.value.message.startswith(f"Patroni's REST API does not answer: 'http://127.0.0.1:{port}': ")
    assert told.value.hint


def test_tls_where_there_is_none_and_nobody_at_all() -> None:
    with answering(http(cluster())) as port, pytest.raises(ConnectionFailed, match="TLS is not agreed on"):
        look([f"https://127.0.0.1:{port}"])
    with pytest.raises(ConnectionFailed, match="Connection refused"):
        look([f"http://127.0.0.1:{port}"])


@pytest.mark.parametrize(
    "url",
    [
        "db1:8008",
        "http://",
        "http://[::1",
        "http://db1:99999",
        "http://db1:x",
        "http://d b",
        "ftp://db1",
        "",
        "http://u:p@db1:8008",
    ],
)
def test_a_misspelt_address_is_said_at_once(url: str) -> None:
    with pytest.raises(InvalidInput) as told:
        look([url, "http://127.0.0.1:1"])
    assert "http://host:8008" in told.value.hint
    assert "u:p" not in str(told.value)


def test_certificates_that_are_not_there() -> None:
    with pytest.raises(ScannerDbError, match="The certificates in '/nowhere' cannot be read: No such file"):
        look(["https://127.0.0.1:1"], "/nowhere")
