"""Backups of a store, restored as an operator does it: the server stops, its store is exchanged."""

import shutil
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd


class Backup:
    """The store of a server as it was when this was made. The server is stopped and started for it."""

    def __init__(self, server: EmbeddedEtcd, directory: Path) -> None:
        self._server = server
        self._copy = directory

    async def take(self) -> None:
        self._server.kill()
        shutil.copytree(self._store, self._copy)
        await self._server.start()

    async def restore(self) -> None:
        self._server.kill()
        shutil.rmtree(self._store)
        shutil.copytree(self._copy, self._store)
        await self._server.start()

    @property
    def _store(self) -> Path:
        return self._server.directory / "store"


async def wipe(server: EmbeddedEtcd) -> None:
    """Start the server again with an empty store, on the same ports."""
    server.kill()
    shutil.rmtree(server.directory / "store")
    await server.start()
