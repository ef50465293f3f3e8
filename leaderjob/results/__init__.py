"""The bytes of published artifacts, on this replica: store, transfer, verification, activation, retention.

What lives here: ``digests`` (BLAKE3 of files and of their pieces), ``manifest`` (canonical JSON, checked
before it is believed), ``store`` and ``intake`` (content-addressed objects, and the only door through
which they come in), ``httpd``, ``connections`` and ``server`` (serving them, in threads, off the event loop), ``source`` and ``transfer`` (fetching them),
``activation`` (which version of each job is in force here, and what may be removed).

What may not: etcd, gRPC and asyncio. Everything here blocks and is thread-safe; asyncio code calls it
through ``asyncio.to_thread``. Nothing here decides what is published or when to fetch: whoever reads the
pointer from etcd says so, and passes plain values.
"""
