"""What a replica offers over the network: queries over gRPC.

Answers from this replica's own copy; never talks to the engine. Published bytes travel over HTTP,
served by ``results``.
"""
