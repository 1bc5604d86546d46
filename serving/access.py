"""Who may ask: those with the token, if there is one; and what a browser is told to refuse."""

import hmac
import os
import re

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_pipeline.environment import TOKEN
from mnist_pipeline.web import is_loopback

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def token_for(host: str, *, no_token: bool = False) -> str | None:
    """Return the token from the environment. Raises `ValueError` if it is a bad one, or `host` needs one."""
    token = os.environ.get(TOKEN, "")
    if token and not re.fullmatch(r"[!-~]{16,}", token):
        raise ValueError(f"{TOKEN} must be 16 or more letters, digits and signs, without spaces: openssl rand -hex 32")
    if not (token or no_token or is_loopback(host)):
        remedy = f"set {TOKEN}, or add --no-token if a proxy asks for a password"
        raise ValueError(f"--host {host} lets other machines in: {remedy}")
    return token or None


class Bearer:
    """A dependency of the routes that ask for the token: 401 without it."""

    def __init__(self, token: str | None) -> None:
        self.expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = f"{scheme.capitalize()} {token.strip()}".encode()
        if self.expected and not hmac.compare_digest(given, self.expected):
            challenge = {"WWW-Authenticate": 'Bearer realm="mnist-pipeline"'}
            raise HTTPException(401, "this server asks for its token: Authorization: Bearer TOKEN", challenge)


class ResponseHeaders:
    """Adds `HEADERS` to every response, and ends the connection with it while the server is stopping."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if getattr(scope["app"].state, "draining", False):
                    headers["Connection"] = "close"  # so that the client's next request goes elsewhere
            await send(message)

        await self.app(scope, receive, send_with_headers)
