"""As much of the Hugging Face hub as a download needs, on 127.0.0.1, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

COMMIT, OLDER = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"
REVISIONS = {"": COMMIT, "/revision/main": COMMIT, f"/revision/{COMMIT}": COMMIT}
REVISIONS |= {"/revision/v1": OLDER, f"/revision/{OLDER}": OLDER}


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # files come over parallel connections; one too many would wait a second


class FakeHub:
    """Serves ``repositories`` (id -> file name -> content), alike at both commits, and remembers what was asked.

    Attributes:
        requests: method and path, in the order in which they came.
        faults: status codes to answer with before all is well, by the beginning of the path; the last one stays
            where ``persistent`` holds that beginning.
    """

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        self.repositories = repositories
        self.requests: list[tuple[str, str]] = []
        self.faults: dict[str, list[int]] = {}
        self.persistent: set[str] = set()
        self.error_code: str | None = None
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody answers from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def fail(self, beginning: str, *statuses: int, persistent: bool = False) -> None:
        self.faults[beginning] = list(statuses)
        if persistent:
            self.persistent.add(beginning)

    def asked(self, beginning: str) -> int:
        return sum(path.startswith(beginning) for _, path in self.requests)

    def downloaded(self) -> set[str]:
        """Names of the files that were fetched, of whatever commit."""
        gets = [path.partition("/resolve/")[2] for method, path in self.requests if method == "GET"]
        return {path.partition("/")[2] for path in gets if path}

    def fault(self, path: str) -> int | None:
        for beginning, statuses in self.faults.items():
            if path.startswith(beginning) and statuses:
                return statuses[0] if beginning in self.persistent else statuses.pop(0)
        return None

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        if (status := self.fault(path)) is not None:
            return status, b"{}", {"X-Error-Code": self.error_code} if self.error_code else {}
        for name, files in self.repositories.items():
            if (commit := REVISIONS.get(path.removeprefix(f"/api/models/{name}"))) is not None:
                siblings = [{"rfilename": file} for file in files]
                return 200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode(), {}
            if path.removeprefix(f"/api/models/{name}/tree/") in REVISIONS.values():
                kinds = [{"type": "file", "path": f, "size": len(c), "oid": "0" * 40} for f, c in files.items()]
                return 200, json.dumps(kinds).encode(), {}
            if path.startswith(f"/api/models/{name}/revision/"):
                return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
            commit, _, file = path.removeprefix(f"/{name}/resolve/").partition("/")
            if commit in REVISIONS.values() and file in files:
                etag = hashlib.sha256(files[file]).hexdigest()
                return 200, files[file], {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
        return 404, b"{}", {"X-Error-Code": "RepoNotFound"}


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            status, content, headers = hub.answer(path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 (http.server's name)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server's name)
            pass

    return Handler


@contextmanager
def taken_for_the_hub(
    repositories: dict[str, dict[str, bytes]], cache: Path, patch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    """A hub that huggingface_hub takes for its own, with ``cache`` for its download cache."""
    from huggingface_hub import constants, file_download

    with FakeHub(repositories) as served:
        patch.setattr(constants, "ENDPOINT", served.url)
        for module in (constants, file_download):  # the oldest client copies it
            template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
            patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield served
