"""A DoFn whose elements are worked on by several threads: the core releases the GIL, so both processors are used."""

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.errors import in_plain_words

_WINDOW = GlobalWindow()


class OverlappedDoFn(beam.DoFn):
    """Hands each element to a pool and yields what is done; holds at most two elements a thread at a time.

    Args:
        threads: size of the pool.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def setup(self) -> None:
        """Make the pool, once a worker."""
        self._pool = ThreadPoolExecutor(self.threads)
        self._pending: deque[Future[Sequence[Any]]] = deque()

    def teardown(self) -> None:
        """End the pool."""
        self._pool.shutdown()

    @abstractmethod
    def work(self, element: Any) -> Sequence[Any]:
        """Turn one element into outputs; runs in a thread of the pool."""
        raise NotImplementedError

    def _work(self, element: Any) -> Sequence[Any]:
        with in_plain_words():
            return self.work(element)

    def start_bundle(self) -> None:
        """Forget what a failed bundle left."""
        self._pending.clear()

    def process(self, element: Any) -> Iterator[Any]:
        """Submit an element; yield the outputs of the oldest ones where too many wait."""
        self._pending.append(self._pool.submit(self._work, element))
        while len(self._pending) > 2 * self.threads:
            yield from self._pending.popleft().result()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the outputs of all that is still under way."""
        while self._pending:
            for output in self._pending.popleft().result():
                if isinstance(output, beam.pvalue.TaggedOutput):
                    yield beam.pvalue.TaggedOutput(output.tag, _in_window(output.value))
                else:
                    yield _in_window(output)


class OverlappedGroupsDoFn(OverlappedDoFn):
    """The same for groups: their values are fetched in the engine's own thread, which alone may ask it for them."""

    def process(self, element: tuple[Any, Iterable[Any]]) -> Iterator[Any]:
        """Submit a key and all of its values."""
        key, values = element
        yield from super().process((key, list(values)))


def _in_window(value: Any) -> WindowedValue:
    return WindowedValue(value, _WINDOW.max_timestamp(), (_WINDOW,))
