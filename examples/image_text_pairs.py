"""Image and caption encoders without false negatives: captions judge which other pairs match. Runs offline."""

import torch
from torch import nn

import pairsift as ps
from pairsift.data import load_images

# Digits stand in for photographs, in two wordings each: every image matches many captions of its batch.
sets = [load_images("digits:train", per_class=100), load_images("digits:test")]
images, test_images = (torch.from_numpy(each.images).float() / 255 for each in sets)
digits, test_digits = (torch.from_numpy(each.labels) for each in sets)
captions = [f"{'a handwritten' if i % 2 else 'someone wrote a'} {digit}" for i, digit in enumerate(digits.tolist())]

# The guide: any frozen encoder of captions; here counts of words. An image has the features of its own caption, so
# that margin and floor cannot come from known pairs, which are all alike.
words = sorted({word for caption in captions for word in caption.split()})
counts = torch.tensor([[(1 + 2 * word.isdigit()) * (word in text.split()) for word in words] for text in captions])
counts, texts = counts.float(), [range(len(images)), ps.text_keys(captions)]
mask = ps.GuideMask.fit(counts, counts, texts=texts, labels=digits, margin=0.5, floor=0.5, cap=0.3)


def accuracy(mask):
    """Share of test images whose nearest caption names their digit."""
    torch.manual_seed(0)
    picture = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 128), nn.ReLU(), nn.Linear(128, 32))
    caption, loss = nn.Linear(len(words), 32), ps.losses.TwoTowerLoss(0.1, selector=mask)
    optimizer = torch.optim.Adam([*picture.parameters(), *caption.parameters()], lr=3e-3)
    for _ in range(40):
        rows = torch.randperm(len(images))[:128]
        z0, z1 = picture(images[rows]), caption(counts[rows])
        optimizer.zero_grad()
        loss(z0, z1, z0.detach(), z1.detach(), rows=rows).backward()
        optimizer.step()
    z0, z1 = (nn.functional.normalize(each) for each in (picture(test_images), caption(counts)))
    return (digits[(z0 @ z1.T).argmax(1)] == test_digits).float().mean().item()


print(f"digits: {accuracy(None):.1%} plain, {accuracy(mask):.1%} masked")
print(mask.report())
