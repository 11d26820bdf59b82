"""A batch over several processes: torchrun --nproc-per-node 2 examples/ddp_torchrun.py"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, to_float

backend = "nccl" if torch.cuda.is_available() else "gloo"
dist.init_process_group(backend)
rank, world = dist.get_rank(), dist.get_world_size()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if backend == "nccl" else torch.device("cpu")

digits = load_images("digits:train")
images, views = to_float(torch.from_numpy(digits.images)).to(device), SimCLRViews(crop_scale=(0.4, 1.0), flip=0.0)
torch.manual_seed(0)
encoder = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 256), nn.ReLU()).to(device)
encoder, projector = (DistributedDataParallel(each) for each in (encoder, nn.Linear(256, 64).to(device)))
optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()])
# Pairs are ranked, and compared, among the views of all processes; gather_distributed=False would keep each to its own.
criterion = ps.losses.NTXentLoss(0.2, ps.ConfidentNegatives.from_images(digits.images)).to(device)
for step, batch in enumerate(rows for _ in range(4) for rows in torch.randperm(len(images)).split(256)):
    rows = batch[rank::world].to(device)  # every process has the same order, and takes its part of each batch
    h = encoder(torch.cat([views(images[rows]) for _ in range(2)]))
    loss = criterion(*projector(h).chunk(2), *h.chunk(2), rows=rows)  # the same value on every process
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 8 == 0:
        print(f"step {step}: loss {loss.item():.3f}", flush=True)
if rank == 0:
    features = encoder.module(images).detach().cpu()
    print(f"20-NN: {ps.evaluate.knn(features[:900], digits.labels[:900], features[900:], digits.labels[900:]):.1%}")
dist.barrier()  # nobody leaves while another still talks to it
dist.destroy_process_group()
