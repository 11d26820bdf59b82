"""`SpectralMap`: linear maps of given features that minimise the spectral contrastive loss exactly."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from pairsift._base.extras import needs
from pairsift._base.files import read_tensors, write_tensors
from pairsift.pairs import Selector
from pairsift.spectral.choice import (
    FEWEST_HELD,
    MOST_FOLDS,
    MOST_HELD,
    Candidates,
    Choices,
    Fold,
    Grid,
    HeldOut,
    choose,
    row_keys,
)
from pairsift.spectral.edits import masks_of, selected_pairs, with_margin
from pairsift.spectral.errors import SpectralError, TooWideError
from pairsift.spectral.moments import Array, Covariances, Float64, Moments
from pairsift.spectral.solution import Solution, population_loss, solve
from pairsift.spectral.streams import Features, PairStream, blocks_of, opened, stream_of

Log = Callable[[str], None]
# Matrices of D x D numbers that a fit holds at once.
_MATRICES = 12
# Up to this width there are several folds; wider matrices take more time than the noise of one fold is worth.
_FOLDED = 1024
_TRANSFORMED = 65_536
_FORMAT = "1"


@dataclass(frozen=True)
class Edit:
    """A margin on the pairs of a selector, and how often the selection is made anew by the map's own features."""

    selector: Selector
    margin: float
    rounds: int


class SpectralMap:
    """Linear maps of given features that minimise the spectral contrastive loss, found without gradient steps.

    For positive pairs with features `a` and `b` the map gives `f(a) = W'(a - mean)` and `g(b) = V'(b - mean)`, the
    minimisers of `-2 E_pos f.g + E_indep (f.g)^2` (HaoChen et al. 2021, arXiv 2106.04156) of a given width. The
    solution is one eigenproblem: canonical correlation analysis (Hotelling 1936), as Balestriero and LeCun (2022, arXiv
    2205.11508) show for spectral losses. `fit` reads the pairs once, in blocks, and chooses the settings itself.

    Use the constructor with `partial_fit` and `merge` where the pairs come in parts; then the settings must be given.

    Args:
        dimensions: width k of the maps.
        ridge: variance that is added to the features before they are whitened, relative to their mean variance, >= 0.
        power: exponent p of the scaling `U S^p` of directions. 0.5 is the balanced solution; with 1 the directions that
            pairs share most weigh more in a cosine.
        towers: 1 for one map of both sides, 2 for a map of each; None takes 1 where both sides have one width.

    Attributes:
        first_map: (D, k) `W`.
        second_map: (E, k) `V`; with one tower the same array.
        eigenvalues: (k,) singular values of the whitened covariance of pairs, in descending order. They are estimates
            from a sample and too high; `held_out.correlations` are not.
        loss: value of the loss on the training pairs.
        held_out: what held-out pairs said and what was chosen; None without held-out pairs.

    Raises:
        SpectralError: a setting out of range.

    Example:
        >>> import numpy as np
        >>> import pairsift as ps
        >>> rng = np.random.default_rng(0)
        >>> topics = rng.standard_normal((2000, 5)) @ rng.standard_normal((5, 40))
        >>> noise = rng.standard_normal((2, 2000, 40))
        >>> fitted = ps.SpectralMap.fit(topics + noise[0], topics + noise[1], dimensions=5)
        >>> fitted.transform(topics).shape
        (2000, 5)
        >>> fitted.held_out.adapted.mrr > fitted.held_out.frozen.mrr
        True
    """

    def __init__(self, dimensions: int, ridge: float = 0.1, power: float = 1.0, towers: int | None = None) -> None:
        _check_settings(dimensions, ridge, power, towers)
        self.dimensions, self.ridge, self.power, self.towers = dimensions, float(ridge), float(power), towers
        self.held_out: HeldOut | None = None
        self._moments: Moments | None = None
        self._solved: _Solved | None = None

    @classmethod
    def fit(  # noqa: PLR0913 (settings are keywords, as in TrainConfig's fields)
        cls,
        first: Features,
        second: Features | None = None,
        *,
        views: int | None = None,
        dimensions: Choices[int] = None,
        ridge: Choices[float] = None,
        power: Choices[float] = None,
        towers: int | None = None,
        drop: NDArray[Any] | None = None,
        selector: Selector | None = None,
        margin: float = 0.0,
        rounds: int = 2,
        held_out: float = 0.1,
        seed: int = 0,
        memory_gb: float = 4.0,
        log: Log | None = None,
    ) -> SpectralMap:
        """Fit the maps to positive pairs; settings that are not given are chosen on held-out pairs, without labels.

        A tenth of the pairs (2,048 at the most) are held out, in up to three folds where that gives few. Training pairs
        that share a row with them are left out of the fits that are compared. Each setting is scored by the mean of
        -log(rank) of the held-out pairs' own positives. Among the settings within 1.96 standard errors of the best
        (paired differences) the narrowest is taken. The map is then fitted to all pairs.

        Args:
            first: (N, D) features of one side: an array, a tensor, a memory map, a path that `data.open_features`
                reads, or a `FeatureSource`. Without `second`, (N, V, D) or (N V, D) views of examples.
            second: (N, E) features of the other side; row i is the positive of row i.
            views: V, where rows of `first` that follow each other are views of one example.
            dimensions: width k, or several to choose from; None chooses among powers of two from 8 on.
            ridge: see `SpectralMap`, or several to choose from; None chooses from 0.001 to 10.
            power: see `SpectralMap`, or several to choose from; None chooses 0.5 or 1.
            towers: see `SpectralMap`.
            drop: (N,) bool, or positions: pairs that are left out of all sums.
            selector: which pairs are difficult; they get the margin. Of one tower all rows of both sides are compared
                among themselves, first sides first; of two towers first sides with second sides. The features must fit
                into memory.
            margin: sigma of Eq. 31 (arXiv 2501.01317), added to the similarity of the selected pairs, >= 0.
            rounds: how often pairs are selected by the map's own features and the map is solved again, >= 1.
            held_out: share of the pairs that a fold holds out, in [0, 0.5]; 0 needs `dimensions`, `ridge` and `power`.
            seed: of the held-out pairs.
            memory_gb: that the fit may take.
            log: called with lines of text about what is found.

        Raises:
            SpectralError: features, pairs or settings that no map can be fitted with; the message names the remedy.
            DataError: a file that cannot be read.

        Example:
            See `SpectralMap`.
        """
        grid = Grid.of(ridge, dimensions, power)
        _check_grid(grid, towers)
        if not 0 <= held_out <= 0.5:
            raise SpectralError(f"held_out must lie in [0, 0.5], got {held_out}")
        if not held_out and not grid.single:
            raise SpectralError("held_out=0 leaves nothing to choose by: give dimensions, ridge and power")
        edit = _edit(selector, margin, rounds)
        say: Log = log or _silent
        stream = stream_of(first, second, views)
        towers = _towers(towers, stream)
        kept = _kept(drop, stream.rows)
        _check_size(stream, kept, grid, towers, memory_gb, edit, say)
        held = _held_pairs(stream, kept, held_out, seed, towers, grid)
        total, shared = _summed(stream, kept, held)
        _check_pairs(total.covariances(towers), say)
        chosen: HeldOut | None = None
        if held:
            folds = [
                Fold(_rest(total, part).covariances(towers), each) for part, each in zip(shared, held, strict=True)
            ]
            left_out = round(sum(part.count - len(each) for part, each in zip(shared, held, strict=True)) / len(held))
            chosen = choose(folds, left_out, grid)
            say(f"chose {chosen}")
        made = cls(*(grid.only if chosen is None else chosen.chosen.values), towers)
        made.held_out, made._moments = chosen, total
        made._current()
        if edit is not None:
            made._solve_edited(edit, stream, kept, say)
        return made

    @property
    def first_map(self) -> Float64:
        """See the class."""
        return self._current().first

    @property
    def second_map(self) -> Float64:
        """See the class."""
        return self._current().second

    @property
    def first_mean(self) -> Float64:
        """(D,) mean of the first features, which `transform` subtracts."""
        return self._current().first_mean

    @property
    def second_mean(self) -> Float64:
        """(E,) mean of the second features, which `transform_second` subtracts."""
        return self._current().second_mean

    @property
    def eigenvalues(self) -> Float64:
        """See the class."""
        return self._current().values

    @property
    def loss(self) -> float:
        """See the class."""
        return self._current().loss

    def partial_fit(self, first: Features, second: Features | None = None, *, views: int | None = None) -> Self:
        """Add pairs to those that the map was fitted to; the settings stay.

        Args:
            first: see `fit`.
            second: see `fit`.
            views: see `fit`.

        Raises:
            SpectralError: see `fit`; or features of other widths than before.
        """
        stream = stream_of(first, second, views)
        self.towers = _towers(self.towers, stream)
        part, _ = _summed(stream, np.ones(stream.rows, bool), [])
        self._moments = part if self._moments is None else self._moments.merge(part)
        self._solved = None
        return self

    def merge(self, other: SpectralMap) -> Self:
        """Add the pairs of another map, fitted to another part of the data; the settings stay.

        Raises:
            SpectralError: features of other widths, another number of towers, or a map without its sums.
        """
        if other._moments is None or self.towers not in (None, other.towers):
            raise SpectralError(
                "only maps with their sums and with as many towers can be merged: fit both, or save them with sums=True"
            )
        self.towers = other.towers
        mine = Moments(*_shape(other._moments)) if self._moments is None else self._moments
        self._moments = mine.merge(other._moments)
        self._solved = None
        return self

    def transform(self, features: Features) -> NDArray[np.float32]:
        """Map features of the first side.

        Args:
            features: (N, D), see `fit`.

        Returns:
            (N, k) float32. Compare rows by cosine.

        Raises:
            SpectralError: features of another width.
        """
        return _mapped(features, self.first_mean, self.first_map)

    def transform_second(self, features: Features) -> NDArray[np.float32]:
        """Map features of the second side; with one tower the same as `transform`.

        Args:
            features: (N, E), see `fit`.

        Returns:
            (N, k) float32. Compare rows by cosine.

        Raises:
            SpectralError: features of another width.
        """
        return _mapped(features, self.second_mean, self.second_map)

    def module(self, *, second: bool = False) -> UnitLinear:
        """The map as a module: (N, D) tensors to (N, k) rows of unit length.

        Args:
            second: whether the map of the second side is wanted.
        """
        mean, matrix = (self.second_mean, self.second_map) if second else (self.first_mean, self.first_map)
        return UnitLinear(matrix, mean)

    def sentence_transformer(self, model: Any, *, second: bool = False) -> Any:
        """A sentence-transformers model with the map behind its modules, saved and loaded like any other.

        Args:
            model: a `SentenceTransformer` whose embeddings the map was fitted on.
            second: whether the map of the second side is wanted.

        Raises:
            SpectralError: the model's embeddings have another width than the map.
        """
        return extended(model, [(self.module(second=second).linear, nn.Identity())])

    def save(self, path: Path | str, *, sums: bool = False) -> None:
        """Write the map as safetensors with a checksum, whole or not at all.

        Args:
            path: file to write.
            sums: whether to keep the sums too (three matrices of D x D), so that a loaded map can go on with
                `partial_fit` and `merge`.

        Raises:
            SpectralError: nothing is fitted yet.
            OSError: not writable.
        """
        arrays = {
            "first_map": self.first_map, "first_mean": self.first_mean, "eigenvalues": self.eigenvalues,
        }  # fmt: skip
        if self.towers == 2:
            arrays |= {"second_map": self.second_map, "second_mean": self.second_mean}
        facts: dict[str, Any] = {
            "dimensions": self.dimensions, "ridge": self.ridge, "power": self.power, "towers": self.towers,
            "loss": self.loss,
        }  # fmt: skip
        if sums and self._moments is not None:
            kept = self._moments
            arrays |= {
                "sums.first": kept.scatter, "sums.cross": kept.cross_scatter, "sums.first_mean": kept.means[0],
                "sums.second_mean": kept.means[1],
            }  # fmt: skip
            arrays |= {} if kept.views else {"sums.second": kept.second_scatter}
            facts["count"] = kept.count
        tensors = {name: torch.from_numpy(np.array(each)) for name, each in arrays.items()}
        write_tensors(Path(path), tensors, {"pairsift.spectral": _FORMAT, "facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path | str) -> SpectralMap:
        """Read a map that `save` wrote; `held_out` is not kept.

        Raises:
            SpectralError: no map, or a damaged file.
            OSError: no such file.
        """
        try:
            tensors, metadata = read_tensors(Path(path))
            if metadata.get("pairsift.spectral") != _FORMAT:
                raise SpectralError(f"{path} holds no spectral map of this version of pairsift")
            arrays = {name: each.numpy() for name, each in tensors.items()}
            facts = json.loads(metadata["facts"])
            made = cls(facts["dimensions"], facts["ridge"], facts["power"], facts["towers"])
            first, mean = arrays["first_map"], arrays["first_mean"]
            made._solved = _Solved(
                first, arrays.get("second_map", first), mean, arrays.get("second_mean", mean), arrays["eigenvalues"],
                float(facts["loss"]),
            )  # fmt: skip
            if "count" in facts:
                made._moments = _moments_of(arrays, facts["count"])
        except (SpectralError, OSError):
            raise
        except Exception as error:  # safetensors, JSON, missing names: a damaged file has many ways to fail
            words = " ".join(str(error).split())
            raise SpectralError(f"{path} cannot be read as a spectral map ({type(error).__name__}): {words}") from error
        return made

    def __repr__(self) -> str:
        inside = "" if self._solved is None else f"{len(self._solved.first_mean)} -> "
        return (
            f"SpectralMap({inside}{self.dimensions}, ridge={self.ridge:g}, power={self.power:g}, towers={self.towers})"
        )

    def _covariances(self) -> Covariances:
        if self._moments is None or self.towers is None:
            raise SpectralError("the map is not fitted yet: call fit, partial_fit or merge first")
        return self._moments.covariances(self.towers)

    def _current(self) -> _Solved:
        """The solution of all pairs added so far."""
        if self._solved is None:
            covariances = self._covariances()
            solution = solve(covariances, self.ridge, self.dimensions)
            self._solved = self._scaled(covariances, solution, self._balanced_loss(covariances, solution))
        return self._solved

    def _scaled(self, covariances: Covariances, solution: Solution, loss: float) -> _Solved:
        if len(solution.values) < self.dimensions:
            raise TooWideError(self.dimensions, len(solution.values))
        maps, means = solution.maps(self.dimensions, self.power), (covariances.first_mean, covariances.second_mean)
        return _Solved(*maps, *means, solution.values[: self.dimensions], loss)

    def _balanced_loss(self, covariances: Covariances, solution: Solution) -> float:
        """The loss of the balanced map, whatever the power: it is the map that minimises it."""
        return population_loss(covariances, *solution.maps(self.dimensions, 0.5))

    def _solve_edited(self, edit: Edit, stream: PairStream, kept: NDArray[np.bool_], say: Log) -> None:
        """Select pairs by the map's own features and solve again with their margin."""
        sides = stream.pairs(np.flatnonzero(kept))
        plain = self._covariances()
        for number in range(edit.rounds):
            seen = self.transform(sides[0]), self.transform_second(sides[1])
            pairs = selected_pairs(edit.selector, plain, sides, seen)
            edited = with_margin(plain, pairs, edit.margin)
            solution = solve(edited, self.ridge, self.dimensions)
            loss = self._balanced_loss(edited, solution) + edit.margin**2 * pairs.square
            self._solved = self._scaled(edited, solution, loss)
            say(f"margin {edit.margin:g} on {pairs.share:.2%} of all pairs, round {number + 1} of {edit.rounds}")


class _Solved(NamedTuple):
    """The maps of some sums."""

    first: Float64
    second: Float64
    first_mean: Float64
    second_mean: Float64
    values: Float64
    loss: float


class UnitLinear(nn.Module):
    """A linear map with a bias, and unit length behind it.

    Args:
        matrix: (D, k) of the map.
        mean: (D,) that is subtracted from features first.
    """

    def __init__(self, matrix: Float64, mean: Float64) -> None:
        super().__init__()
        self.linear = nn.Linear(*matrix.shape)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(matrix.T.copy()))
            self.linear.bias.copy_(torch.from_numpy(-mean @ matrix))

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, k) rows of unit length."""
        return F.normalize(self.linear(features), dim=-1)


def extended(model: Any, layers: Sequence[tuple[nn.Linear, nn.Module]]) -> Any:
    """A sentence-transformers model with linear layers, their activations and unit length behind its modules.

    Args:
        model: a `SentenceTransformer`.
        layers: linear layers and the activation behind each.

    Raises:
        SpectralError: the model's embeddings have another width than the first layer takes.
    """
    with needs("text", "sentence_transformer"):
        from sentence_transformers import SentenceTransformer
    try:
        modules_of = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    except ModuleNotFoundError:  # older versions keep them elsewhere
        modules_of = importlib.import_module("sentence_transformers.models")

    measure = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    width, taken = measure(), layers[0][0].in_features
    if width != taken:
        raise SpectralError(
            f"the model's embeddings have {width} dimensions, and the map was fitted on {taken}: give the encoder that "
            "made the features"
        )
    modules = [*model]
    for linear, activation in layers:
        dense = modules_of.Dense(linear.in_features, linear.out_features, bias=True, activation_function=activation)
        dense.linear.load_state_dict(linear.state_dict())
        modules.append(dense)
    return SentenceTransformer(
        modules=[*modules, modules_of.Normalize()], device=str(model.device), prompts=dict(model.prompts)
    )


def _check_settings(dimensions: int, ridge: float, power: float, towers: int | None) -> None:
    if isinstance(dimensions, bool) or not isinstance(dimensions, (int, np.integer)) or dimensions < 1:
        raise SpectralError(f"dimensions must be a whole number >= 1, got {dimensions!r}")
    for name, value in (("ridge", ridge), ("power", power)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < np.inf:
            raise SpectralError(f"{name} must be a number >= 0, got {value!r}")
    if towers not in (None, 1, 2):
        raise SpectralError(f"towers must be 1 (one map of both sides) or 2 (a map of each), got {towers!r}")


def _check_grid(grid: Grid, towers: int | None) -> None:
    for dimensions in (1,) if grid.given_widths is None else grid.given_widths:
        for ridge in grid.ridges:
            for power in grid.powers:
                _check_settings(dimensions, ridge, power, towers)
    if not grid.ridges or not grid.powers or grid.given_widths == ():
        raise SpectralError("dimensions, ridge and power need at least one value to choose from")


def _edit(selector: Selector | None, margin: float, rounds: int) -> Edit | None:
    if not 0 <= margin < np.inf:
        raise SpectralError(f"margin must be a number >= 0, got {margin}")
    if (selector is None) != (margin == 0):
        raise SpectralError(
            f"a margin needs a selector and a selector a margin, got margin={margin} and selector={selector!r}"
        )
    if rounds < 1:
        raise SpectralError(f"rounds must be at least 1, got {rounds}")
    return None if selector is None else Edit(selector, margin, rounds)


def _towers(towers: int | None, stream: PairStream) -> int:
    first, second = stream.widths
    if towers == 1 and first != second:
        raise SpectralError(
            f"one tower needs features of one encoder, got {first} and {second} dimensions: use towers=2"
        )
    if towers == 2 and stream.moments().views:
        raise SpectralError("views of an example have one tower: leave towers out")
    return towers or (1 if first == second else 2)


def _kept(drop: NDArray[Any] | None, rows: int) -> NDArray[np.bool_]:
    """(N,) which pairs are summed."""
    kept = np.ones(rows, bool)
    if drop is not None:
        dropped = np.asarray(drop)
        if dropped.dtype == bool and dropped.shape != (rows,):
            raise SpectralError(f"drop has shape {dropped.shape}, and there are {rows:,} pairs")
        if dropped.dtype != bool and (dropped.dtype.kind not in "iu" or (dropped.size and not (
            dropped.min() >= 0 and dropped.max() < rows))):  # fmt: skip
            raise SpectralError(f"drop must be (N,) bool, or positions from 0 to {rows - 1:,}, got {drop!r}")
        kept[dropped] = False
    return kept


def _check_size(
    stream: PairStream, kept: NDArray[np.bool_], grid: Grid, towers: int, memory_gb: float, edit: Edit | None, say: Log
) -> None:  # fmt: skip
    width, pairs = max(stream.widths), int(kept.sum())
    if pairs < 2:
        raise SpectralError(f"{pairs} pairs say nothing about what positives share: give at least 2")
    if grid.most is not None and grid.most > min(stream.widths):
        raise SpectralError(
            f"dimensions={grid.most} is more than the {min(stream.widths):,} that the features have: lower it"
        )
    needed = 8 * _MATRICES * width**2 + (0 if edit is None else 2 * stream.bytes_in_memory)
    if needed > memory_gb * 1e9:
        what = "features for the selector and " if edit is not None else ""
        raise SpectralError(
            f"{what}covariances of {width:,} dimensions take {needed / 1e9:.2g} GB, and memory_gb={memory_gb:g} are "
            "allowed: raise it, or reduce the features to fewer dimensions"
        )
    samples = pairs * (2 if towers == 1 else 1)
    if samples <= width:
        if 0.0 in grid.ridges:
            raise SpectralError(
                f"{pairs:,} pairs cannot fix {width:,} dimensions without a ridge: every pair would be fitted "
                "perfectly; give ridge > 0, or leave it out"
            )
        say(
            f"{pairs:,} pairs are fewer than the {width:,} dimensions allow to tell apart: the ridge shrinks the "
            "directions that the pairs do not fix"
        )
    if edit is not None:
        seen = stream.pairs(np.flatnonzero(kept))
        masks_of(edit.selector, seen, one_tower=towers == 1)  # another number of rows is refused before any work


def _check_pairs(covariances: Covariances, say: Log) -> None:
    """Refuse pairs that no map can learn from; tell of columns that say nothing."""
    for name, covariance in (("first", covariances.first), ("second", covariances.second)):
        variances = np.diagonal(covariance)
        total = float(variances.sum())
        mean = covariances.first_mean if name == "first" else covariances.second_mean
        if not total > 1e-12 * max(float(mean @ mean), 1e-300):
            raise SpectralError(f"{name}: all rows are equal, so nothing tells them apart")
        constant = int((variances <= 1e-12 * variances.max()).sum())
        if constant:
            say(f"{name}: {constant:,} of {len(variances):,} columns are constant and get no weight")
    if covariances.first.shape == covariances.cross.shape:
        # For copies the covariance of pairs is that of the features, on both sides.
        gap = np.trace(covariances.first) + np.trace(covariances.second) - 2 * np.trace(covariances.cross)
        if gap <= 1e-9 * np.trace(covariances.first):
            raise SpectralError(
                "every pair is a row and its copy, so nothing says what may differ between positives: give pairs of "
                "different texts or views"
            )


def _held_pairs(
    stream: PairStream, kept: NDArray[np.bool_], share: float, seed: int, towers: int, grid: Grid
) -> list[Candidates]:  # fmt: skip
    """The held-out pairs of every fold; with few pairs there are more folds, so that the choice has enough of them."""
    rows = np.flatnonzero(kept)
    count = min(MOST_HELD, round(share * len(rows)))
    if count < FEWEST_HELD:
        if grid.single:
            return []
        raise SpectralError(
            f"{len(rows):,} pairs leave {count} to choose settings on, and {FEWEST_HELD} are needed: give more pairs, "
            "a larger held_out, or dimensions, ridge and power"
        )
    folds = min(MOST_FOLDS, -(-MOST_HELD // count), len(rows) // count) if max(stream.widths) <= _FOLDED else 1
    drawn = np.sort(np.random.default_rng(seed).choice(rows, (folds, count), replace=False), axis=1)
    return [Candidates(*stream.pairs(each), same_space=towers == 1, rows=each) for each in drawn]


def _summed(
    stream: PairStream, kept: NDArray[np.bool_], held: list[Candidates]
) -> tuple[Moments, list[Moments]]:  # fmt: skip
    """Sums of all pairs, and for every fold of those that share a row with a held-out pair."""
    total, shared = stream.moments(), [stream.moments() for _ in held]
    for start, a, b in stream.blocks():
        inside = kept[start : start + len(a)]
        if not inside.all():
            a, b = a[inside], b[inside]
        if not len(a):
            continue
        _add(total, a, b, start)
        keys = _keys(a, b, total.views) if held else None
        numbers = start + np.flatnonzero(inside)
        for part, each in zip(shared, held, strict=True):
            chosen = np.isin(numbers, each.rows)
            if keys is not None:
                chosen |= each.shares_rows(*keys)
            if chosen.any():
                _add(part, a[chosen], b[chosen], start)
    return total, shared


def _keys(a: Array, b: Array, views: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return (row_keys(a[:, 0]), row_keys(a[:, 1])) if views else (row_keys(a), row_keys(b))


def _rest(total: Moments, shared: Moments) -> Moments:
    """Sums of the pairs that share no row with the held-out ones of a fold."""
    left = total.count - shared.count
    if left < 2 or left < total.count / 10:
        raise SpectralError(
            f"nearly all pairs share a row with a held-out one ({left:,} of {total.count:,} do not), so none are left "
            "to choose settings with: lower held_out, or give dimensions, ridge and power with held_out=0"
        )
    return total.without(shared)


def _add(part: Moments, a: Array, b: Array, start: int) -> None:
    if part.views:
        part.add_views(a, start)
    else:
        part.add_pairs(a, b, start)


def _mapped(features: Features, mean: Float64, matrix: Float64) -> NDArray[np.float32]:
    source = opened(features, "features")
    if source.shape[1] != len(mean):
        raise SpectralError(f"features have {source.shape[1]} dimensions, and the map takes {len(mean)}")
    out = np.empty((source.shape[0], matrix.shape[1]), np.float32)
    for start, block in blocks_of(source, _TRANSFORMED, 0, source.shape[0]):
        out[start : start + len(block)] = (block - mean.astype(block.dtype)) @ matrix.astype(block.dtype)
    return out


def _shape(moments: Moments) -> tuple[int, int | None]:
    return moments.widths[0], None if moments.views else moments.widths[1]


def _moments_of(arrays: dict[str, Any], count: int) -> Moments:
    views = "sums.second" not in arrays
    made = Moments(len(arrays["sums.first"]), None if views else len(arrays["sums.second"]))
    made.count, made.means = count, (arrays["sums.first_mean"], arrays["sums.second_mean"])
    made.scatter, made.cross_scatter = arrays["sums.first"], arrays["sums.cross"]
    made.second_scatter = made.scatter if views else arrays["sums.second"]
    return made


def _silent(line: str) -> None:
    """Nobody listens."""
