"""Who we are to etcd: user and password become a token, which goes along with every call.

Tokens run out (after five minutes without a call, by default), and with every change of etcd's users. A
call that is refused for that was not done, so it is sent again with a new token. One that says when it runs
out (a JSON Web Token, RFC 7519) is replaced before that.
"""

import asyncio
import base64
import json
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from leaderjob.clock import boottime, utcnow
from leaderjob.errors import LeaderjobError
from leaderjob.etcd.errors import AuthenticationFailed, EtcdError
from leaderjob.etcd.rpc import Stubs, rpc
from leaderjob.telemetry.events import Events, emit

_EXPIRED = ("invalid auth token", "revision of auth store is old", "revision in header is old")
_NOT_ENABLED = "authentication is not enabled"
_NOBODY = "user name is empty"
_USED_FOR = 0.8
_LEAST_QUESTION_S = 1.0
"""Others may wait for an answer longer than whoever asked first; etcd takes 0.1 s and more to check a password."""


@dataclass(frozen=True, slots=True)
class User:
    """An etcd user. :param password: read whenever a token is needed, so that it may be exchanged."""

    name: str
    password: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Token:
    """What etcd knows us by. ``asked_at`` and ``renew_at`` are boot times in seconds."""

    text: str
    asked_at: float
    renew_at: float

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with a call."""
        return (("token", self.text),)


class _Question:
    """One call for a token that is under way, and how many wait for it."""

    def __init__(self, asking: Coroutine[Any, Any, Token | None]) -> None:
        self.task = asyncio.create_task(asking)
        self.task.add_done_callback(_seen)
        self.waiting = 0


def _seen(task: "asyncio.Task[Token | None]") -> None:
    """Its failure is not to be reported as unseen where everybody has stopped waiting at that moment."""
    if not task.cancelled():
        task.exception()


class Auth:
    """The token in use, made when it is first needed. No user, no token."""

    def __init__(self, user: User | None) -> None:
        self._user = user
        self._token: Token | None = None
        self._needless = False
        self._questions: dict[Stubs, _Question] = {}

    @property
    def is_needed(self) -> bool:
        """Whether anything has to be sent along with a call."""
        return self._user is not None and not self._needless

    @property
    def user_name(self) -> str | None:
        return self._user.name if self._user else None

    async def token(self, stubs: Stubs, *, timeout_s: float) -> Token | None:
        """The one to send along with a call; None: etcd asks nobody.

        Each endpoint is asked once, and all who wait there share what becomes of it: nobody waits for an endpoint
        that is not his.

        :raises AuthenticationFailed: the user or the password is wrong.
        :raises TimeoutError: there was none in time; nothing was sent but the question.
        :raises grpc.aio.AioRpcError: the member does not answer; nothing was sent but the question.
        """
        if self._user is None or self._needless:
            return None
        if self._token is not None and boottime() < self._token.renew_at:
            return self._token
        question = self._questions.get(stubs)
        if question is None or question.task.done():
            asking = self._ask(self._user, stubs, max(timeout_s, _LEAST_QUESTION_S))
            question = self._questions[stubs] = _Question(asking)
        question.waiting += 1
        try:
            await asyncio.wait((question.task,), timeout=timeout_s)
            if not question.task.done():
                raise TimeoutError
            return question.task.result()
        finally:
            question.waiting -= 1
            if not question.waiting:
                question.task.cancel()
                if self._questions.get(stubs) is question:
                    del self._questions[stubs]

    def expired(self, error: Any, used: Token | None) -> bool:
        """Whether a call was refused for the token alone that it ``used``; then the next one gets another."""
        details = error.details() or ""
        if used is None:
            return _NOBODY in details and self._replace(used)
        return is_about_token(details) and self._replace(used)

    def denied(self, used: Token | None, began_at: float) -> bool:
        """Whether a watch, begun at this boot time, was perhaps refused for its token alone; then the next one gets
        another. Of a token that has run out etcd may say there what it says of a missing permission: the first that
        was made for the watch itself tells."""
        return (used is None or used.asked_at < began_at) and self._replace(used)

    def _replace(self, used: Token | None) -> bool:
        """Whether the next call gets another token. Many may have ``used`` the same, and each is refused: only the
        first finds it still there, and the others must not drop the one that came after it."""
        if used is None:
            self._needless = False  # authentication was switched on meanwhile
        elif self._token is used:
            self._token = None
        return self._user is not None

    async def _ask(self, user: User, stubs: Stubs, timeout_s: float) -> Token | None:
        asked_at = boottime()
        try:
            password = user.password()
        except LeaderjobError as error:  # its file is being exchanged: tried again, as any other trouble is
            raise EtcdError(str(error)) from error
        request = rpc.AuthenticateRequest(name=user.name, password=password)
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
        text = str(response.token)
        token = Token(text, asked_at, asked_at + _USED_FOR * lifetime_s(text))
        # Another endpoint may have been asked later, and have answered earlier.
        if self._token is None or self._token.asked_at <= asked_at:
            self._token = token
        return self._token


def is_about_token(refusal: str) -> bool:
    """Whether etcd's words are on the token, and not on what its user may do."""
    return any(text in refusal for text in _EXPIRED)


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
