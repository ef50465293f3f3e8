"""A client some of whose writes get no answer, or one that says nothing of them: they are done, or never, or later."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from leaderjob.etcd import AmbiguousWrite, Compare, Etcd, Get, NoSpace, Op, RequestRefused, TxnResult

Fate = Literal["done", "never", "later", "took the last room", "found no room", "refused"]


class Unanswered(Etcd):
    """The transactions that write have these ``fates``, one after the other; those after them are answered."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(endpoints)
        self.fates: list[Fate] = []
        self.refusing = False
        """Whether all that is written after the ``fates`` is refused."""
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """Runs, once, after the next write that gets no answer."""
        self._late: list[Callable[[], Awaitable[TxnResult]]] = []

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
        within_s: float | None = None,
    ) -> TxnResult:
        async def send() -> TxnResult:
            return await super(Unanswered, self).txn(
                compares, success, failure, repeatable=repeatable, within_s=within_s
            )

        if not (self.fates or self.refusing) or all(isinstance(op, Get) for op in success):
            return await send()
        fate = self.fates.pop(0) if self.fates else "refused"
        if fate in ("done", "took the last room"):
            await send()
        elif fate == "later":
            self._late.append(send)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        if fate in ("took the last room", "found no room"):
            raise NoSpace
        if fate == "refused":
            raise RequestRefused("etcd refused the request: permission denied")
        raise AmbiguousWrite(self.connection.endpoint, "the answer was lost")

    async def deliver_late(self) -> list[bool]:
        """Let etcd have what was held back; whether each was done."""
        late, self._late = self._late, []
        return [(await send()).succeeded for send in late]
