"""The connection to Sentry: reports are queued, and a thread of the SDK sends them.

Nothing here waits for Sentry, except :meth:`Sentry.close`, for as long as it is told. When 100 reports wait,
further ones are dropped.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from leaderjob.telemetry.events import Events
from leaderjob.telemetry.redaction import Mask, mask_strings
from leaderjob.telemetry.sentry.checkins import Monitor, Pace, check_in_of
from leaderjob.telemetry.sentry.errors import error_of

_QUEUED_REPORTS = 100


class Sentry:
    """Reports what a replica's events say. One in a process: the SDK is set up for all of it.

    :param environment: None is Sentry's own default. :param mask: takes secrets out of what is sent.
    """

    def __init__(
        self,
        dsn: str,
        *,
        environment: str | None,
        release: str,
        replica: str,
        namespace: str,
        mask: Mask = str,
    ) -> None:
        import sentry_sdk  # noqa: PLC0415 - nobody pays for it who does not use it

        # Its types are narrower than the API that they stand for.
        self._sdk: Any = sentry_sdk
        # No integrations: they would change what belongs to others, such as the excepthook and logging.
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=f"leaderjob@{release}",
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            enable_backpressure_handling=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            transport_queue_size=_QUEUED_REPORTS,
            before_send=lambda event, hint: _masked(event, mask),
        )
        self._client = sentry_sdk.get_client()
        self._tags = {"replica": replica, "namespace": namespace}
        self._monitors: Mapping[str, Monitor] = {}
        self._pace = Pace()
        address = urlsplit(dsn)
        # Ids of check-ins are unique in all of a Sentry, which other clusters use as well.
        self._cluster = f"{address.hostname}{address.path}/{self._client.options['environment']}/{namespace}"

    def watch(self, monitors: Mapping[str, Monitor]) -> None:
        """Send check-ins of the runs of these jobs."""
        self._monitors = monitors

    def tell(self, event: Events, fields: Mapping[str, Any]) -> None:
        """An event happened: a listener, see ``events.listen``."""
        error = error_of(event, fields)
        if error is not None:
            error["tags"] |= self._tags
            self._sdk.capture_event(error)
        check_in = check_in_of(event, fields, self._monitors, cluster=self._cluster)
        if check_in is not None and self._pace.allows(check_in, now_s=time.monotonic()):
            self._sdk.crons.capture_checkin(
                monitor_slug=check_in.monitor.slug,
                check_in_id=check_in.id,
                status=check_in.status,
                duration=check_in.duration_s,
                monitor_config=check_in.monitor.config,
            )

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for at most so long; what is left then is dropped."""
        self._client.close(timeout=timeout_s)


def _masked(event: Any, mask: Mask) -> Any:
    """All of it but the trace context, which is the SDK's own: it names the DSN's public key, as Sentry demands."""
    masked = mask_strings(event, mask)
    if "trace" in event.get("contexts", {}):
        masked["contexts"]["trace"] = event["contexts"]["trace"]
    return masked
