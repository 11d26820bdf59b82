"""Fine-tune a retriever without false negatives: a frozen guide masks questions that mean the same. Runs offline."""

import torch
from torch import nn

import pairsift as ps

# Features of a frozen encoder stand in for a text encoder's here: 60 intents, ten questions each, in pairs.
torch.manual_seed(0)
intents = torch.arange(60).repeat_interleave(10)
topics = torch.randn(60, 128)
questions, answers = (topics[intents] + 2.5 * torch.randn(600, 128) for _ in range(2))
guide = [topics[intents] + 0.6 * torch.randn(600, 128) for _ in range(2)]  # a better encoder
texts = [[f"question {i}" for i in range(600)], [f"answer {i // 2}" for i in range(600)]]  # every answer twice

mask = ps.GuideMask.fit(*guide, texts=texts, labels=intents)
print(mask.describe())


def precision(mask):
    """Share of the ten nearest answers that are of the question's intent."""
    torch.manual_seed(0)
    adapter = nn.Linear(128, 32, bias=False)
    loss = ps.losses.TwoTowerLoss(0.05, selector=mask)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-3)
    for _ in range(200):
        rows = torch.randperm(600)[:256]
        z0, z1 = adapter(questions[rows]), adapter(answers[rows])
        value = loss(z0, z1, z0.detach(), z1.detach(), rows=rows)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    z0, z1 = (nn.functional.normalize(adapter(each)) for each in (questions, answers))
    return (intents[(z0 @ z1.T).topk(10).indices] == intents[:, None]).float().mean().item()


print(f"precision@10: {precision(None):.1%} plain, {precision(mask):.1%} masked")
print(mask.report())
