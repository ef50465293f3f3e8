"""Whether a replica's process is there, seen without etcd: what lets a crash be told in milliseconds.

Each replica listens on a port of its own and tells whoever connects its incarnation. A candidate holds
such a stream to its predecessor. When it breaks, the candidate dials the literal address of that stream
again: if nobody listens there any more (the host answers "refused"), or somebody with another
incarnation does, the process is gone: that is the VERDICT. A timeout is none (the host may be cut off),
nor is the same incarnation (a connection was merely reset), nor a dial that never worked before.

A verdict grants office, not the right to work: a firewall that rejects looks just like it. Whatever the
old leader could still write is fenced, and its jobs are held back until its workers are surely gone.
"""

import asyncio
import os
from contextlib import suppress

from leaderjob.etcd import KeyValue
from leaderjob.json_text import decode
from leaderjob.model.member import Candidate

_DIAL_AGAIN_FOR_S = 0.05
_DIAL_PAUSE_S = 0.001
_CONNECT_TIMEOUT_S = 2.0
_HELLO_LIMIT_BYTES = 4096
_FIRST_DIAL_PAUSE_S = 1.0


async def incarnation_at(address: str, *, timeout_s: float = _CONNECT_TIMEOUT_S) -> str | None:
    """The incarnation of the process that listens at ``HOST:PORT``, or None if nobody says one."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer, incarnation = await _dial(address)
    except (OSError, ValueError):
        return None
    writer.close()
    return incarnation


async def why_unreachable(address: str, incarnation: str) -> str | None:
    """Why nobody can tell at ``HOST:PORT`` that this incarnation is there, as a few words; None: it says so itself."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer, found = await _dial(address)
    except TimeoutError:
        return f"no answer within {_CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        # Of asyncio's own words, "Connect call failed" is the only one that all failures have.
        return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
    except ValueError as error:
        return str(error)
    writer.close()
    return None if found == incarnation else f"incarnation {found} answers there, and not {incarnation}"


async def witness(predecessor: KeyValue) -> str:
    """Return, with the evidence, once the predecessor's process is certainly gone; until then, wait.

    For a candidate that is not one of ours, or that cannot be reached, this waits for ever: there the
    TTL decides.
    """
    try:
        candidate = Candidate.from_bytes(predecessor.value)
    except ValueError:
        return await _never()
    address = candidate.addresses.get("liveness")
    if address is None:
        return await _never()
    while True:
        literal_address = await _stream_until_it_breaks(address, candidate.incarnation)
        if literal_address is not None:
            evidence = await _verdict(literal_address, candidate.incarnation)
            if evidence is not None:
                return f"{candidate.replica} at {literal_address}: {evidence}"
        await asyncio.sleep(_FIRST_DIAL_PAUSE_S)


async def _stream_until_it_breaks(address: str, incarnation: str) -> str | None:
    """The literal address of a stream to that incarnation that is now broken, or None: there was none.

    Literal, because a name may lead elsewhere the next time, where nobody listens for another reason.
    """
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer, found = await _dial(address)
    except (OSError, ValueError):
        return None
    try:
        peer = writer.get_extra_info("peername")
        if found != incarnation or peer is None:
            return None
        with suppress(OSError):
            while await reader.read(1024):
                pass
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        writer.close()


async def _verdict(address: str, incarnation: str) -> str | None:
    """Dial again for a short while: the evidence that the process is gone, or None."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _DIAL_AGAIN_FOR_S
    while True:
        try:
            async with asyncio.timeout(max(0.001, give_up_at - loop.time())):
                _, writer, found = await _dial(address)
        except ConnectionRefusedError:
            return "the stream broke, and nobody listens there any more"
        except (OSError, ValueError):
            if loop.time() >= give_up_at:
                return None
            await asyncio.sleep(_DIAL_PAUSE_S)
            continue
        writer.close()
        return (
            None if found == incarnation else f"the stream broke, and incarnation {found} listens there now"
        )


async def _dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """:raises OSError: no connection (TimeoutError is one). :raises ValueError: not a replica."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=_HELLO_LIMIT_BYTES)
    try:
        hello = decode(await reader.readline(), _HELLO_LIMIT_BYTES)
        return reader, writer, str(hello["incarnation"])
    except (ValueError, KeyError, TypeError) as error:
        writer.close()
        raise ValueError(f"whoever listens at {address} is not a replica") from error
    except BaseException:
        writer.close()
        raise


async def _never() -> str:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
