"""Ask the replica in this container whether it is alive; exit with 0 if it is, with 1 and a line if not.

Its port is that of ``LEADERJOB_REPLICA_LISTEN_HTTP``. Where ``LEADERJOB_TLS_CERT`` is set it speaks TLS; whose
certificate it shows is not checked, for nobody else can listen at this port of this container.
"""

import http.client
import os
import ssl
import sys

TIMEOUT_S = 3.0


def connect() -> http.client.HTTPConnection:
    port = int(os.environ["LEADERJOB_REPLICA_LISTEN_HTTP"].rpartition(":")[2])
    if not os.environ.get("LEADERJOB_TLS_CERT"):
        return http.client.HTTPConnection("localhost", port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT_S, context=context)


def main() -> int:
    connection = connect()
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from /healthz: {error!r}")
        return 1
    finally:
        connection.close()
    print(said)
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
