"""Jobs that are defined in unusual ways: some work, and each of the others costs nobody else anything."""

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

from leaderjob import JobContext, job


@job
def ordinary(ctx: JobContext) -> str:
    return "ordinary"


def add(ctx: JobContext, left: int, right: int) -> int:
    """Adds two numbers."""
    return left + right


add_one = job(name="add-one")(functools.partial(add, right=1))
add_named_after_its_function = job(functools.partial(add, left=1, right=1))


class Counter:
    """Counts from a number."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __call__(self, ctx: JobContext, by: int = 1) -> int:
        return self._start + by

    def method(self, ctx: JobContext, by: int) -> int:
        return self._start + by

    async def coroutine(self, ctx: JobContext) -> int:
        return self._start


counts = job(name="counts")(Counter(5))
counts_by_method = job(name="counts-by-method")(Counter(6).method)
counts_in_a_coroutine = job(name="counts-in-a-coroutine")(Counter(7).coroutine)
counts_in_a_lambda = job(name="counts-in-a-lambda")(lambda ctx: 8)
without_a_name = job(lambda ctx: 9)


@job(name="a-class")
class AClass:
    def __init__(self, ctx: JobContext) -> None: ...


@job
def generates(ctx: JobContext) -> Iterator[int]:
    yield 1


@job
async def generates_asynchronously(ctx: JobContext) -> AsyncIterator[int]:
    yield 1


generates_in_a_partial = job(name="generates-in-a-partial")(functools.partial(generates.function))
built_in = job(name="built-in")(print)
type_without_signature = job(name="no-signature")(dict.fromkeys)


@job("0 3 * * *")  # type: ignore[call-overload]
def schedule_by_position(ctx: JobContext) -> None: ...


class Lazy:
    """As those of web frameworks: whatever is asked of it fails."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of a request")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of a request")


request = Lazy()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@job
def has_odd_defaults(
    ctx: JobContext,
    first: Any = Unprintable(),  # noqa: B008
    second: Any = float("nan"),
    third: Any = "\udc80",
    fourth: "1 / 0" = None,  # type: ignore[valid-type]
) -> str:
    return "odd"


class Uncopyable:
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("only one of these")


@job(timeout=Uncopyable())  # type: ignore[call-overload]
def has_an_odd_option(ctx: JobContext) -> None: ...
