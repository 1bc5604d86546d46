"""The HTTP connections of the server, which a silent client cannot keep from the others."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
REQUEST_TIMEOUT = 10  # seconds to the end of a request's head, from the connection or from the last response
READ_TIMEOUT = 30  # seconds in which a client must have read some of what was sent


class Connection(H11Protocol):
    """A connection that is closed if no request comes, or if its client does not read the answers.

    Of more than `MAX_CONNECTIONS`, the one whose client has kept the server waiting longest makes room.
    """

    since = 0.0  # when the server began to wait for the request, or for the answer to be read
    unread: asyncio.TimerHandle | None = None  # what closes the connection, while the client does not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        waiting = [each for each in self.connections if isinstance(each, Connection) and each.waits_for_client()]
        if waiting and len(self.connections) >= MAX_CONNECTIONS:
            oldest = min(waiting, key=lambda each: each.since)
            self.connections.discard(oldest)  # before the next one asks
            oldest.transport.abort()
        super().connection_made(transport)
        self.await_request()

    def on_response_complete(self) -> None:
        self.await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.since = self.loop.time()
        self.unread = self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.stop_timer()

    def stop_timer(self) -> None:
        if self.unread:
            self.unread.cancel()
            self.unread = None

    def waits_for_client(self) -> bool:
        """Return whether not all of a request has come since the last response, or the answer is not read."""
        return bool(self.unread or not self.cycle or self.cycle.response_complete or self.cycle.more_body)

    def await_request(self) -> None:
        self.since = self.loop.time()
        self.loop.call_later(REQUEST_TIMEOUT, self.close_unless_asked, self.cycle)

    def close_unless_asked(self, last: Any) -> None:
        if self.cycle is last:
            self.transport.abort()  # without waiting until the client has read everything
