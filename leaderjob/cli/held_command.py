"""A command that runs only while something is held: a lock, or an office."""

from collections.abc import Callable, Mapping, Sequence

import click

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration
from leaderjob.execution.command import CommandNotGone, run_command
from leaderjob.recipes import Timing
from leaderjob.recipes.tenure import Tenure
from leaderjob.recipes.while_held import while_held

TOKEN_VARIABLE = "LEADERJOB_FENCING_TOKEN"
GRACE_S = 5.0
_NO_ENVIRONMENT: Mapping[str, str] = {}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """``10``, ``10s``, ``5m``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration_s(str(value))
        except InvalidDuration as error:
            self.fail(str(error), param, ctx)


def timing_of(ttl_s: float) -> Timing:
    """:raises SettingsError: no such TTL."""
    return Timing(ttl_s=ttl_s, margin_s=ttl_s / 5)


async def run_while_held(
    tenure: Tenure,
    command: Sequence[str],
    *,
    token: int,
    grace_s: float,
    stdin: bytes | None = None,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
) -> int:
    """Run ``command`` under a guard; returns its exit code.

    What ``tenure`` is lost with, is lost at once: the command gets TERM while a quarter of the trust is left,
    and KILL when none is, or when the key is known to be gone.

    :param grace_s: from TERM to KILL when this is cancelled. :param stdin: what it reads; None: what this process would.
    :param environment: added to this process's, with the token.
    :raises LeaderjobError: it is not held any more, and the command was killed; or it cannot be run.
    :raises CommandNotGone: something of the command may be left. Then the session is abandoned: nobody else has what was
        held before the lease has run out.
    """
    window_s = tenure.session.ttl_s - tenure.session.margin_s
    try:
        async with while_held(tenure):
            return await run_command(
                command,
                trusted_until=_trust(tenure),
                grace_s=grace_s,
                notice_s=min(grace_s, window_s / 4),
                stdin=stdin,
                environment={TOKEN_VARIABLE: str(token), **environment},
            )
    except CommandNotGone:
        tenure.session.abandon(f"something that {command[0]} started may still run")
        raise


def _trust(tenure: Tenure) -> Callable[[], float]:
    def trusted_until() -> float:
        return tenure.trusted_until if tenure.trusted else 0.0

    return trusted_until
