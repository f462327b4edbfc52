"""A server on 127.0.0.1 that speaks S3, is told to fail, and notes what it was asked."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ObjectServer", "serving"]

BUSY = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "2",
}


class ObjectServer:
    """moto's server; `fails` decides by method and key which requests get an error of S3, and which one.

    ``before`` is called with both before a request is answered, and ``asked`` lists them.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: Any) -> None:
                pass

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self._buckets = itertools.count()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.forget()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def forget(self) -> None:
        """Work again, and forget what was asked."""
        self.fails: Callable[[str, str], tuple[str, str] | None] = lambda method, key: None
        self.before: Callable[[str, str], None] = lambda method, key: None
        self.asked: list[tuple[str, str]] = []

    def bucket(self) -> str:
        """Make a bucket, and return its address."""
        import fsspec

        name = f"bucket-{next(self._buckets)}"
        fsspec.filesystem("s3").mkdir(name)
        return f"s3://{name}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, key))
        self.before(method, key)
        if failure := self.fails(method, key):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            status, code = failure
            start(status, [("Content-Type", "application/xml")])
            return [BUSY % (code.encode(), b"Please try again.")]
        return self._app(environ, start)


@contextmanager
def serving(setenv: Callable[[str, str], Any]) -> Iterator[ObjectServer]:
    """Serve objects, to this process and to those it starts."""
    server = ObjectServer()
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.url}.items():
        setenv(name, value)
    yield server
    server.close()
