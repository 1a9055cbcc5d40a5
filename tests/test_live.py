"""The live report: one page, for this machine alone, fresh at each request."""

import http.client
import threading

import pytest

from monitoring.report.live import live_server


@pytest.fixture
def served():
    """Returns a function that asks, and the pages that will be answered."""
    pages = ["first", "second"]

    def render():
        if not pages:
            raise FileNotFoundError("the run holds no record yet")
        return pages.pop(0)

    server = live_server(render)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def ask(path="/", host=None, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        headers = {"Host": host or f"127.0.0.1:{server.server_port}"}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    yield ask, pages, server
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_request_renders_anew(served):
    ask, _, server = served
    assert server.server_address[0] == "127.0.0.1"
    assert ask() == (200, "first")
    assert ask(host=f"localhost:{server.server_port}") == (200, "second")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:80"])
def test_other_hosts_names_are_refused(served, host):
    ask, pages, _ = served
    status, said = ask(host=host)
    assert status == 421 and "first" not in said
    assert pages == ["first", "second"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/../report.html", "/report.html", "/%2e%2e/", "/?x=1"]
)
def test_there_is_one_page(served, path):
    ask, _, _ = served
    assert ask(path)[0] == 404


def test_nothing_can_be_sent(served):
    ask, _, _ = served
    assert ask(method="POST")[0] == 501


def test_a_run_without_records_yet_is_said(served):
    ask, pages, _ = served
    pages.clear()
    status, said = ask()
    assert status == 503 and "holds no record yet" in said
