"""Who we are to etcd: user and password become a token, which goes along with every call.

Tokens run out (after five minutes without a call, by default), and with every change of etcd's users. A
call that is refused for that was not done, so it is sent again with a new token.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from leaderjob.etcd.errors import AuthenticationFailed
from leaderjob.etcd.rpc import Stubs, rpc
from leaderjob.telemetry.events import Events, emit

Metadata = tuple[tuple[str, str], ...]

_EXPIRED = ("invalid auth token", "revision of auth store is old", "revision in header is old")
_NOT_ENABLED = "authentication is not enabled"
_NOBODY = "user name is empty"


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
        self._needless = False
        self._asking = asyncio.Lock()

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
            if self._token is None:
                self._token = await self._ask(self._user, stubs, timeout_s)
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
