"""Figures and pages: self-contained HTML that needs no network."""
