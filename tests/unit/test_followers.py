"""A follower for each job, of which none takes another one with it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from leaderjob.keep_running import keep_running
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.serving.followers import follow_all


@dataclass
class _QuietFeed:
    """A feed that shows nothing and never changes."""

    view: View = field(default_factory=View)

    async def until(self, condition: Any) -> View:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


@pytest.mark.timeout_s(10)
async def test_a_follower_that_breaks_begins_anew_and_the_others_do_not_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = {**(keep_running.__kwdefaults__ or {}), "first_pause_s": 0.001}
    monkeypatch.setattr(keep_running, "__kwdefaults__", quick)
    made: list[str] = []
    ended: list[str] = []

    @dataclass
    class Following:
        job: str

        async def run(self) -> None:
            if made.count("bad") == 1 and self.job == "bad":
                raise RuntimeError("a defect")
            if self.job == "bad":
                both.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(self.job)

    def make(job: str) -> Any:
        made.append(job)
        return Following(job)

    both = asyncio.Event()
    feed = cast(Feed, _QuietFeed())
    following = asyncio.create_task(follow_all(feed, make, frozenset({"bad", "good"})))
    await both.wait()
    assert ended == []
    following.cancel()
    await asyncio.wait([following])
    assert made == ["bad", "good", "bad"]
    assert sorted(ended) == ["bad", "good"]
