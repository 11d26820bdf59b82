"""Treatments of a noisy similarity graph, whose noise nearly closes the spectral gap.

A similarity graph with noise (`population.relax`) is factorised, and a linear probe on its features, fitted to a random
half of the vertices, is scored on the other half. Treatments edit the normalised noisy graph, or take vertices out of
it. Within a draw all arms and all gammas share the noise and the split, so differences are paired.

The studies `noisy-graphs` and `noisy-graph-sweeps` run it.
"""

from lab.laboratory.run import Report, Row, run_laboratory
from lab.laboratory.setting import ARMS, TREATMENTS, LaboratorySetting

__all__ = ["ARMS", "TREATMENTS", "LaboratorySetting", "Report", "Row", "run_laboratory"]
