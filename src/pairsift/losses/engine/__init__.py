"""How the losses compare rows with keys: in tiles or as whole matrices, over all processes, with treated pairs."""

from pairsift.losses.engine.comparison import Comparison, Rows, compare
from pairsift.losses.engine.info_nce import info_nce
from pairsift.losses.engine.processes import Processes
from pairsift.losses.engine.settings import Engine, Tile
from pairsift.losses.engine.walk import row_losses

__all__ = ["Comparison", "Engine", "Processes", "Rows", "Tile", "compare", "info_nce", "row_losses"]
