"""A contrastive loss of texts against versions of another meaning (CLINE, arXiv 2107.00440)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Comparison, Rows, compare, info_nce
from pairsift.losses.treated import Options, TemperedLoss, unit, wide
from pairsift.pairs import OwnMasks
from pairsift.treatments import Treatment

Similarity = Literal["cosine", "dot"]


class SemanticNegativeLoss(TemperedLoss):
    """InfoNCE that attracts a text to a version of the same meaning and repels it from one of another meaning.

    In the batch (the default), with s the similarity of text i and a version of text k, the loss is
    `-log e^{s(i, syn_i)/tau} / (sum_k e^{s(i, syn_k)/tau} + sum_k e^{l(i, ant_k)})`. Here l is s / tau, except for the
    text's own antonym version, whose logit is treated (Eqs. 13 to 16 of arXiv 2501.01317). Nearly the same words with
    another meaning are a difficult pair that is known, so no selector is needed.

    `in_batch=False` compares a text with its own two versions only: `-log e^u / (e^u + e^v) = softplus(v - u)`. With
    `similarity="dot"` and `temperature=1` this is CLINE's loss as printed. It goes to 0 while all texts coincide, for
    h_ori = h_syn = c e and h_ant = -c e with one vector e.

    Args:
        temperature: tau, > 0.
        treatment: of a text with its own antonym version; None treats nothing, "exclude" leaves the version out.
        in_batch: whether texts are compared with the versions of all texts.
        similarity: "cosine", or "dot" for raw products.
        **options: see `TreatedLoss`.

    Raises:
        TypeError: an unknown option.
        ValueError: a setting out of range.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> z, z_synonym, z_antonym = torch.randn(3, 64, 16)
        >>> loss = ps.losses.SemanticNegativeLoss(0.05, ps.Treatment(margin=0.1))
        >>> loss(z, z_synonym, z_antonym).shape
        torch.Size([])
    """

    _shown = ("in_batch", "similarity")

    def __init__(
        self, temperature: float = 0.05, treatment: Treatment | None = None, in_batch: bool = True,
        similarity: Similarity = "cosine", **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(None, None, temperature, **options)
        if similarity not in get_args(Similarity):
            raise ValueError(f"similarity must be 'cosine' or 'dot', got {similarity!r}")
        self.treatment, self.in_batch, self.similarity = treatment, in_batch, similarity

    def forward(
        self, z: Tensor, z_synonym: Tensor, z_antonym: Tensor, *, present: Tensor | None = None,
        weights: Tensor | None = None, treated: bool = True,
    ) -> Tensor:  # fmt: skip
        """Loss of N texts.

        Args:
            z: (N, d) embeddings of the texts.
            z_synonym: (N, d) embeddings of their versions of the same meaning.
            z_antonym: (N, d) embeddings of their versions of another meaning.
            present: (N,) bool, False where a text has no antonym version and its row of `z_antonym` means nothing. With
                `in_batch` such a row is a negative of no text; otherwise such a text does not count.
            weights: (N,) >= 0 of the texts in the mean; None weighs all alike.
            treated: see `TreatedLoss`.

        Returns:
            Scalar, the weighted mean over the texts of all processes; 0 where no text counts.

        Raises:
            ValueError: shapes or dtypes that do not fit.
        """
        _check(z, z_synonym, z_antonym, present, weights)
        if present is not None:
            # Embeddings of missing versions may hold anything, such as nan, and must not reach the gradient.
            z_antonym = z_antonym.where(present[:, None], 0.0)
        treatment = self.treatment if treated and self.treatment is not None and not self.treatment.is_neutral else None
        with torch.autocast(z.device.type, enabled=False):
            form = unit if self.similarity == "cosine" else wide
            z, z_synonym, z_antonym = form(z), form(z_synonym), form(z_antonym)
            negatives = z_antonym if present is None else z_antonym[present]
            keys = Rows(torch.cat([z_synonym, negatives]))
            comparison = compare(Rows(z), keys, None, None, self.engine, gathered=self.in_batch)
            if self.in_batch:
                comparison = _known(comparison, len(z), present, treatment)
                if weights is None:
                    weight = comparison.processes.weight("z")
                    return comparison.processes.mean(info_nce(z, self.temperature, comparison, weight=weight))
                return _mean(info_nce(z, self.temperature, comparison), weights.to(z.dtype), comparison)
            same, other = ((z * each).sum(dim=1) / self.temperature for each in (z_synonym, z_antonym))
            if treatment is not None:
                other = treatment.edit(self.temperature).apply(other, torch.ones_like(other))
            counted = torch.ones_like(same) if weights is None else weights.to(z.dtype)
            return _mean(F.softplus(other - same), counted if present is None else counted * present, comparison)


def _known(comparison: Comparison, n: int, present: Tensor | None, treatment: Treatment | None) -> Comparison:
    """The comparison with synonym versions as positives and the own antonym versions as difficult pairs."""
    numbers = torch.arange(n, device=comparison.keys.device)
    comparison = comparison.with_positives(numbers, treated=False)
    if treatment is None:
        return comparison
    own = n + comparison.first + numbers
    if present is not None:
        own = (n + comparison.first + present.cumsum(0) - 1).where(present, -1)
    return replace(comparison, masks=OwnMasks(own, len(comparison.keys)), treatment=treatment)


def _mean(losses: Tensor, weights: Tensor, comparison: Comparison) -> Tensor:
    """The weighted mean over the texts of all processes."""
    processes = comparison.processes
    total = processes.sum(weights.sum()).clamp_min(torch.finfo(weights.dtype).tiny)
    return processes.mean((losses * weights).sum() * (processes.size / total))


def _check(z: Tensor, synonym: Tensor, antonym: Tensor, present: Tensor | None, weights: Tensor | None) -> None:
    check_tensors({"z": z, "z_synonym": synonym, "z_antonym": antonym}, present=present, weights=weights)
    if z.dim() != 2 or 0 in z.shape or not z.shape == synonym.shape == antonym.shape:
        raise ValueError(
            "z, z_synonym and z_antonym must be non-empty (N, d) matrices of one shape, got "
            f"{tuple(z.shape)}, {tuple(synonym.shape)} and {tuple(antonym.shape)}"
        )
    kinds = {each.dtype for each in (z, synonym, antonym)}
    if len(kinds) > 1 or not z.is_floating_point():
        raise ValueError(f"embeddings must be floating point of one dtype, got {', '.join(sorted(map(str, kinds)))}")
    if len({str(each.device) for each in (z, synonym, antonym, present, weights) if each is not None}) > 1:
        raise ValueError("embeddings, present and weights must be on one device")
    if present is not None and (present.dtype != torch.bool or present.shape != z.shape[:1]):
        raise ValueError(f"present must be bool of shape ({len(z)},), got {present.dtype} {tuple(present.shape)}")
    if weights is not None and (weights.shape != z.shape[:1] or not bool((weights >= 0).all())):
        raise ValueError(f"weights must be {len(z)} numbers >= 0, one a text, got shape {tuple(weights.shape)}")
