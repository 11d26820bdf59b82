"""Image and caption encoders without false negatives: captions judge which other pairs match. Runs offline."""

import torch
from torch import nn

import pairsift as ps
from pairsift.data import load_images

# Digits stand in for photographs, in two wordings each: every image matches many captions of its batch.
torch.manual_seed(0)
data = load_images("digits:train", per_class=100)
images, digits = torch.from_numpy(data.images).float() / 255, torch.from_numpy(data.labels)
captions = [f"{'a handwritten' if i % 2 else 'someone wrote a'} {digit}" for i, digit in enumerate(digits.tolist())]

# The guide: any frozen encoder of captions; here counts of words. An image has the features of its own caption, so
# that margin and floor cannot come from known pairs, which are all alike.
words = sorted({word for caption in captions for word in caption.split()})
counts = torch.tensor([[(1 + 2 * word.isdigit()) * (word in text.split()) for word in words] for text in captions])
counts, texts = counts.float(), [range(len(images)), ps.text_keys(captions)]
mask = ps.GuideMask.fit(counts, counts, texts=texts, labels=digits, margin=0.5, floor=0.5, cap=0.3)
print(mask.describe())

picture = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 128), nn.ReLU(), nn.Linear(128, 32))
caption = nn.Linear(len(words), 32)
loss = ps.losses.TwoTowerLoss(0.1, selector=mask)
optimizer = torch.optim.Adam([*picture.parameters(), *caption.parameters()], lr=3e-3)
for step in range(40):
    rows = torch.randperm(len(images))[:128]
    z0, z1 = picture(images[rows]), caption(counts[rows])
    value = loss(z0, z1, z0.detach(), z1.detach(), rows=rows)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: loss {value.item():.3f}")
print(mask.report())
