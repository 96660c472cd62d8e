"""A sweep on other machines: the workers of a dask.distributed scheduler as an executor for `sweep`.

The workers need the same version of this package and, for real data, VTG_DATA_ROOT; they share no disk with
the caller, who alone writes the store.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Any

from vtg_lib.experiments.provenance import model_digest
from vtg_lib.experiments.spec import RunSpec

TIMEOUT = 30.0  # seconds to wait for the scheduler, and for a first worker


class ClusterError(RuntimeError):
    """The cluster cannot be used; says what to do."""


class ClusterExecutor(Executor):
    """Runs calls on the workers, which must have the caller's code; a worker may join at any time.

    Attributes:
        workers: as many as there were at first.
    """

    def __init__(self, client: Any, digests: Mapping[str, str]) -> None:
        self._executor, self._digests = client.get_executor(pure=False), digests
        self.workers = len(client.nthreads())

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """`function(*args, **kwargs)` on some worker; on another one where that worker dies."""
        future: Future[Any] = self._executor.submit(_call, self._digests, function, args, kwargs)
        return future


@contextlib.contextmanager
def connect(address: str, specs: Iterable[RunSpec]) -> Iterator[ClusterExecutor]:
    """The scheduler at `address`, for `sweep(specs, ..., executor=executor, workers=executor.workers)`.

    Raises:
        ClusterError: dask.distributed is not installed, nobody answers, there is no worker, or one that runs
            other code than this process or several runs at once.
    """
    try:
        from distributed import Client
        from distributed.comm.addressing import parse_address, parse_host_port
    except ImportError:
        raise ClusterError("a sweep on a cluster needs dask: pip install 'vtg-lib[cluster]'") from None
    digests = {model: model_digest(model) for model in sorted({spec.model for spec in specs})}
    start = f"start some with `dask worker {address} --nthreads 1`"
    try:
        socket.create_connection(parse_host_port(parse_address(address)[1]), TIMEOUT).close()
        client: Any = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no dask scheduler answers at {address!r} ({error}); expected an address such as "
            "tcp://host:8786, which `dask scheduler` prints when it starts"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError:
            raise ClusterError(f"the scheduler at {address} has no workers; {start}") from None
        for worker, threads in client.nthreads().items():
            if threads != 1:
                raise ClusterError(
                    f"worker {worker}: expected 1 thread, got {threads}, and two runs in one process would "
                    f"mix up their random numbers; {start}"
                )
        for worker, found in client.run(_check, digests, on_error="return").items():
            if isinstance(found, BaseException):
                raise ClusterError(f"worker {worker} cannot run this code: {type(found).__name__}: {found}")
        yield ClusterExecutor(client, digests)


def _check(digests: Mapping[str, str]) -> None:
    """On a worker: its code is the caller's."""
    for model, expected in digests.items():
        if (got := model_digest(model)) != expected:
            raise ClusterError(
                f"expected the caller's code of {model} (digest {expected}), got {got}; install the same "
                "version of vtg_lib there and start the worker again"
            )


def _call(
    digests: Mapping[str, str], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """On a worker, which may have joined since `connect` looked: check, then run with one torch thread."""
    import torch

    _check(digests)
    torch.set_num_threads(1)
    return function(*args, **kwargs)
