"""`SpectralMap`: linear maps of given features that minimise the spectral contrastive loss exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import Self

from pairsift._base.files import read_tensors, write_tensors
from pairsift.pairs import Selector
from pairsift.spectral.checks import (
    Edit,
    Log,
    check_choice,
    check_grid,
    check_pairs,
    check_settings,
    check_size,
    edit_of,
    kept_pairs,
    towers_of,
)
from pairsift.spectral.choice import Choices, Criterion, Grid, HeldOut, choose
from pairsift.spectral.edits import selected_pairs, with_margin
from pairsift.spectral.errors import SpectralError, TooWideError
from pairsift.spectral.modules import UnitLinear, extended
from pairsift.spectral.moments import Covariances, Float64, Moments
from pairsift.spectral.solution import Solution, population_loss, solve
from pairsift.spectral.streams import Features, PairStream, blocks_of, opened, sides_of, stream_of
from pairsift.spectral.sums import Pass, held_pairs

_TRANSFORMED = 65_536
_FORMAT = "1"
_UNFITTED = "the map is not fitted yet: call fit, partial_fit or merge first"


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
        check_settings(dimensions, ridge, power, towers)
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
        criterion: Criterion = "rank",
        seed: int = 0,
        memory_gb: float = 4.0,
        engine: Literal["local", "ray"] = "local",
        address: str | None = None,
        log: Log | None = None,
    ) -> SpectralMap:
        """Fit the maps to positive pairs; settings that are not given are chosen on held-out pairs, without labels.

        A tenth of the pairs (2,048 at the most) are held out, in up to three folds where that gives few. Training pairs
        that share a row with them are left out of the fits that are compared. Each setting is scored by the mean of
        -log(rank) of the held-out pairs' own positives. Among the settings within 1.96 standard errors of the best
        (paired differences) the narrowest is taken, with the mean of their ridges. The map is then fitted to all pairs.

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
            criterion: what settings are compared by. "rank" is the rank of the own positive, as a search sees it.
                "loss" is the loss itself, for features that a classifier will use: ranks also reward what tells two
                examples of one class apart. The loss says nothing about the power, which must be given.
            seed: of the held-out pairs.
            memory_gb: that the fit may take.
            engine: "ray" sums parts of the pairs in Ray tasks, for features that one machine reads too slowly. The
                result differs from that of "local" by rounding only.
            address: of a Ray cluster, host:port; None takes RAY_ADDRESS, or starts Ray on this machine.
            log: called with lines of text about what is found.

        Raises:
            SpectralError: features, pairs or settings that no map can be fitted with; the message names the remedy.
            DataError: a file that cannot be read.
            MissingExtraError: engine="ray" without Ray.

        Example:
            See `SpectralMap`.
        """
        grid = Grid.of(ridge, dimensions, power)
        check_grid(grid, towers)
        check_choice(grid, held_out, criterion)
        if engine not in ("local", "ray"):
            raise SpectralError(f"`engine` must be 'local' or 'ray', got {engine!r}")
        if address is not None and engine != "ray":
            raise SpectralError(f"`address={address}` is of a Ray cluster: add `engine=ray`, or leave it out")
        edit = edit_of(selector, margin, rounds)
        say: Log = log or _silent
        stream = stream_of(first, second, views)
        towers = towers_of(towers, stream)
        kept = kept_pairs(drop, stream.rows)
        check_size(stream, kept, grid, towers, memory_gb, edit, say)
        held = held_pairs(stream, kept, held_out, seed, grid)
        work = Pass(stream, kept, held)
        sums = work.on_ray(address) if engine == "ray" else work.sums(log=say)
        check_pairs(sums.total.covariances(towers), say)
        chosen: HeldOut | None = None
        if held:
            folds = [work.fold(sums, number, towers) for number in range(len(held))]
            chosen = choose(folds, sums.total.count, grid, criterion)
            say(f"chose {chosen}")
        settings = grid.only if chosen is None else (chosen.chosen.dimensions, chosen.ridge, chosen.chosen.power)
        made = cls(*settings, towers)
        made.held_out, made._moments = chosen, sums.total
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
            SpectralError: see `fit`; features of other widths than before, or a map without its sums.
        """
        stream = stream_of(first, second, views)
        towers = towers_of(self.towers, stream)
        self._sums()
        return self._grown(Pass(stream, np.ones(stream.rows, bool), []).sums().total, towers)

    def merge(self, other: SpectralMap) -> Self:
        """Add the pairs of another map, fitted to another part of the data; the settings stay.

        Under `torchrun`, `torch.distributed.all_gather_object` sends the maps of all processes to each of them. A map
        that merges them in the order of their ranks is the same in every process.

        Raises:
            SpectralError: features of other widths, another number of towers, or a map without its sums.
        """
        self._sums()
        part = other._sums()
        if part is None:
            raise SpectralError(_UNFITTED)
        if self.towers not in (None, other.towers):
            raise SpectralError(f"a map with towers={other.towers} cannot be merged into one with towers={self.towers}")
        return self._grown(part, other.towers)

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
        return extended(model, [[(self.module(second=second).linear, nn.Identity())]])

    def save(self, path: Path | str, *, sums: bool = False) -> None:
        """Write the map as safetensors with a checksum, whole or not at all.

        Args:
            path: file to write.
            sums: whether to keep the sums too (three matrices of D x D), so that a loaded map can go on with
                `partial_fit` and `merge`.

        Raises:
            SpectralError: nothing is fitted yet, or there are no sums to keep.
            OSError: not writable.
        """
        kept = self._sums() if sums else None
        arrays = {
            "first_map": self.first_map, "first_mean": self.first_mean, "eigenvalues": self.eigenvalues,
        }  # fmt: skip
        if self.towers == 2:
            arrays |= {"second_map": self.second_map, "second_mean": self.second_mean}
        facts: dict[str, Any] = {
            "dimensions": self.dimensions, "ridge": self.ridge, "power": self.power, "towers": self.towers,
            "loss": self.loss,
        }  # fmt: skip
        if kept is not None:
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

    def _sums(self) -> Moments | None:
        """The sums of all pairs; None before any is added.

        Raises:
            SpectralError: they are not known any more, so that further pairs would be taken for all there are.
        """
        if self._moments is None and self._solved is not None:
            raise SpectralError(
                "this map has no sums of its pairs, because it has a margin or was saved without them: fit it to all "
                "pairs, or save one without a margin with sums=True"
            )
        return self._moments

    def _grown(self, part: Moments, towers: int | None) -> Self:
        """This map with the pairs of a part, which stays as it is."""
        self._moments = (part.empty() if self._moments is None else self._moments).merge(part)
        self.towers, self._solved = towers, None
        return self

    def _covariances(self) -> Covariances:
        sums = self._sums()
        if sums is None or self.towers is None:
            raise SpectralError(_UNFITTED)
        return sums.covariances(self.towers)

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
        sides = sides_of(*stream.taken(np.flatnonzero(kept)))
        plain = self._covariances()
        for number in range(edit.rounds):
            seen = self.transform(sides[0]), self.transform_second(sides[1])
            pairs = selected_pairs(edit.selector, plain, sides, seen)
            edited = with_margin(plain, pairs, edit.margin)
            solution = solve(edited, self.ridge, self.dimensions)
            loss = self._balanced_loss(edited, solution) + edit.margin**2 * pairs.square
            self._solved = self._scaled(edited, solution, loss)
            say(f"margin {edit.margin:g} on {pairs.share:.2%} of all pairs, round {number + 1} of {edit.rounds}")
        self._moments = None  # the margin is in no sum, so that more pairs would lose it


class _Solved(NamedTuple):
    """The maps of some sums."""

    first: Float64
    second: Float64
    first_mean: Float64
    second_mean: Float64
    values: Float64
    loss: float


def _mapped(features: Features, mean: Float64, matrix: Float64) -> NDArray[np.float32]:
    source = opened(features, "features")
    if source.shape[1] != len(mean):
        raise SpectralError(f"features have {source.shape[1]} dimensions, and the map takes {len(mean)}")
    out = np.empty((source.shape[0], matrix.shape[1]), np.float32)
    for start, block in blocks_of(source, _TRANSFORMED, 0, source.shape[0]):
        out[start : start + len(block)] = (block - mean.astype(block.dtype)) @ matrix.astype(block.dtype)
    return out


def _moments_of(arrays: dict[str, Any], count: int) -> Moments:
    views = "sums.second" not in arrays
    made = Moments(len(arrays["sums.first"]), None if views else len(arrays["sums.second"]))
    made.count, made.means = count, (arrays["sums.first_mean"], arrays["sums.second_mean"])
    made.scatter, made.cross_scatter = arrays["sums.first"], arrays["sums.cross"]
    made.second_scatter = made.scatter if views else arrays["sums.second"]
    return made


def _silent(line: str) -> None:
    """Nobody listens."""
