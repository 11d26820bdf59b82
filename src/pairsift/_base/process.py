"""Processes: the first of several, interrupts that keep the work, and a connection to Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pairsift._base.extras import needs


class Interrupted(Exception):  # noqa: N818 - not an error, because the work can be resumed
    """The user stopped the work. Its results so far are kept, and the same work can continue from them."""


def first_process() -> bool:
    """Whether this is the only process or the first process of all nodes, which alone writes files and prints."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", "0"))
    return local == "0" and os.environ.get("NODE_RANK", "0") == "0"


@contextmanager
def on_ray(address: str | None, told: Mapping[str, str], error: type[Exception]) -> Iterator[Any]:
    """Connect to Ray for the time of a block. An existing connection of this process is kept.

    Args:
        address: of a cluster, host:port. "auto" finds the cluster of this machine. None takes RAY_ADDRESS, or starts
            Ray on this machine.
        told: environment variables of the workers.
        error: type of the error where the cluster is missing or refuses the connection.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    with needs("distributed", "the engine 'ray'"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    # Without an address, Ray looks for the last cluster of this machine and waits minutes for a cluster that is gone.
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _answers(place)
    except OSError as trouble:
        raise error(f"there is no Ray cluster at {place!r}: start one, or leave `address` out") from trouble
    try:
        ray.init(
            address=place, log_to_driver=False, configure_logging=False, include_dashboard=False,
            runtime_env={"env_vars": dict(told)} if told else None,
        )  # fmt: skip
    except ConnectionError as trouble:
        raise error(
            f"Ray at {place!r} did not let this process in ({trouble}): where it was started by "
            "`ray start` it may ask for its token: set RAY_AUTH_MODE=token"
        ) from trouble
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(place: str) -> None:
    """Raise an OSError within seconds if no process listens at host:port. Ray would take minutes."""
    host, _, port = place.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
