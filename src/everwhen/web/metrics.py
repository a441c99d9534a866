"""What a server has done since it started, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

MEDIA: Final = "text/plain; version=0.0.4; charset=utf-8"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
"""Any other is counted as one: whoever asks must not make the list longer."""


class WebMetrics:
    """Requests, by method and status, and how long they took, in seconds."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds = 0.0

    def count(self, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests[method if method in _METHODS else "other", status] += 1
        self._seconds += seconds

    def text(self, gauges: Mapping[str, tuple[str, int]]) -> str:
        """The text format; ``gauges`` are other values, by name, with what they are."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, tuple[str, int]]) -> Iterator[str]:
        yield "# HELP everwhen_http_requests_total Requests answered."
        yield "# TYPE everwhen_http_requests_total counter"
        for (method, status), number in sorted(self._requests.items()):
            yield f'everwhen_http_requests_total{{method="{method}",status="{status}"}} {number}'
        yield "# HELP everwhen_http_errors_total Requests that failed here (5xx)."
        yield "# TYPE everwhen_http_errors_total counter"
        failed = sum(n for (_, status), n in self._requests.items() if status >= 500)
        yield f"everwhen_http_errors_total {failed}"
        yield "# HELP everwhen_http_request_seconds Time until an answer ended."
        yield "# TYPE everwhen_http_request_seconds summary"
        yield f"everwhen_http_request_seconds_sum {self._seconds:.6f}"
        yield f"everwhen_http_request_seconds_count {self._requests.total()}"
        for name, (words, value) in gauges.items():
            yield f"# HELP {name} {words}"
            yield f"# TYPE {name} gauge"
            yield f"{name} {value}"
