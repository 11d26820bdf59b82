"""Several real processes must give what one process gives on the whole batch."""

import re

import pytest
import torch
from distributed import processes
from distributed.processes import SPLITS, TOTAL, run, share
from objectives import LABELLED, NAMES, TREATMENTS, objective, rows, value_and_gradients

CASES = [(name, treatment, tile) for name in NAMES for treatment in TREATMENTS for tile in ("dense", 3)]
CASES += [(name, treatment, tile) for tile in ("dense", 3) for name in LABELLED for treatment in TREATMENTS]


@pytest.fixture(scope="module", params=SPLITS)
def world(request):
    return request.param


@pytest.fixture(scope="module")
def found(world, tmp_path_factory):
    return run(processes.losses, world, tmp_path_factory.mktemp("losses"), CASES)


@pytest.mark.parametrize("case", CASES)
def test_values_and_averaged_gradients_are_those_of_one_process(world, found, case):
    name, treatment, tile = case
    loss = objective(name, treatment, tile=tile)
    value, gradients = value_and_gradients(loss, *rows(name, TOTAL))
    for rank, results in enumerate(found):
        theirs, ours, keys = results[case]
        torch.testing.assert_close(theirs, value, rtol=0, atol=1e-10)
        for got, expected in zip(ours[:2], gradients[:2], strict=True):
            torch.testing.assert_close(got / world, share([expected], rank, world)[0], rtol=0, atol=1e-10)
        if name == "moco":
            torch.testing.assert_close(keys, loss.keys(), rtol=0, atol=1e-12)
    for got, expected in zip(
        zip(*(results[case][1][2:] for results in found), strict=True), gradients[2:], strict=True
    ):
        torch.testing.assert_close(sum(got) / world, expected, rtol=0, atol=1e-10)


def test_losses_one_by_one_and_pairs_are_those_of_the_process(world, tmp_path):
    z0, z1, h0, h1 = rows("ntxent", TOTAL)
    z0.requires_grad_()
    each = objective("ntxent", "combined", reduction="none")(z0, z1, h0, h1)
    (gradient,) = torch.autograd.grad(each.sum(), z0)
    pairs = objective("ntxent", "combined").select(h0, h1)
    whole = objective("ntxent", "combined")(z0, z1, h0, h1).detach()
    towers = objective("two-tower", "combined")
    transposed = towers(z0, z1, pairs=towers.select(h0, h1)).detach()
    # Views of one process after those of the other, where one process has all first views first.
    position = torch.cat([torch.cat([p, p + TOTAL]) for p in torch.arange(TOTAL).split(SPLITS[world])])
    both = [2 * n for n in SPLITS[world]]
    draws = set()
    for rank, (losses, d_z0, flagged, given, random) in enumerate(run(processes.one_by_one, world, tmp_path)):
        mine = position.split(both)[rank]
        torch.testing.assert_close(losses, each[mine], rtol=0, atol=1e-10)
        torch.testing.assert_close(d_z0, share([gradient], rank, world)[0], rtol=0, atol=1e-10)
        assert torch.equal(flagged, pairs[mine][:, position])
        torch.testing.assert_close(given, [whole, whole, transposed], rtol=0, atol=1e-10)
        assert torch.equal(random.sum(dim=1), flagged.sum(dim=1))
        assert not random.diagonal(sum(both[:rank])).any()
        draws.add(str(random[:4, :4].tolist()))
    assert len(draws) == world


def test_semantic_negatives_of_all_processes_count(world, tmp_path):
    found = run(processes.semantic, world, tmp_path)
    for at, case in enumerate(processes.SEMANTIC):
        value, gradient = processes.semantic_loss(*case, processes.semantic_rows(), processes.PRESENT)
        for rank, results in enumerate(found):
            theirs, ours = results[at]
            torch.testing.assert_close(theirs, value, rtol=0, atol=1e-10)
            torch.testing.assert_close(ours / world, share([gradient], rank, world)[0], rtol=0, atol=1e-10)


def test_without_gathering_every_process_is_alone(tmp_path):
    for rank, results in enumerate(run(processes.apart, 2, tmp_path)):
        for name, result in results.items():
            alone = value_and_gradients(objective(name, "combined"), *share(rows(name, TOTAL), rank, 2))
            torch.testing.assert_close(result, alone)


def test_hard_negatives_of_every_process_count_for_all(tmp_path):
    results = run(processes.more_keys, 2, tmp_path)
    z0, _, h0, _ = rows("two-tower", TOTAL)
    _, z1, _, h1 = rows("two-tower", TOTAL + 2, seed=1)
    order = torch.tensor([0, 1, 2, 3, 4, 6, 7, 8, 9, 5, 10])  # keys of rows first, then the two others
    value, (d_z0, d_z1) = value_and_gradients(objective("two-tower", "combined"), z0, z1[order], h0, h1[order])
    expected = torch.empty_like(d_z1)
    expected[order] = d_z1
    for ours, _ in results:
        torch.testing.assert_close(ours, value, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cat([g[0] for _, g in results]) / 2, d_z0, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cat([g[1] for _, g in results]) / 2, expected, rtol=0, atol=1e-10)


def test_ids_of_examples_are_gathered(world, tmp_path):
    found = run(processes.by_ids, world, tmp_path)
    for name in processes.SELECTORS:
        close = 1e-6 if name == "affinity" else 1e-10  # probabilities are float32
        for kind, loss, ids in processes.id_losses(name):
            ids = ids[: 3 * TOTAL : 3]
            batch = rows("ntxent", TOTAL)
            value, gradients = value_and_gradients(processes.ByIds(loss, ids), *batch)
            for rank, results in enumerate(found):
                theirs, ours, *queued = results[name, kind]
                torch.testing.assert_close(theirs, value, rtol=0, atol=close)
                for got, expected in zip(ours[:2], gradients[:2], strict=True):
                    torch.testing.assert_close(got / world, share([expected], rank, world)[0], rtol=0, atol=close)
                if queued:
                    assert torch.equal(queued[0], loss.queue_rows[:TOTAL])


def test_every_precision_is_gathered(tmp_path):
    first, second = run(processes.precisions, 2, tmp_path)
    assert first == second
    for value, dtype in zip(first, (torch.float32, torch.float16, torch.bfloat16), strict=True):
        batch = [x.to(dtype) for x in rows("ntxent", TOTAL)]
        torch.testing.assert_close(value, objective("ntxent", "combined", dtype=torch.float32)(*batch))


def test_data_parallel_training_is_training_on_the_whole_batch(world, tmp_path):
    whole = processes.train(processes.Step(), *rows("two-tower", TOTAL)[:2])
    expected = [parameter.detach() for parameter in whole]
    for parameters in run(processes.data_parallel, world, tmp_path):
        torch.testing.assert_close(parameters, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("width", "ValueError: h must be alike on all processes, but process 0 has 10 columns of torch.float32 and "
                  "process 1 has 7 columns of torch.float32"),
        ("dtype", "ValueError: z must be alike .* process 1 has 6 columns of torch.float64"),
        ("absent", "ValueError: h must be alike .* process 1 has none: .* gather_distributed=False"),
    ],
)  # fmt: skip
def test_batches_that_are_not_alike_are_refused_on_every_process(kind, message, tmp_path):
    for said in run(processes.unlike, 2, tmp_path, kind):
        assert re.match(message, said)


def test_features_that_are_not_finite_stop_every_process(tmp_path):
    first, second = run(processes.unlike, 2, tmp_path, "nan")
    assert first.startswith("ValueError: keys row 11 is not finite")
    assert second.startswith("ValueError: features row 1 is not finite")


@pytest.mark.parametrize("how", ["killed", "raises", "in backward"])
def test_a_process_that_ends_stops_the_others(how, tmp_path):
    (said, seconds), nothing = run(processes.bereaved, 2, tmp_path, how)
    assert nothing is None
    assert said.startswith("RuntimeError: another process did not answer while the batch was exchanged: it ended")
    assert seconds < 25


def test_a_process_that_stalls_stops_the_others_within_the_timeout(tmp_path):
    (said, seconds), nothing = run(processes.bereaved, 2, tmp_path, "stalls", stalled=[1])
    assert nothing is None
    assert said.startswith("RuntimeError: another process did not answer while the batch was exchanged")
    assert 15 < seconds < 60


def test_a_process_that_is_late_is_waited_for(tmp_path):
    (said, seconds), (other, _) = run(processes.bereaved, 2, tmp_path, "is late")
    assert (said, other) == ("", "")
    assert seconds > 2
