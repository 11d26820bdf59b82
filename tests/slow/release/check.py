"""Whether what would be released installs and runs: the wheel and the source distribution, in an empty environment.

    python tests/slow/release/check.py [--demo]    # make release-check

Nothing of the checkout is seen, and no development extras: the wheel first with what a loss needs alone, then with the
extra `all`, then the source distribution in its place. `--demo` runs `pairsift demo` as it stands, some minutes, where
one epoch of it is enough otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from fresh import ROOT, Environment, build

BARE = """
import json, torch, numpy, importlib.metadata as metadata, pairsift as ps
z = torch.randn(2, 16, 8, requires_grad=True)
ps.losses.NTXentLoss(0.5, ps.RankBand(0.15, 0.4), ps.Treatment(margin=0.03))(*z, *z.detach()).backward()
values, _ = ps.theory.SimilarityGraph(50, 4, 5, 0.472, 0.191, 0.209).spectrum()
assert torch.isfinite(z.grad).all() and abs(values[0] - 1) < 1e-12
assert metadata.version("pairsift") == ps.__version__
numpy.save("features.npy", numpy.random.default_rng(0).normal(size=(1500, 16)).astype("float32"))
print(json.dumps(sorted(each.name.lower() for each in metadata.distributions())))
"""
NOT_NEEDED = {"faiss-cpu", "lightning", "pydantic", "pytest", "rich", "scikit-learn", "scipy", "typer"}
DATA = {".css", ".html", ".js", ".typed"}


def check_contents(sdist: Path, wheel: Path) -> None:
    """Every module and every data file of the package is in both, and nothing else is in the wheel."""
    package = ROOT / "src" / "pairsift"
    files = {f"pairsift/{each.relative_to(package)}" for each in package.rglob("*") if each.suffix in {".py", *DATA}}
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/src/")[2] for name in archive.getnames() if "/src/pairsift/" in name}
    for name, found in ((wheel.name, inside), (sdist.name, packed & files)):
        if found != files:
            sys.exit(f"{name}: lacks {sorted(files - found)}, and should not hold {sorted(found - files)}")
        print(f"{name}: {len(found)} files of the package")


def check_bare(environment: Environment, wheel: Path) -> None:
    """A loss and the theory's graph with what they need alone; a command says what it lacks."""
    environment.install(wheel)
    installed = set(json.loads(environment.run("-c", BARE)))
    if installed & NOT_NEEDED:
        sys.exit(f"a loss needs none of {sorted(installed & NOT_NEEDED)}")
    said = environment.run("-m", "pairsift", "scan", "features.npy", succeeds=False)
    if said != "error: pairsift scan needs typer: pip install 'pairsift[scan]'\n":
        sys.exit(f"a scan without its extra said {said!r}")
    print(f"bare: a loss and the theory run with {len(installed)} packages; {said.strip()}")


def check_commands(environment: Environment, name: str) -> None:
    """The installed script: its version, the demo's help, a scan."""
    print(f"{name}: {environment.script('pairsift', '--version').strip()}")
    environment.script("pairsift", "demo", "--help")
    environment.script("pairsift", "scan", "features.npy", "-o", f"found-{name}")
    page = environment.path.parent / f"found-{name}" / "report.html"
    print(f"{name}: a scan wrote a page of {page.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true")
    demo = () if parser.parse_args().demo else ("--seeds", "1", "--epochs", "1")
    with tempfile.TemporaryDirectory(prefix="pairsift-release-") as folder:
        sdist, wheel = build(Path(folder))
        check_contents(sdist, wheel)
        environment = Environment(Path(folder) / "env")
        check_bare(environment, wheel)
        environment.install(f"pairsift[all] @ {wheel.as_uri()}")
        check_commands(environment, "wheel")
        said = environment.script("pairsift", "demo", *demo, "-o", "demo").splitlines()
        print(f"wheel: the demo took {next(line for line in said if ' s; runs' in line)}")
        environment.install("--force-reinstall", "--no-deps", sdist)
        check_commands(environment, "sdist")


if __name__ == "__main__":
    main()
