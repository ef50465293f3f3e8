"""The replica's gRPC service ``leaderjob.v1.Replica``: messages are JSON in UTF-8."""

from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from pydantic import ValidationError

from leaderjob.errors import NotFound, SettingsError
from leaderjob.execution.query import QueryFailed, QueryPool, QueryRefused
from leaderjob.model.query import QUERY_METHOD, SERVICE, Answer, Query
from leaderjob.telemetry.events import Events, emit
from leaderjob.tls import CertificateFiles, Fresh

_LONGEST_QUERY_S = 30.0
_DRAIN_S = 1.0


class ReplicaServer:
    """Listens until it is left; then it stops taking queries and finishes those under way for a second.

    :param listen: ``HOST:PORT``; port 0 takes a free one.
    :param certificates: mutual TLS by these: who has no certificate of their authority is refused. None:
        nothing is encrypted.
    """

    def __init__(
        self, replica: str, queries: QueryPool, listen: str, *, certificates: CertificateFiles | None = None
    ) -> None:
        self._replica = replica
        self._queries = queries
        self._listen = listen
        self._certificates = Fresh(certificates, _configuration) if certificates is not None else None
        self._server: Any = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handler = grpc.unary_unary_rpc_method_handler(self._query)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {QUERY_METHOD: handler}),)
        )
        try:
            self.port = self._bind(self._certificates)
        except RuntimeError as error:
            raise SettingsError(
                f"cannot listen on {self._listen}: the port is in use, or the address is not this machine's"
            ) from error
        await self._server.start()
        return self

    def _bind(self, certificates: Fresh[Any] | None) -> int:
        if certificates is None:
            return int(self._server.add_insecure_port(self._listen))
        used = certificates.get()

        def changed() -> Any:
            """Asked at each handshake: another configuration, or None."""
            nonlocal used
            before, used = used, certificates.get()
            return None if used is before else used

        credentials = grpc.dynamic_ssl_server_credentials(used, changed, require_client_authentication=True)
        return int(self._server.add_secure_port(self._listen, credentials))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(_DRAIN_S)

    async def _query(self, request: bytes, context: Any) -> bytes:
        try:
            query = Query.from_bytes(request)
        except ValidationError as error:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"not a query: {error.error_count()} errors"
            )
        left_s = context.time_remaining()
        timeout_s = min(left_s, _LONGEST_QUERY_S) if left_s is not None else _LONGEST_QUERY_S
        try:
            answered = await self._queries.ask(query.job, query.fields, timeout_s)
        except NotFound as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except QueryRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except QueryFailed as error:
            emit(Events.QUERY_FAILED, job=query.job, reason=error, trace=error.trace)
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        return Answer(
            replica=self._replica, job=query.job, version=answered.version, value=answered.value
        ).to_bytes()


def _configuration(files: CertificateFiles) -> Any:
    pem = files.read()
    if pem.ca is None or pem.cert is None:
        raise SettingsError("mutual TLS needs three files: tls.ca, tls.cert and tls.key")
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], root_certificates=pem.ca)
