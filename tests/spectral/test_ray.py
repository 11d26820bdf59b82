"""A fit whose sums are made by Ray tasks is the fit of one process."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.spectral import SpectralError, SpectralMap

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # Ray's own


@pytest.fixture
def files(tmp_path):
    """Two files of 20,000 rows: three blocks."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((20_000, 4)) @ rng.standard_normal((4, 16))
    paths = []
    for name in ("first", "second"):
        rows = (topics + 2 * rng.standard_normal((20_000, 16))).astype(np.float16)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 16)
        paths.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"features": lists}), paths[-1], row_group_size=3000)
    return paths


def test_tasks_give_the_fit_of_one_process(files):
    pytest.importorskip("ray")
    whole = SpectralMap.fit(*files, drop=np.arange(50))
    spread = SpectralMap.fit(*files, drop=np.arange(50), engine="ray")
    np.testing.assert_allclose(spread.first_map, whole.first_map, rtol=0, atol=1e-10)
    np.testing.assert_allclose(spread.eigenvalues, whole.eigenvalues, rtol=0, atol=1e-10)
    assert spread.loss == pytest.approx(whole.loss, abs=1e-10)
    assert spread.held_out.chosen.values == whole.held_out.chosen.values


def test_a_bad_row_in_a_task_and_a_missing_cluster_are_told(files):
    pytest.importorskip("ray")
    table = pq.read_table(files[1])
    rows = np.stack(table["features"].to_numpy()).copy()
    rows[12_345, 3] = np.nan
    with pytest.raises(SpectralError, match="second row 12,345 is not finite"):
        SpectralMap.fit(files[0], rows, dimensions=4, ridge=0.1, power=1.0, held_out=0, engine="ray")
    with pytest.raises(SpectralError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        SpectralMap.fit(*files, engine="ray", address="127.0.0.1:1")
