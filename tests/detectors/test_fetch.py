"""A download is what the policy pins, or it is not kept; nothing is sent but the question."""

import errno
import hashlib
import os
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.web import FakeWeb

from resurgence_gate.detectors import fetch as module
from resurgence_gate.detectors.fetch import fetch, is_url
from resurgence_gate.errors import HubError, ResourceError, UsageError

CONTENT = bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 10_000


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    """Where files are kept."""
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "downloads"


@pytest.fixture
def web():
    with FakeWeb(pages={"/a/file.npy": CONTENT}).serve() as fake:
        yield fake


def kept(downloads):
    return sorted(downloads.iterdir()) if downloads.exists() else []


def refusal(url, error=UsageError, *, sha256=SHA256, limit=LIMIT):
    with pytest.raises(error) as raised:
        fetch(url, sha256, limit)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_it_is_fetched_once(web, downloads):
    first = fetch(f"{web.address}/a/file.npy", SHA256, LIMIT)
    assert first.read_bytes() == CONTENT
    assert first.suffix == ".npy"
    assert kept(downloads) == [first]
    assert fetch(f"{web.address}/a/file.npy", SHA256, LIMIT) == first
    assert web.requests == ["/a/file.npy"]


def test_a_file_in_the_cache_needs_no_network(web):
    url = f"{web.address}/a/file.npy"
    first = fetch(url, SHA256, LIMIT)
    web.status = 500
    assert fetch(url, SHA256, LIMIT) == first


def test_a_damaged_file_in_the_cache_is_fetched_again(web):
    file = fetch(f"{web.address}/a/file.npy", SHA256, LIMIT)
    file.write_bytes(CONTENT[:-1])
    assert fetch(f"{web.address}/a/file.npy", SHA256, LIMIT).read_bytes() == CONTENT


def test_another_content_is_not_kept(web, downloads):
    said = refusal(f"{web.address}/a/file.npy", sha256="0" * 64)
    assert SHA256 in said
    assert "0" * 64 in said
    assert kept(downloads) == []


@pytest.mark.parametrize("announced", [-1, None])
def test_it_may_be_as_large_as_the_limit_and_no_larger(web, downloads, announced):
    web.announced = announced
    said = refusal(f"{web.address}/a/file.npy", limit=len(CONTENT) - 1)
    assert "larger than 5,119 bytes" in said
    assert kept(downloads) == []
    assert fetch(f"{web.address}/a/file.npy", SHA256, len(CONTENT)).read_bytes() == CONTENT


def test_a_length_beyond_the_limit_is_believed_before_anything_is_read(web, monkeypatch):
    web.announced = LIMIT + 1
    monkeypatch.setattr(module, "_read", lambda *_: pytest.fail("something was read"))
    assert "larger than" in refusal(f"{web.address}/a/file.npy")


def test_a_connection_that_breaks_is_worth_retrying(web, downloads):
    web.announced = len(CONTENT) + 10
    assert "broke after 5,120 of 5,130 bytes" in refusal(f"{web.address}/a/file.npy", HubError)
    assert kept(downloads) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_server_that_does_not_give_it(web, status):
    web.status = status
    said = refusal(f"{web.address}/a/file.npy?key=secret")
    assert f"does not give it ({status})" in said
    assert "give its path" in said
    assert "secret" not in said


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_may_give_it_later(web, status):
    web.status = status
    assert f"answered {status}; try again later" in refusal(f"{web.address}/a/file.npy", HubError)


def test_a_server_that_is_not_there():
    with socket.socket() as held:  # a port that nobody listens on
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/file.npy"
        assert "no answer (ConnectionRefusedError)" in refusal(url, HubError)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/file.npy", "only https"),
        ("http://127.0.0.1.example.org/file.npy", "only https"),
        ("http://localhost@example.org/file.npy", "only https"),
        ("ftp://example.org/file.npy", "only https"),
        ("file:///etc/hostname", "only https"),
        ("https://me:secret@example.org/file.npy", "no user or password"),
        ("https:///file.npy", "needs a host"),
        ("https://example.org/a b.npy", "needs a host"),
        ("https://example.org/ä.npy", "%XX"),
        ("https://example.org:port/file.npy", "not a URL"),
        ("https://[::1/file.npy", "not a URL"),
    ],
)
def test_what_is_not_fetched(url, said, monkeypatch):
    monkeypatch.setattr(module, "_opener", lambda _: pytest.fail("something was sent"))
    message = refusal(url)
    assert said in message
    assert "secret" not in message


def test_a_redirect_is_followed_on_this_machine(web):
    web.redirects = {"/old.npy": f"{web.address}/a/file.npy"}
    assert fetch(f"{web.address}/old.npy", SHA256, LIMIT).read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["http://example.org/file.npy", "ftp://127.0.0.1/file.npy"])
def test_a_redirect_away_from_https_is_not_followed(web, target):
    web.redirects = {"/old.npy": target}
    said = refusal(f"{web.address}/old.npy")
    assert "redirects away from https" in said
    assert said.startswith(f"{web.address}/old.npy")


def test_a_redirect_from_the_web_to_this_machine_is_not_followed(web):
    request = module.Request("https://example.org/file.npy")
    with pytest.raises(UsageError, match="redirects away from https"):
        module._Redirects().redirect_request(request, None, 302, "", {}, f"{web.address}/a/file.npy")
    followed = module._Redirects().redirect_request(request, None, 302, "", {}, "https://example.org/b.npy")
    assert followed.full_url == "https://example.org/b.npy"


def test_no_token_is_sent(web, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hf_secret\n")
    fetch(f"{web.address}/a/file.npy", SHA256, LIMIT)
    (headers,) = web.headers
    assert {name.lower() for name in headers} <= {"accept-encoding", "host", "user-agent", "connection"}
    assert "secret" not in str(headers)


def test_a_proxy_is_not_asked_for_this_machine(web, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch(f"{web.address}/a/file.npy", SHA256, LIMIT).read_bytes() == CONTENT


def test_an_odd_ending_is_left_out(web):
    web.pages["/file.n%2F..%2Fpy"] = CONTENT
    assert fetch(f"{web.address}/file.n%2F..%2Fpy", SHA256, LIMIT).name == SHA256


def test_a_full_disk(web, monkeypatch, downloads):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    assert "the disk is full" in refusal(f"{web.address}/a/file.npy", ResourceError)
    assert kept(downloads) == []


def test_a_cache_that_cannot_be_written(web, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert "set RESURGENCE_GATE_STORE" in refusal(f"{web.address}/a/file.npy")


def test_an_interruption_leaves_nothing(web, monkeypatch, downloads):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{web.address}/a/file.npy", SHA256, LIMIT)
    assert kept(downloads) == []


class Told:
    """A progress that remembers."""

    def __init__(self):
        self.stages = []

    @contextmanager
    def stage(self, name, total, unit=""):
        self.stages.append([name, total, 0])

        def advance(n=1, note=""):
            self.stages[-1][2] += n

        yield advance


def test_progress_is_in_bytes(web):
    told = Told()
    fetch(f"{web.address}/a/file.npy", SHA256, LIMIT, progress=told)
    assert told.stages == [["download file.npy", len(CONTENT), len(CONTENT)]]


def test_a_path_is_no_url():
    assert is_url("https://example.org/a")
    assert is_url("HTTP://example.org/a")
    assert not any(map(is_url, ("pocket:q16", "a/b.npy", "/a//b.npy", str(Path.cwd()), "C:\\a.npy")))
