"""A client's own lines to the members: what happens to them happens to that client only."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from tests.faults.harness.member import Member
from tests.support.cuttable import Cuttable


class Lines:
    """One proxy to each member, in the order of ``endpoints``."""

    def __init__(self, lines: dict[Member, Cuttable]) -> None:
        self._lines = lines

    @property
    def endpoints(self) -> list[str]:
        return [line.endpoint for line in self._lines.values()]

    def to(self, member: Member) -> Cuttable:
        return self._lines[member]

    def member_at(self, endpoint: str) -> Member:
        """Whom the client reaches there."""
        return next(member for member, line in self._lines.items() if line.endpoint == endpoint)

    def cut(self, *, sending: bool = True, hearing: bool = True) -> None:
        """Nothing of what the client sends arrives, it hears nothing, or both. Connections stay open."""
        for line in self._lines.values():
            line.cut(requests=sending, answers=hearing)

    def reset(self) -> None:
        """Break every connection; new ones are served."""
        for line in self._lines.values():
            line.reset()

    def heal(self) -> None:
        for line in self._lines.values():
            line.heal()


@asynccontextmanager
async def lines_to(members: Sequence[Member]) -> AsyncIterator[Lines]:
    async with AsyncExitStack() as stack:
        yield Lines(
            {member: await stack.enter_async_context(Cuttable(member.endpoint)) for member in members}
        )
