"""What every part uses: version, argument checks, files, settings, processes. It imports no other part of pairsift."""
