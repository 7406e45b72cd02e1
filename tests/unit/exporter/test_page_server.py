"""Pages over HTTP, to friendly and to other clients."""

import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from recsys_mtl.exporter import page_server
from recsys_mtl.exporter.page_server import serve_page

PAGE = b"recsys_mtl_up 1\n"


def get(port: int, path: str = "/metrics", token: str | None = None) -> tuple[int, bytes]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_scrape_gets_the_page_as_prometheus_text() -> None:
    port = serve_page(lambda: PAGE, "127.0.0.1", [0], None).port
    assert get(port) == get(port, "/") == get(port, "/metrics?x=1") == (200, PAGE)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert get(port, "/other")[0] == 404


@pytest.mark.parametrize("sent", [None, "", "wrong", "secre", "secrets", "sécret"])
def test_without_the_token_nothing_is_given_out(sent: str | None) -> None:
    port = serve_page(lambda: PAGE, "127.0.0.1", [0], "secret").port
    status, body = get(port, token=sent.encode().decode("latin-1") if sent else sent)
    assert status == 401
    assert PAGE not in body
    assert get(port, token="secret") == (200, PAGE)


def test_the_first_free_port_of_a_range_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        port = serve_page(lambda: PAGE, "127.0.0.1", range(first, first + 50), None).port
        assert first < port < first + 50
        assert get(port)[0] == 200
        with pytest.raises(OSError, match="in use"):
            serve_page(lambda: PAGE, "127.0.0.1", [first], None)


def test_a_client_that_says_nothing_holds_nobody_up_and_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_server, "_CLIENT_SECONDS", 0.5)
    port = serve_page(lambda: PAGE, "127.0.0.1", [0], None).port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as silent:
        assert get(port) == (200, PAGE)
        assert silent.recv(1) == b"", "the server has hung up"


def drip(port: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        while time.monotonic() < until:
            client.sendall(b"G")
            time.sleep(0.05)


def test_a_client_that_drips_bytes_is_sent_away_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "_CLIENT_SECONDS", 0.5)
    port = serve_page(lambda: PAGE, "127.0.0.1", [0], None).port
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        drip(port, seconds=5)


def test_more_clients_than_there_are_places_are_refused_and_the_places_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_server, "_CLIENT_SECONDS", 1.0)
    port = serve_page(lambda: PAGE, "127.0.0.1", [0], None).port
    threads = threading.active_count()
    silent = [
        socket.create_connection(("127.0.0.1", port), timeout=5)
        for _ in range(page_server._MOST_CLIENTS + 20)
    ]
    time.sleep(0.3)
    at_most = 2 * page_server._MOST_CLIENTS  # one to answer, one to hang up
    assert threading.active_count() - threads <= at_most
    until, answered = time.monotonic() + 10, False
    while not answered and time.monotonic() < until:
        try:
            answered = get(port) == (200, PAGE)
        except OSError:
            time.sleep(0.1)
    assert answered
    for connection in silent:
        connection.close()


def test_a_closed_page_leaves_its_port_to_the_next_one() -> None:
    first = serve_page(lambda: b"first", "127.0.0.1", [0], None)
    assert get(first.port) == (200, b"first")
    first.close()
    with pytest.raises(OSError, match="refused"):
        get(first.port)
    second = serve_page(lambda: b"second", "127.0.0.1", [first.port], None)
    assert get(second.port) == (200, b"second")
    second.close()
