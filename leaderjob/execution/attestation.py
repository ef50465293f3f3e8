"""How the next leader learns, without waiting, that the workers of a dead one are gone.

Each attempt has a listening socket of its own, which the guard inherits. While the guard's replica lives nobody
needs it. After the replica's death the guard kills and reaps the worker, then tells whoever connects the
attempt's nonce: nobody else knows it, so it is this guard that says so, and no other process that was
given the port. Where no guard answers, the time has to pass that the hold rule names.
"""

import asyncio
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from leaderjob.json_text import decode

_ASK_AGAIN_S = 0.25
_CONNECT_TIMEOUT_S = 2.0
_LINE_LIMIT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Attestation:
    """Where and as what a guard attests.

    :param address: ``HOST:PORT`` for others.
    :param stay_s: for how long it does so after its replica's death.
    """

    listener: socket.socket
    address: str
    nonce: str
    stay_s: float


@contextmanager
def attestation(host: str, advertised_host: str, *, stay_s: float) -> Iterator[Attestation | None]:
    """Listen for one attempt, on a port of its own; None where that is impossible.

    The attempt has to do without then, which costs its job time if its leader dies, and nothing else.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        yield None
        return
    with listener:
        port = listener.getsockname()[1]
        address = f"[{advertised_host}]:{port}" if ":" in advertised_host else f"{advertised_host}:{port}"
        yield Attestation(listener, address, secrets.token_hex(16), stay_s)


async def attested(address: str, nonce: str) -> None:
    """Return once the guard of that attempt says that no process of it is left. Asks until it is cancelled."""
    while True:
        try:
            if await _ask(address) == nonce:
                return
        except (OSError, ValueError, KeyError, TypeError):
            pass  # cut off, gone, or somebody else: time will tell
        await asyncio.sleep(_ASK_AGAIN_S)


async def _ask(address: str) -> object:
    """What whoever listens there says its nonce is, as soon as it says anything."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=_LINE_LIMIT_BYTES)
    try:
        return decode(await reader.readline(), _LINE_LIMIT_BYTES)["reaped"]
    finally:
        writer.close()
