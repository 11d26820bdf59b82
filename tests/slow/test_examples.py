"""Every example runs as it stands, in at most forty lines."""

import importlib.util
import re
from pathlib import Path

import pytest
import warm

# What an example prints of its result: a number before and one after, or without and with what it shows.
SHOWN = {
    "audit_to_trainer": r"margin of the right answer: ([\d.]+) before, ([\d.]+) after",
    "adapt": r"held-out MRR: 0(\.\d+) frozen, 0(\.\d+) adapted",
    "exact_encoder": r"20-NN: ([\d.]+)% pixels, ([\d.]+)% exact",
    "image_text_pairs": r"digits: ([\d.]+)% plain, ([\d.]+)% masked",
    "retrieval_guide": r"precision@10: ([\d.]+)% plain, ([\d.]+)% masked",
    "semantic_negatives": r"(\d+)%(?s:.*)after training: (\d+)%",
    "sentence_pairs": r"margin of the right answer: ([\d.]+) before, ([\d.]+) after",
    "temporal_pairs": r"20-NN: ([\d.]+)% frames, ([\d.]+)% encoder",
} | dict.fromkeys(
    ("lightly_loop", "lightning_callback", "metric_learning_loop", "solo_learn_step"),
    r"20-NN: ([\d.]+)% plain, ([\d.]+)% treated",
)
EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").glob("*.py"))
HERE, HEADS = str(Path(__file__).parents[1]), "lightly.models.modules.heads"


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_what_it_gains(path, tmp_path, monkeypatch):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    for library in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    if "lightly." in text:
        code = f"import sys; sys.path.append({HERE!r}); from peers import lightly; lightly({HEADS!r}); {code}"
    command = ["-c", code]
    if "torchrun" in text:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", path]
    monkeypatch.chdir(tmp_path)
    run = warm.run(*command)
    if "torchrun" in text and "terminate called without an active exception" in run.stderr:
        # On an overloaded machine gloo's threads may outlive it when a process ends, after all steps.
        run = warm.run(*command)
    assert run.returncode == 0, run.stderr
    if path.stem in SHOWN:
        before, after = (float(number) for number in re.search(SHOWN[path.stem], run.stdout + run.stderr).groups())
        # Single runs of digits differ by a point between builds of PyTorch; breaking training costs more.
        assert after > before - (1 if "treated" in SHOWN[path.stem] else 0)
        return
    losses = [float(number) for number in re.findall(r"(?:loss'?:?|HookedLoss) '?(\d+\.\d+)", run.stdout + run.stderr)]
    assert len(losses) >= 3
    assert losses[-1] < losses[0]
