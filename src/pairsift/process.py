"""This process among others: whether it is the one that talks, and how it says that it was stopped."""

from __future__ import annotations

import os


class Interrupted(Exception):  # noqa: N818 - not an error: the work can be resumed
    """The user asked to stop; what was done until then is kept, and the same work continues from it."""


def first_process() -> bool:
    """Whether this process writes the run and talks: the only one, or the first of all nodes'."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", "0"))
    return local == "0" and os.environ.get("NODE_RANK", "0") == "0"
