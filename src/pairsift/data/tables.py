"""Parquet files of our own: whole or not there, with a checksum of every page, which readers verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairsift._base.files import replacing

# What reading a damaged file raises.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)


def write_table(path: Path, table: pa.Table) -> None:
    """Write parquet whole or not at all.

    Raises:
        OSError: not writable.
    """
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read parquet; pages that have a checksum are held against it.

    Raises:
        pyarrow.ArrowException, OSError, UnicodeDecodeError: no such file, or a damaged one.
    """
    return pq.read_table(path, columns=columns, page_checksum_verification=True)
