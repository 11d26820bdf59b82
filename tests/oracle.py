"""The method in nested loops over float64 numbers: slow, and written from the equations alone."""

import math

import numpy as np


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def band_pairs(rows, high, low, keys=None):
    """Eq. 12 with nearest-rank edges, from the sorted row."""
    others = rows if keys is None else keys
    pairs = np.zeros((len(rows), len(others)), bool)
    for i, row in enumerate(rows):
        s = {k: cosine(row, other) for k, other in enumerate(others) if keys is not None or k != i}
        ranked = sorted(s.values(), reverse=True)
        edges = [ranked[max(1, math.ceil(f * len(ranked) - 1e-9)) - 1] for f in (high, low)]
        for k, value in s.items():
            pairs[i, k] = edges[1] <= value < edges[0]
    return pairs


def nt_xent(z0, z1, tau, pairs, sigma=0.0, rho=1.0, removal=None):
    """Eqs. 13 to 16, one loss per anchor."""
    z = [*z0, *z1]
    n = len(z0)
    losses = []
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        denominator = 0.0
        for k in range(2 * n):
            if k == i:
                continue
            s, p = cosine(z[i], z[k]), int(pairs[i, k])
            if removal == "neutral":
                logit = s * (1 - p) / tau
            elif removal == "exclude":
                if p and k != positive:
                    continue
                logit = s / tau
            else:
                logit = (s + p * sigma) / ((p * rho + 1 - p) * tau)
            denominator += math.exp(logit)
            if k == positive:
                numerator = logit
        losses.append(math.log(denominator) - numerator)
    return np.array(losses)


def spectral(z0, z1, mu, pairs, sigma=0.0, rho=1.0, removal=None):
    """The mini-batch spectral loss: margin inside of the square (Eq. 31), temperature on both terms (Eq. 40)."""

    def bounded(row):
        length = math.sqrt(sum(x * x for x in row))
        return [x * min(1.0, math.sqrt(mu) / length) for x in row]

    z0, z1 = [bounded(row) for row in z0], [bounded(row) for row in z1]
    n = len(z0)
    attraction, repulsion, kept = 0.0, 0.0, 0
    for i in range(n):
        for k in range(n):
            s, p = sum(x * y for x, y in zip(z0[i], z1[k], strict=True)), int(pairs[i, k])
            if removal == "neutral":
                s *= 1 - p
            if i == k:
                attraction += s / (rho if p else 1) / n
            elif not (removal == "exclude" and p):
                repulsion += ((s + p * sigma * mu) / (rho if p else 1)) ** 2
                kept += 1
    return (repulsion / kept - 2 * attraction) / mu


def two_tower(z0, z1, tau, pairs, sigma=0.0, rho=1.0, removal=None):
    """Eqs. 13 to 16 for rows against keys, row i with key i: mean over the rows."""
    total = 0.0
    for i, row in enumerate(z0):
        denominator = numerator = 0.0
        for k, key in enumerate(z1):
            s, p = cosine(row, key), int(pairs[i, k])
            if removal == "exclude" and p and k != i:
                continue
            if removal is not None:
                logit = s * (1 - p if removal == "neutral" else 1) / tau
            else:
                logit = (s + p * sigma) / ((p * rho + 1 - p) * tau)
            denominator += math.exp(logit)
            if k == i:
                numerator = logit
        total += math.log(denominator) - numerator
    return total / len(z0)


def moco(q, k, queue, tau, pairs, sigma=0.0, rho=1.0, removal=None):
    """Queries against their own keys (never treated) and a queue: mean over the queries."""
    total = 0.0
    for i, row in enumerate(q):
        positive = cosine(row, k[i]) / tau
        denominator = math.exp(positive)
        for j, key in enumerate(queue):
            s, p = cosine(row, key), int(pairs[i, j])
            if removal == "exclude" and p:
                continue
            if removal is not None:
                denominator += math.exp(s * (1 - p if removal == "neutral" else 1) / tau)
            else:
                denominator += math.exp((s + p * sigma) / ((p * rho + 1 - p) * tau))
        total += math.log(denominator) - positive
    return total / len(q)


def semantic(z, synonym, antonym, tau, present, sigma=0.0, rho=1.0, removal=None):
    """Texts against all synonym and antonym versions, the own antonym version treated by Eqs. 13 to 16: mean."""
    total = 0.0
    for i, row in enumerate(z):
        positive = cosine(row, synonym[i]) / tau
        denominator = sum(math.exp(cosine(row, key) / tau) for key in synonym)
        for k, key in enumerate(antonym):
            s, p = cosine(row, key), int(k == i)
            if not present[k] or (removal == "exclude" and p):
                continue
            if removal is not None:
                denominator += math.exp(s * (1 - p if removal == "neutral" else 1) / tau)
            else:
                denominator += math.exp((s + p * sigma) / ((p * rho + 1 - p) * tau))
        total += math.log(denominator) - positive
    return total / len(z)
