"""A batch over several processes: torchrun --nproc-per-node 2 examples/ddp_torchrun.py"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, make_views

backend = "nccl" if torch.cuda.is_available() else "gloo"
dist.init_process_group(backend)
rank, world = dist.get_rank(), dist.get_world_size()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if backend == "nccl" else torch.device("cpu")

torch.manual_seed(0)
encoder = DistributedDataParallel(ps.train.build_encoder("resnet-small").to(device))
projector = DistributedDataParallel(nn.Linear(128, 64).to(device))
parameters = [*encoder.parameters(), *projector.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.1)
# Pairs are ranked, and compared, among the views of all processes; gather_distributed=False would keep each to its own.
criterion = ps.losses.NTXentLoss(0.2, ps.RankBand(0.005, 0.15), ps.Treatment(margin=0.03, temperature_scale=0.6))
images, views = torch.from_numpy(load_images("digits:train").images[:512]).to(device), SimCLRViews(flip=0.0)
for step, batch in enumerate(images.split(128) * 3):
    x = torch.cat(make_views(batch[rank::world], views, seed=step * world + rank))
    h = encoder(x)
    loss = criterion(*projector(h).chunk(2), *h.chunk(2))  # the same value on every process
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0:
        print(f"step {step}: loss {loss.item():.3f}", flush=True)
dist.barrier()  # nobody leaves while another still talks to it
dist.destroy_process_group()
