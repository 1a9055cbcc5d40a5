"""The live report: one page, for this machine alone, fresh at each request."""

import http.client
import threading
from contextlib import contextmanager

import pytest
from synthetic_run import write_records

from monitoring.report.live import REFRESH_SECONDS, live_server, report_server


@pytest.fixture
def served():
    """Returns a function that asks, and the pages that will be answered."""
    pages = ["first", "second"]

    def render():
        if not pages:
            raise FileNotFoundError("the run holds no records yet")
        return pages.pop(0)

    server = live_server(render)
    with serving(server) as ask:
        yield ask, pages, server


@contextmanager
def serving(server):
    """Runs a server in a thread, and returns a function that asks it."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def ask(path="/", host=None, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
        headers = {"Host": host or f"127.0.0.1:{server.server_port}"}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    try:
        yield ask
    finally:
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
    status, text = ask(host=host)
    assert status == 421 and "first" not in text
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


def test_a_run_without_records_yet_is_an_error_that_says_so(served):
    ask, pages, _ = served
    pages.clear()
    status, text = ask()
    assert status == 503 and "holds no records yet" in text


def test_a_runs_report_follows_its_records(tmp_path):
    with serving(report_server(tmp_path)) as ask:
        assert ask()[0] == 503
        write_records(tmp_path, [-1, 0])
        status, text = ask()
        assert status == 200 and f'http-equiv="refresh" content="{REFRESH_SECONDS}"' in text
        assert "after 1 measurement:" in text
        write_records(tmp_path, [1])
        assert "after 2 measurements:" in ask()[1]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        report_server(tmp_path / "none")
