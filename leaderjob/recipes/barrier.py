"""A barrier: opens when all of some conditions hold at one revision (a double barrier counts, this one names)."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import aclosing

from leaderjob.errors import NotFound, SettingsError
from leaderjob.etcd import Delete, Etcd, Get, KeyValue, Put, modified_at
from leaderjob.names import check_name, valid_name
from leaderjob.recipes.arguments import check_text, check_wait_s
from leaderjob.recipes.errors import BarrierClosed
from leaderjob.recipes.moments import moments
from leaderjob.recipes.place import place
from leaderjob.recipes.record import decode, encode
from leaderjob.recipes.session import Session
from leaderjob.recipes.settled import on_lease, until_answered

_LAST_WRITE = ".last-write"
"""Beside the conditions, which never begin with a dot. Every write of one writes this too, and compares it: so that a
write that got no answer cannot be done after a later one, although conditions come and go."""

Conditions = Mapping[str, str | None]
"""What is waited for: the value that each is to have; None: any."""


class Barrier:
    """Named conditions, and who waits for them::

        barrier = Barrier(etcd, "release")
        await barrier.set("database", "migrated")
        await barrier.wait({"database": "migrated", "cache": None}, wait_s=60)

    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    """

    def __init__(self, etcd: Etcd, name: str, *, namespace: str = "default") -> None:
        self._etcd = etcd
        self._root = place("barriers", name, namespace)
        self._what = f"barrier {name}"

    async def set(self, condition: str, value: str = "", *, session: Session | None = None) -> int:
        """Let ``condition`` hold, with this value; returns the revision from which on it does.

        :param session: on its lease, so that it is gone with it; None: until it is unset.
        :raises SessionLost: that lease is gone. :raises InvalidName: the condition cannot be part of a key.
        :raises SettingsError: the value is no text. :raises ValueTooLarge: it is too large; nothing was sent.
        :raises AmbiguousWrite: etcd did not answer for long: it may be done or not, or be done later.
        :raises EtcdError: etcd does not answer, or refuses; nothing was written.
        """
        key = self._key(condition)
        check_text(f"{self._what}: the value of the condition {condition}", value)
        by = secrets.token_hex(8)
        value_by = encode(value=value, by=by)
        if session is None:
            return await self._write(condition, by, Put(key, value_by))
        session.check()
        with on_lease(session):
            return await self._write(condition, by, Put(key, value_by, lease=session.lease_id))

    async def unset(self, condition: str) -> None:
        """Let it hold no more, whoever set it.

        :raises NotFound: it is not set. :raises EtcdError: see :meth:`set`.
        """
        key = self._key(condition)
        if await self._etcd.get(key) is None:
            raise NotFound(f"{self._what}: the condition {condition} is not set; nothing was changed")
        await self._write(condition, secrets.token_hex(8), Delete(key))

    async def remove(self) -> None:
        """Delete all of it, whoever set what: the conditions, and what keeps late writes out. So remove it once nobody
        sets anything any more: a write that got no answer could be done after this, and bring a condition back.

        :raises NotFound: there is nothing. :raises EtcdError: etcd does not answer, or refuses.
        """
        if not (await self._etcd.range(self._root, keys_only=True)).kvs:
            raise NotFound(f"{self._what}: there is nothing to remove")
        await self._etcd.delete(self._root, prefix=True, repeatable=True)

    async def wait(self, conditions: Conditions, *, wait_s: float | None = None) -> int:
        """Wait until all hold at once; returns the revision at which they did.

        They may not hold any more by then. Two that held one after the other, and never together, do not open it.

        :param wait_s: for how long at most; 0: only look; None: for ever.
        :raises BarrierClosed: they did not in time; it names those that did not hold at last.
        :raises SettingsError: no condition, a value that is no text, or a time that is none, or negative.
        :raises EtcdError: etcd does not answer, or refuses.
        """
        if not conditions:
            raise SettingsError(f"{self._what}: nothing to wait for: name one condition at least")
        check_wait_s(wait_s)
        for condition, wanted in conditions.items():
            check_name("condition", condition)
            if wanted is not None:
                check_text(f"{self._what}: the value of the condition {condition}", wanted)
        if wait_s == 0:
            found = await self._etcd.range(self._root)
            now = {kv.key.removeprefix(self._root): kv for kv in found.kvs}
            missing = _missing(conditions, now, {})
            if missing:
                raise BarrierClosed(self._what, missing, 0)
            return found.revision
        missing = _missing(conditions, {}, {})
        try:
            async with asyncio.timeout(wait_s) as limit, aclosing(moments(self._etcd, self._root)) as seen:
                read: dict[str, tuple[int, str | None]] = {}
                async for keys, revision in seen:
                    missing = _missing(conditions, keys, read)
                    if not missing:
                        return revision
        except TimeoutError:
            if not limit.expired():
                raise
            raise BarrierClosed(self._what, missing, wait_s) from None
        raise AssertionError("what follows a prefix does not end")

    async def conditions(self) -> dict[str, str]:
        """What is set, and to which value."""
        found = await self._etcd.range(self._root)
        named = {kv.key.removeprefix(self._root): kv for kv in found.kvs}
        values = {name: _value(kv) for name, kv in named.items() if valid_name(name)}
        return {name: value for name, value in values.items() if value is not None}

    def _key(self, condition: str) -> str:
        return self._root + check_name("condition", condition)

    async def _write(self, condition: str, by: str, op: Put | Delete) -> int:
        """Do ``op`` once, however often it has to be sent."""
        beside = self._root + _LAST_WRITE
        mark = encode(by=by, condition=condition)
        last = await self._etcd.get(beside)
        while True:
            seen, version = (last.mod_revision, last.version) if last is not None else (0, 0)
            answer = await until_answered(
                self._etcd, [modified_at(beside, seen)], [op, Put(beside, mark)], [Get(beside), Get(op.key)]
            )
            if answer.result.succeeded:
                return answer.result.revision
            last, found = answer.result.range(0).first, answer.result.range(1).first
            if last is not None and last.value == mark:
                return last.mod_revision
            if answer.unanswered is None or last is None or last.version == version + 1:
                continue  # one other wrote, so this was not done
            if found is not None and isinstance(op, Put) and found.value == op.value:
                return found.mod_revision
            raise answer.unanswered  # others wrote since, and perhaps after this


def _missing(
    conditions: Conditions, keys: Mapping[str, KeyValue], read: dict[str, tuple[int, str | None]]
) -> list[str]:
    """The conditions that do not hold. :param read: what was read already, by name: at which revision, and what."""
    missing = []
    for name, wanted in conditions.items():
        kv = keys.get(name)
        if kv is not None and read.get(name, (0, None))[0] != kv.mod_revision:
            read[name] = kv.mod_revision, _value(kv)
        value = None if kv is None else read[name][1]
        if value is None or (wanted is not None and value != wanted):
            missing.append(name if wanted is None else f"{name}={wanted}")
    return missing


def _value(kv: KeyValue) -> str | None:
    record = decode(kv, value=str)
    return None if record is None else str(record["value"])
