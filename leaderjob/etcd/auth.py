"""Who we are to etcd: user and password become a token, which goes along with every call.

Tokens run out (after five minutes without a call, by default), and with every change of etcd's users. A
call that is refused for that was not done, so it is sent again with a new token. One that says when it runs
out (a JSON Web Token, RFC 7519) is replaced before that.
"""

import asyncio
import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from leaderjob.clock import boottime, utcnow
from leaderjob.etcd.errors import AuthenticationFailed
from leaderjob.etcd.rpc import Stubs, rpc
from leaderjob.telemetry.events import Events, emit

Metadata = tuple[tuple[str, str], ...]

_EXPIRED = ("invalid auth token", "revision of auth store is old", "revision in header is old")
_NOT_ENABLED = "authentication is not enabled"
_NOBODY = "user name is empty"
_USED_FOR = 0.8


@dataclass(frozen=True, slots=True)
class User:
    """An etcd user. :param password: read whenever a token is needed, so that it may be exchanged."""

    name: str
    password: Callable[[], str]


class Auth:
    """The token in use, made when it is first needed. No user, no token."""

    def __init__(self, user: User | None) -> None:
        self._user = user
        self._token: str | None = None
        self._renew_at = math.inf
        self._needless = False
        self._asking = asyncio.Lock()

    @property
    def is_needed(self) -> bool:
        """Whether anything has to be sent along with a call."""
        return self._user is not None and not self._needless

    @property
    def user_name(self) -> str | None:
        return self._user.name if self._user else None

    async def metadata(self, stubs: Stubs, *, timeout_s: float) -> Metadata:
        """What to send along with a call.

        :raises AuthenticationFailed: the user or the password is wrong.
        :raises grpc.aio.AioRpcError: the member does not answer; nothing was sent but the question.
        """
        if self._user is None or self._needless:
            return ()
        async with self._asking:
            if self._token is None or boottime() >= self._renew_at:
                asked_at = boottime()
                self._token = await self._ask(self._user, stubs, timeout_s)
                self._renew_at = asked_at + _USED_FOR * lifetime_s(self._token or "")
        return (("token", self._token),) if self._token is not None else ()

    def expired(self, error: Any) -> bool:
        """Whether a call was refused for its token alone; then the next one gets a new one."""
        details = error.details() or ""
        if self._needless and _NOBODY in details:  # authentication was switched on meanwhile
            self._needless = False
            return True
        return any(text in details for text in _EXPIRED) and self.forget()

    def forget(self) -> bool:
        """Get a new token for the next call; whether there was one."""
        had, self._token = self._token is not None, None
        return had

    async def _ask(self, user: User, stubs: Stubs, timeout_s: float) -> str | None:
        request = rpc.AuthenticateRequest(name=user.name, password=user.password())
        try:
            response = await stubs.auth.Authenticate(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if _NOT_ENABLED in details:
                self._needless = True
                emit(Events.ETCD_ASKS_NOBODY, user=user.name)
                return None
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise AuthenticationFailed(user.name) from error
            raise
        return str(response.token)


def lifetime_s(token: str) -> float:
    """For how many seconds a token is good; infinite where it does not say so.

    It says so by etcd's clock. Where ours is behind, the token runs out before we expect it; where ours is so
    far ahead that it has run out already, nothing can be concluded.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return math.inf
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        left_s = float(claims["exp"]) - utcnow().timestamp()
    except (ValueError, TypeError, KeyError):
        return math.inf
    return left_s if left_s > 0 else math.inf
