"""A model hub on 127.0.0.1 that speaks what `huggingface_hub` asks of it to resolve and download a model.

It takes commits, too. Of a commit with `create_pr` comes a branch `refs/pr/N`, which `merge` makes the main one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import pytest
from huggingface_hub import file_download


@dataclass(kw_only=True)
class Trouble:
    """What goes wrong with requests whose path `path` is found in, `times` of them (None: all from now on)."""

    path: str = ""
    times: int | None = 1
    status: int | None = None  # the answer, instead of what was asked for
    error_code: str | None = None  # the Hub's own word for it
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # the connection is closed after so many bytes of the body
    hang: bool = False  # nothing more is said: at once, or after `cut` bytes
    content: Callable[[bytes], bytes] = lambda content: content  # what is sent as the file, instead of it
    etag: str | None = None  # what the file is said to be when it is sent
    listed: dict[str, object] = field(default_factory=dict)  # what the listing says of the files instead
    answer: str | None = None  # what is answered, with status 200
    first: Callable[[], object] = lambda: None  # is done before the answer


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What was sent to be committed."""

    repo: str
    revision: str
    create_pr: bool
    header: dict[str, str]
    files: dict[str, bytes]


@dataclass
class FakeHub:
    """Serves `repos`: name -> {branch or tag -> folder}; `main` is what one gets unasked.

    `status` (with the Hub's own `error_code`) is the answer to everything instead, if set; `troubles` are the first
    that match a request. Safetensors and pickles are listed by their SHA-256, as with Git LFS. `requests` are
    (method, path), in order; `tokens` what came as authorization. `whoami` is whom it takes a token for: nobody's, if
    None. Only `writer` may commit, and only what `validate` finds nothing wrong with.
    """

    repos: dict[str, dict[str, Path]]
    status: int | None = None
    error_code: str | None = None
    whoami: dict[str, object] | None = None
    troubles: list[Trouble] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    writer: str | None = None
    validate: Callable[[str], list[str]] = lambda content: []
    commits: list[Commit] = field(default_factory=list)
    branches: TemporaryDirectory[str] | None = None
    endpoint: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def trouble(self, path: str) -> Trouble:
        """What is to go wrong with this request, if anything."""
        for trouble in self.troubles:
            if trouble.times != 0 and re.search(trouble.path, path):
                trouble.times = None if trouble.times is None else trouble.times - 1
                return trouble
        return Trouble()

    def commit(self, repo: str, revision: str = "main") -> str:
        """The 40 hexadecimal digits of a revision: its content."""
        files = _files(self.repos[repo][revision]).items()
        return _commit(
            repo, tuple((name, file, file.stat().st_mtime_ns, file.stat().st_size) for name, file in files)
        )

    def find(self, repo: str, revision: str) -> tuple[str, Path] | None:
        """(commit, folder) of a branch, tag or commit."""
        for name, folder in self.repos[repo].items():
            commit = self.commit(repo, name)
            if revision in (name, commit):
                return commit, folder
        return None

    def branch(self, commit: Commit) -> str:
        """Keep what was committed, and say under which revision."""
        if self.branches is None:
            self.branches = TemporaryDirectory()
        pulls = sum(name.startswith("refs/pr/") for name in self.repos[commit.repo])
        name = f"refs/pr/{pulls + 1}" if commit.create_pr else commit.revision
        folder = Path(self.branches.name) / str(len(self.commits))
        shutil.copytree(self.repos[commit.repo][commit.revision], folder)
        for file, content in commit.files.items():
            (folder / file).write_bytes(content)
        self.repos[commit.repo][name] = folder
        return name

    def merge(self, repo: str, number: int) -> None:
        """What the owner of the repository does with a pull request."""
        self.repos[repo]["main"] = self.repos[repo][f"refs/pr/{number}"]

    def routed(self, path: str) -> str:
        """Under what path to look for the answer: its own."""
        return path

    @contextmanager
    def serve(self) -> Iterator[FakeHub]:
        """Answer at `endpoint` until the end of the block."""
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            server.shutdown()
            server.server_close()
            thread.join()


def connect(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let this process's client speak to `hub`, with its cache in `cache`."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # huggingface_hub before 1.0 keeps a copy
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    trouble = Trouble()
    body = b""
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.hub.tokens.append(self.headers.get("Authorization", ""))
        self.trouble = self.hub.trouble(path)
        self.trouble.first()
        if self.trouble.hang and self.trouble.cut is None:
            self.hub.closing.wait()
            return None
        if self.trouble.status is not None:
            return self._error(self.trouble.status, self.trouble.error_code, **self.trouble.headers)
        if self.trouble.answer is not None:
            return self._send(200, self.trouble.answer.encode(), {"Content-Type": "application/json"})
        if self.hub.status is not None:
            return self._error(self.hub.status, self.hub.error_code)
        path = self.hub.routed(path)
        if path == "/api/whoami-v2":
            return self._error(401, None) if self.hub.whoami is None else self._json(self.hub.whoami)
        if self.command == "POST":
            return self._write(path)
        for pattern, answer in (
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                repo, revision, *rest = found.groups()
                if repo not in self.hub.repos:
                    return self._error(404, "RepoNotFound")
                place = self.hub.find(repo, revision or "main")
                return answer(repo, *place, *rest) if place else self._error(404, "RevisionNotFound")
        return self._error(404, None)

    def _write(self, path: str) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.hub.writer}":
            return self._error(401, None)
        if path == "/api/validate-yaml":
            wrong = self.hub.validate(json.loads(self.body)["content"])
            answer = {"errors": [{"message": message} for message in wrong], "warnings": []}
            return self._send(400 if wrong else 200, json.dumps(answer).encode(), {})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", path)
        if not found or found[1] not in self.hub.repos:
            return self._error(404, "RepoNotFound")
        repo, what, revision = found.groups()
        if revision not in self.hub.repos[repo]:
            return self._error(404, "RevisionNotFound")
        if what == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(self.body)["files"]
            ]
            return self._json({"files": files})
        return self._commit(repo, revision)

    def _commit(self, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines()]
        commit = Commit(
            repo=repo,
            revision=revision,
            create_pr=parse_qs(urlsplit(self.path).query).get("create_pr") == ["1"],
            header=next(line["value"] for line in lines if line["key"] == "header"),
            files={
                line["value"]["path"]: base64.b64decode(line["value"]["content"], validate=True)
                for line in lines
                if line["key"] == "file"
            },
        )
        if not commit.create_pr and commit.header.get("parentCommit") != self.hub.commit(repo, revision):
            return self._error(412, None)
        self.hub.commits.append(commit)
        name = self.hub.branch(commit)
        oid = self.hub.commit(repo, name)
        told = {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{oid}"}
        number = name.removeprefix("refs/pr/")
        if commit.create_pr:
            told["pullRequestUrl"] = f"{self.hub.endpoint}/{repo}/discussions/{number}"
        return self._json(told)

    def _info(self, repo: str, commit: str, folder: Path) -> None:
        siblings = [{**_listed(name, file), **self.trouble.listed} for name, file in _files(folder).items()]
        facts = {"private": False, "tags": [], "downloads": 0, "likes": 0}
        self._json({"_id": repo, "id": repo, "modelId": repo, "sha": commit, "siblings": siblings, **facts})

    def _tree(self, repo: str, commit: str, folder: Path) -> None:
        self._json(
            [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}
                for name, file in _files(folder).items()
            ]
        )

    def _file(self, repo: str, commit: str, folder: Path, name: str) -> None:
        file = _files(folder).get(name)
        if file is None:
            return self._error(404, "EntryNotFound")
        content = self.trouble.content(file.read_bytes())
        headers = {"ETag": f'"{self.trouble.etag or _etag(file)}"', "X-Repo-Commit": commit}
        headers["Accept-Ranges"] = "bytes"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self._send(200, content, headers)
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        if first >= len(content):
            return self._error(416, None)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, content[first : last + 1], headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str | None, **headers: str) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self._send(status, b"{}", {**told, **headers})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: self.trouble.cut])
        if self.trouble.cut is not None:
            self.wfile.flush()
            if self.trouble.hang:
                self.hub.closing.wait()
            self.close_connection = True


@lru_cache(maxsize=64)
def _commit(repo: str, files: tuple[tuple[str, Path, int, int], ...]) -> str:
    digest = hashlib.sha1(repo.encode())
    for name, file, *_ in files:
        digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> dict[str, Path]:
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _listed(name: str, file: Path) -> dict[str, object]:
    """As the Hub lists a file when it is asked for `blobs`: of a large one it knows the SHA-256."""
    content = file.read_bytes()
    facts: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _etag(file)}
    if name.endswith((".safetensors", ".bin", ".pt", ".ckpt")):
        sha256 = hashlib.sha256(content).hexdigest()
        facts |= {"blobId": "0" * 40, "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}}
    return facts


def _etag(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names a blob
