"""The command line: parse, call, print."""

from pairsift.cli import demo, embed, pairs, probe, scan, study, text_views, theory, train
from pairsift.cli.app import app, console, notes
from pairsift.cli.run import guarded, main

__all__ = ["app", "console", "guarded", "main", "notes"]

for _command in (
    train.train, embed.embed, scan.scan, pairs.pairs, probe.probe, demo.demo, theory.theory, text_views.text_views,
    study.study,
):  # fmt: skip
    app.command()(_command)
