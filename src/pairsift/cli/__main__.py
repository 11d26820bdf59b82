"""`python -m pairsift.cli`: the command line."""

from pairsift.cli import main

main()
