"""What the servers share: a port, and whom they answer."""

import ipaddress
import os
import re
import socket
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from mnist_pipeline.environment import LOOPBACK


def listen(port: int, *, remedy: str, host: str = LOOPBACK[0]) -> socket.socket:
    """Return a socket that listens on `port` of `host`, or on a free one for 0.

    Raises an `OSError` whose message is one line, ending in `remedy`.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # without the address, which error.strerror repeats
        raise OSError(f"port {port} of {host} cannot be used ({reason}): {remedy}") from None
    # Its connections inherit it. asyncio sets it only on sockets that name their protocol, and these do not: the body
    # of an answer would wait until its head is acknowledged, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_host(text: str) -> bool:
    """Return whether `text` is a host's name or address, without a port."""
    try:
        return bool(re.fullmatch(r"[\w.-]+", text) or ipaddress.ip_address(text))
    except ValueError:
        return False


def protect(app: ASGIApp, hosts: Sequence[str] = (), *, any_name: bool = False) -> ASGIApp:
    """Return `app`, closed to the pages of other sites in a browser on this machine.

    It answers to `LOOPBACK` and to `hosts`, its own address or the names of a proxy in front of it, so that no other
    name can be made to resolve here; to `any_name` where a token is required, which such a page lacks. It refuses
    requests and WebSockets from a page of another origin. A browser names the page's origin with all but a plain GET,
    which changes nothing and whose answer the page cannot read.
    """
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse

    known = {*LOOPBACK, *map(str.lower, hosts)}

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin", "").rpartition("://")[2]
        (name, port), (page, page_port) = _name_and_port(host), _name_and_port(origin)
        is_own = page in known and (page_port == port or not is_loopback(page))
        answer: ASGIApp = app
        if not any_name and name not in known:
            answer = PlainTextResponse("Invalid host header", 400)
        elif "origin" in headers and not is_own and not (any_name and origin == host):
            answer = PlainTextResponse("a page of another site sent this", 403)
        await answer(scope, receive, send)

    return guarded


def _name_and_port(authority: str) -> tuple[str, str]:
    """Return the parts of `example.org:8000`, `[::1]:8000` or a name alone; nothing of anything else."""
    found = re.fullmatch(r"(?:\[([\da-f:.]+)\]|([\w.-]+))(?::(\d+))?", authority.lower())
    return (found[1] or found[2], found[3] or "") if found else ("", "")
