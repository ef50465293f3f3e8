"""Who reports a progress: what is set is written in the background, at most so often, and the last one always."""

import asyncio

from leaderjob.etcd import Compare, Delete, Etcd, EtcdError, Get, Op, Put, modified_at
from leaderjob.recipes.errors import ReporterLost
from leaderjob.recipes.progress_report import ProgressState, checked, encode_report
from leaderjob.recipes.record import decode, encode
from leaderjob.recipes.session import Session
from leaderjob.recipes.settled import until_answered
from leaderjob.telemetry.events import Events, emit

WRITE_EVERY_S = 0.1


class Reporter:
    """Made by :meth:`Progress.reporting`; :meth:`set` is for whoever does the work.

    :param by: the random id that its key has. :param revision: at which that, and the first report, were written.
    """

    def __init__(self, etcd: Etcd, session: Session, root: str, *, what: str, by: str, revision: int) -> None:
        self._etcd = etcd
        self._session = session
        self._latest_key, self._reporter_key = f"{root}latest", f"{root}reporter"
        self._what = what
        self._by = by
        self._seen = revision
        self._percent: float = 0
        self._message = ""
        self._news = asyncio.Event()
        self._over = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_writing(), name=f"report {self._what}")

    def set(self, percent: float, message: str = "") -> None:
        """How far it is. Returns at once; watchers see the last one within a tenth of a second, while etcd answers.

        :raises SettingsError: no percentage, or no text. :raises ValueTooLarge: the message is longer than etcd takes.
        :raises ReporterLost: it has ended, or its lease is gone.
        """
        percent = checked(percent)
        # Here, and not when it is written: then nobody would be told.
        encode_report(percent, message, ProgressState.RUNNING, self._by, on_lease=True)
        if self._over or self._session.is_lost:
            raise ReporterLost(self._what, self._over or "its session is lost")
        self._percent, self._message = percent, message
        self._news.set()

    async def end(self, state: ProgressState) -> None:
        """Write the last report, as the end. Where etcd does not answer the session is lost, so that watchers are told
        that the reporter is.

        :raises ReporterLost: it was lost before. :raises EtcdError: etcd does not answer, or refuses.
        """
        told = False
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            if self._over:
                raise ReporterLost(self._what, self._over)
            await self._write(state)
            told = True
        finally:
            if not told and not self._over:
                self._session.lose(
                    f"the end of {self._what} could not be told, and its key must not be kept alive"
                )
            self._over = self._over or "it has ended"

    async def _keep_writing(self) -> None:
        in_trouble = False
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._write(ProgressState.RUNNING)
                in_trouble = False
            except ReporterLost:
                return
            except EtcdError as error:
                if not in_trouble:
                    emit(Events.CONNECTION_TROUBLE, reason=error)
                in_trouble = True
                self._news.set()
            await asyncio.sleep(WRITE_EVERY_S)

    async def _write(self, state: ProgressState) -> None:
        """Write what was set last, if this still is who reports. What an earlier call wrote without an answer is this
        one's to write over."""
        value = encode_report(self._percent, self._message, state, self._by, on_lease=True)
        ops: list[Op] = [Put(self._latest_key, value)]
        if state is not ProgressState.RUNNING:
            ops.append(Delete(self._reporter_key))
        mine = Compare(self._reporter_key, "value", "=", encode(by=self._by))
        while True:
            answer = await until_answered(
                self._etcd,
                [modified_at(self._latest_key, self._seen), mine],
                ops,
                [Get(self._latest_key), Get(self._reporter_key)],
            )
            if answer.result.succeeded:
                self._seen = answer.result.revision
                return
            latest, reporter = answer.result.range(0).first, answer.result.range(1).first
            if latest is not None and latest.value == value and latest.mod_revision != self._seen:
                self._seen = latest.mod_revision
                return
            record = None if latest is None else decode(latest, by=str)
            if reporter is None or latest is None or record is None or record["by"] != self._by:
                self._over = "its key is gone, or somebody else wrote over it"
                raise ReporterLost(self._what, self._over)
            self._seen = latest.mod_revision
