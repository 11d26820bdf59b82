"""Fine-tune a retriever without false negatives: a frozen guide masks questions that mean the same. Runs offline."""

import torch
from torch import nn

import pairsift as ps

# Features of a frozen encoder stand in for a text encoder's here: 60 intents, ten questions each, in pairs.
torch.manual_seed(0)
intents = torch.arange(60).repeat_interleave(10)
topics = torch.randn(60, 128)
questions, answers = (topics[intents] + 0.6 * torch.randn(600, 128) for _ in range(2))
texts = [[f"question {i}" for i in range(600)], [f"answer {i // 2}" for i in range(600)]]  # every answer twice

guide = nn.functional.normalize
mask = ps.GuideMask.fit(guide(questions), guide(answers), texts=texts, labels=intents)
print(mask.describe())

adapter = nn.Linear(128, 32, bias=False)
loss = ps.losses.TwoTowerLoss(0.05, selector=mask)
optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-3)
for step in range(40):
    rows = torch.randperm(600)[:128]
    z0, z1 = adapter(questions[rows]), adapter(answers[rows])
    value = loss(z0, z1, z0.detach(), z1.detach(), rows=rows)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: loss {value.item():.3f}")
print(mask.report())
