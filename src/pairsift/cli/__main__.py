from pairsift.cli import main

main()
