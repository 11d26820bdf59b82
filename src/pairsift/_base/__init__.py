"""Helpers for every part: version, argument checks, files, settings, processes. No other part is imported here."""
