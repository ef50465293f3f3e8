"""A client whose transactions get no answer, though they may be done."""

from collections.abc import Sequence

from leaderjob.etcd import AmbiguousWrite, Compare, Etcd, Get, Op, TxnResult


class Unanswered(Etcd):
    """The answers of the next ``lost`` transactions that write are lost. They are ``done`` or not, and ``then`` is done
    after each of them, by somebody else. ``sent`` has them all."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(endpoints)
        self.lost = 0
        self.done = True
        self.then: Sequence[Op] = ()
        self.sent: list[tuple[Sequence[Compare], Sequence[Op]]] = []

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
        within_s: float | None = None,
    ) -> TxnResult:
        if not self.lost or all(isinstance(op, Get) for op in success):
            return await super().txn(compares, success, failure, repeatable=repeatable, within_s=within_s)
        self.lost -= 1
        self.sent.append((compares, success))
        if self.done:
            await super().txn(compares, success, failure)
        if self.then:
            await super().txn((), self.then)
        raise AmbiguousWrite(self.connection.endpoint, "the answer was lost")

    async def arrives(self, number: int) -> bool:
        """Have one that was sent done now; whether it was."""
        compares, success = self.sent[number]
        return (await super().txn(compares, success)).succeeded
