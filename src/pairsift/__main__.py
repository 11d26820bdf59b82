"""`python -m pairsift` is the command `pairsift`."""

from pairsift.cli import main

if __name__ == "__main__":
    main()
