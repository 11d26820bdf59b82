"""Measures of retrieval of documents with the label of a query: nDCG, MRR, recall and nearest neighbours."""

from __future__ import annotations

import numpy as np

from lab.text_sets import Held
from pairsift.evaluate import knn

_DEPTH = 10


def measured(held: Held) -> dict[str, float]:
    """nDCG@10, MRR@10 and recall@10 with relevance 0 or 1, means over queries, and 20-NN accuracy, in percent.

    Queries without a relevant document are left out, as sentence-transformers' `InformationRetrievalEvaluator` does.
    """
    scores = held.queries @ held.documents.T
    top = np.argsort(-scores, axis=1, kind="stable")[:, :_DEPTH]
    relevant = np.array([(held.document_labels == label).sum() for label in held.query_labels])
    hits = (held.document_labels[top] == held.query_labels[:, None])[relevant > 0]
    relevant = relevant[relevant > 0]
    discounts = 1 / np.log2(np.arange(2, top.shape[1] + 2))
    ideal = np.cumsum(discounts)[np.minimum(relevant, top.shape[1]) - 1]
    first = np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), 0.0)
    shares = {
        "ndcg10": (hits @ discounts / ideal).mean(),
        "mrr10": first.mean(),
        "recall10": (hits.sum(axis=1) / relevant).mean(),
        "knn20": knn(held.documents, held.document_labels, held.queries, held.query_labels, k=20),
    }
    return {name: round(100 * float(share), 3) for name, share in shares.items()}
