"""Where the recipes keep their keys: ``/leaderjob/<namespace>/<kind>/<name>/``, a public contract."""

from leaderjob.names import check_name


def place(kind: str, name: str, namespace: str) -> str:
    """The prefix of all keys of one lock, queue, …; with a trailing slash, so that none nests in another.

    :param kind: such as ``locks``. :raises InvalidName: ``name`` or ``namespace`` is none.
    """
    check_name("namespace", namespace)
    return f"/leaderjob/{namespace}/{kind}/{check_name('name', name)}/"
