"""What integration tests share."""

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.queues import Counter


@pytest.fixture
def counter(etcd: EmbeddedEtcd, namespace: str) -> Counter:
    return Counter(etcd.endpoint, namespace)
