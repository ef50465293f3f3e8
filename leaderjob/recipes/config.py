"""A configuration in etcd: typed by a pydantic model, changed while programs run, with a history.

One document per configuration, not one key per value. A change has to be valid as part of the whole, at the
revision at which it is committed, and so it has to compare the whole: with one key that is one compare, which also
sees what ``etcdctl`` deleted (a compare over a range of keys does not), and whoever watches sees each change at once
and complete, whatever number of values it has.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Generic

from pydantic import ValidationError

from leaderjob.clock import boottime, utcnow
from leaderjob.errors import LeaderjobError, NotFound, SettingsError
from leaderjob.etcd import Etcd, KeyValue, TransactionConflict, follow
from leaderjob.recipes.config_commit import MAX_KEPT, commit
from leaderjob.recipes.config_model import ModelT, Schema, plain, refuse_masks, sentence
from leaderjob.recipes.config_path import (
    Difference,
    differences,
    format_path,
    parse_path,
    with_value,
    without,
)
from leaderjob.recipes.config_record import ConfigEntry, Keys, Stored, check_size, read_document, whoami
from leaderjob.recipes.place import place
from leaderjob.telemetry.events import Events, emit

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.5

_Edit = Callable[[dict[str, Any]], dict[str, Any]]

Check = Callable[[Mapping[str, Any], Mapping[str, Any]], None]
"""What else has to hold of a change: is given all values before and after it, and raises where it does not."""


class ConfigUnreadable(LeaderjobError):
    """The document of a configuration was overwritten by something that is none."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(
            f"{key} cannot be changed: {why}; the last valid configuration stays in force. Roll back to an entry of its "
            "history, or delete the key to begin with the defaults"
        )


class ConfigStore(Generic[ModelT]):
    """A configuration that all who know its name share::

        class Limits(BaseModel):
            per_second: int = Field(default=10, gt=0)

        limits = ConfigStore(etcd, Limits, "limits")
        await limits.set("per_second", 20)
        assert (await limits.get()).per_second == 20

    Where a method takes a path, that is text with dots (``jobs.backup.timeout``; a name that has a dot itself goes in
    quotes, as in TOML), or the names in it, one by one. What is stored is only what was set.

    :param model: each of its fields has a default.
    :param keep: how many changes the history keeps, at most 100.
    :param by: who makes the changes; None: ``user@host``. :param timeout_s: for how long a change is tried.
    :param check: what has to hold of a change beside the model; called before each one is committed.
    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    :raises SettingsError: the model has no defaults, or ``keep`` or ``timeout_s`` is out of range.
    """

    def __init__(
        self,
        etcd: Etcd,
        model: type[ModelT],
        name: str,
        *,
        namespace: str = "default",
        keep: int = 50,
        by: str | None = None,
        timeout_s: float = 10.0,
        check: Check | None = None,
    ) -> None:
        if not 1 <= keep <= MAX_KEPT:
            raise SettingsError(f"configuration {name}: keep={keep}; a history has 1 to {MAX_KEPT} entries")
        if not timeout_s > 0:
            raise SettingsError(f"configuration {name}: timeout_s={timeout_s:g}; it has to be positive")
        self._etcd = etcd
        self._keys = Keys(place("config", name, namespace))
        self._name = name
        self._schema = Schema(model)
        self._keep = keep
        self._by = whoami() if by is None else by
        self._timeout_s = timeout_s
        self._check = check

    async def get(self) -> ModelT:
        """The configuration in force: with defaults where nothing is set.

        Where the document in etcd is not valid, because somebody wrote it by other means, that is told by an event, and
        the newest valid entry of the history is in force.

        :raises EtcdError: etcd does not answer, or refuses.
        """
        found = await self._etcd.get(self._keys.current)
        valid = self._read_valid(found)
        return valid if valid is not None else await self._last_valid()

    async def values(self) -> dict[str, Any]:
        """Only what is set, as JSON has it, valid or not; secrets are masked.

        :raises ConfigUnreadable: it is no document. :raises EtcdError: etcd does not answer, or refuses.
        """
        return self._schema.masked(self._values_in(await self._etcd.get(self._keys.current)))

    async def set(self, path: str | Sequence[str], value: Any) -> ConfigEntry:
        """Set one value: of a field, or of a whole table. Returns the entry in the history.

        The whole is validated as it is going to be, and committed only where nobody has changed it since; else all of
        that is done again.

        :raises InvalidConfig: the model refuses it, or does not know the name; why. Nothing was changed.
        :raises InvalidPath: ``path`` is none. :raises ConfigTooLarge: more than 128 KiB would be set.
        :raises ConfigUnreadable: what is stored is no document.
        :raises TransactionConflict: others were always first, for ``timeout_s``. Nothing was changed.
        :raises AmbiguousWrite: etcd did not answer for ``timeout_s``: it may be done or not.
        :raises EtcdError: etcd does not answer, or refuses; nothing was changed.
        """
        return await self.update({format_path(parse_path(path)): value})

    async def update(self, changes: Mapping[str, Any]) -> ConfigEntry:
        """Set several values by their paths: all at once, or none. :raises: as :meth:`set`."""
        wanted = {parse_path(path): plain(self._name, value) for path, value in changes.items()}
        if not wanted:
            raise SettingsError(f"configuration {self._name}: no change was given; name one path at least")

        def edit(values: dict[str, Any]) -> dict[str, Any]:
            for path, value in wanted.items():
                values = with_value(values, path, value)
            return values

        return await self._change(f"set {', '.join(map(format_path, wanted))}", edit)

    async def unset(self, path: str | Sequence[str]) -> ConfigEntry:
        """Let the default apply again to a field, or a table.

        :raises NotFound: nothing is set there. :raises: as :meth:`set`.
        """
        names = parse_path(path)
        shown = format_path(names)

        def edit(values: dict[str, Any]) -> dict[str, Any]:
            try:
                return without(values, names)
            except KeyError:
                raise NotFound(
                    f"configuration {self._name}: nothing is set at {shown}; its default applies"
                ) from None

        return await self._change(f"unset {shown}", edit)

    async def rollback(self, number: int) -> ConfigEntry:
        """Set again exactly what was set after entry ``number``; 0: nothing. This is a change as any other, with an
        entry of its own, and repairs a document that cannot be read.

        :raises NotFound: the history does not have that entry, or no more. :raises: as :meth:`set`.
        """
        return await self._change(f"rollback to {number}", None, to=number)

    async def history(self) -> tuple[ConfigEntry, ...]:
        """The latest changes, oldest first; secrets are masked. What is no entry is left out, and told by an event.

        :raises EtcdError: etcd does not answer, or refuses.
        """
        return tuple(map(self._masked, (await self._read()).entries.values()))

    async def diff(self, older: int | None = None, newer: int | None = None) -> tuple[Difference, ...]:
        """What differs between two states, value by value; secrets are masked.

        :param older: after which entry; 0: nothing is set; None: before the latest change.
        :param newer: the same; None: now.
        :raises NotFound: the history does not have that entry, or no more.
        :raises ConfigUnreadable: the document as it is now is none.
        """
        stored = await self._read()
        if older is None:
            last = next(reversed(stored.entries.values()), None)
            before = last.before or {} if last is not None else {}
        else:
            before = self._after(stored, older)
        after = self._values_in(stored.current) if newer is None else self._after(stored, newer)
        # Compared as they are: a secret that changed has the same mask before and after.
        return differences(before, after, shown=self._schema.masked)

    async def watch(self) -> AsyncGenerator[ModelT, None]:
        """The configuration in force, then each that comes, one for each change::

            async with aclosing(store.watch()) as configurations:
                async for configuration in configurations:
                    apply(configuration)

        A document that is not valid is told by an event, and yields nothing. Where etcd has compacted changes away
        before they were seen, only the last of them comes. Goes on across outages. Runs until it is closed.

        :raises EtcdError: etcd does not answer when it begins, or refuses.
        """
        begun = False
        async with aclosing(follow(self._etcd, self._keys.current)) as batches:
            async for batch in batches:
                found = [event.now for event in batch.events if event.key == self._keys.current]
                if batch.listed:
                    found = found[-1:]
                states = [self._read_valid(kv) for kv in (found or ([] if begun else [None]))]
                if not begun and states[-1] is None:
                    states = [await self._last_valid()]
                begun = True
                for state in states:
                    if state is not None:
                        yield state

    async def _change(self, what: str, edit: _Edit | None, *, to: int = 0) -> ConfigEntry:
        """:param edit: makes the values that are to be of those that are; None: take those of entry ``to``."""
        give_up_at = boottime() + self._timeout_s
        pause_s, tries = _FIRST_PAUSE_S, 0
        while True:
            tries += 1
            stored = await self._read()
            before: dict[str, Any] | None
            try:
                before = self._values_in(stored.current)
            except ConfigUnreadable:
                if edit is not None:
                    raise
                before = None
            after = edit(before or {}) if edit is not None else self._after(stored, to)
            refuse_masks(self._name, before, after)
            self._schema.check_change(self._name, before or {}, after)
            if self._check is not None:
                self._check(before or {}, after)
            check_size(self._name, after)
            entry = ConfigEntry(
                number=stored.number + 1,
                id=secrets.token_hex(8),
                by=self._by,
                at=utcnow(),
                what=what,
                before=before,
                after=after,
            )
            mod_revision = stored.current.mod_revision if stored.current else 0
            if await commit(
                self._etcd,
                self._keys,
                entry,
                mod_revision=mod_revision,
                keep=self._keep,
                give_up_at=give_up_at,
            ):
                emit(
                    Events.CONFIG_CHANGED, key=self._keys.current, number=entry.number, by=entry.by, what=what
                )
                return self._masked(entry)
            if boottime() >= give_up_at:
                raise TransactionConflict(tries, self._timeout_s)
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _masked(self, entry: ConfigEntry) -> ConfigEntry:
        before = self._schema.masked(entry.before) if entry.before is not None else None
        return entry.model_copy(update={"before": before, "after": self._schema.masked(entry.after)})

    async def _read(self) -> Stored:
        return Stored.of(self._keys, (await self._etcd.range(self._keys.root)).kvs)

    def _values_in(self, current: KeyValue | None) -> dict[str, Any]:
        if current is None:
            return {}
        try:
            return read_document(current).values
        except ValueError as error:
            raise ConfigUnreadable(current.key, str(error)) from error

    def _after(self, stored: Stored, number: int) -> dict[str, Any]:
        if number == 0:
            return {}
        entry = stored.entries.get(number)
        if entry is None:
            kept = (
                f"it has {min(stored.entries)} to {max(stored.entries)}" if stored.entries else "it is empty"
            )
            raise NotFound(f"the history of configuration {self._name} has no entry {number}: {kept}")
        return entry.after

    def _read_valid(self, kv: KeyValue | None) -> ModelT | None:
        """None, and an event: it is not valid."""
        try:
            return self._schema.validate(self._values_in(kv))
        except ValidationError as error:
            reason = sentence(error)
        except ConfigUnreadable as error:
            reason = str(error)
        emit(Events.CONFIG_INVALID, key=self._keys.current, reason=reason)
        return None

    async def _last_valid(self) -> ModelT:
        for entry in reversed((await self._read()).entries.values()):
            try:
                return self._schema.validate(entry.after)
            except ValidationError:
                continue  # of another release, with another model
        return self._schema.validate({})
