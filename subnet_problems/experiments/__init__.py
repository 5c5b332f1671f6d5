"""Experiments: seeded runs, their outcomes and curves, and the search for a front."""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from ._budget import spend
    from ._curves import plot_learning_curves
    from ._front_plots import plot_attainment, plot_front
    from ._front_presets import FRONT_SEARCHES, FrontPreset
    from ._fronts import Front, attainment, hypervolume, read_front
    from ._log_plot import plot_log, read_log
    from ._loggers import CSVLogger, TensorBoardLogger
    from ._outcomes import Outcome, by_run, comparison, learning_curves, outcome, read_tests
    from ._perform import finished, has_begun, perform
    from ._presets import SEARCHES, Preset, make_search
    from ._processes import ProcessLostError
    from ._run import Run, hand_out
    from ._sparsify import sparsify
    from ._tables import Row, write_table
    from .jobs import collect, read_rows

__all__ = [
    "FRONT_SEARCHES",
    "SEARCHES",
    "CSVLogger",
    "Front",
    "FrontPreset",
    "Outcome",
    "Preset",
    "ProcessLostError",
    "Row",
    "Run",
    "TensorBoardLogger",
    "attainment",
    "by_run",
    "collect",
    "comparison",
    "finished",
    "hand_out",
    "has_begun",
    "hypervolume",
    "learning_curves",
    "make_search",
    "outcome",
    "perform",
    "plot_attainment",
    "plot_front",
    "plot_learning_curves",
    "plot_log",
    "read_front",
    "read_log",
    "read_rows",
    "read_tests",
    "sparsify",
    "spend",
    "write_table",
]

__getattr__ = lazy(
    __name__,
    {
        "plot_learning_curves": "._curves",
        "plot_attainment": "._front_plots",
        "plot_front": "._front_plots",
        "FRONT_SEARCHES": "._front_presets",
        "FrontPreset": "._front_presets",
        "Front": "._fronts",
        "attainment": "._fronts",
        "hypervolume": "._fronts",
        "read_front": "._fronts",
        "plot_log": "._log_plot",
        "read_log": "._log_plot",
        "CSVLogger": "._loggers",
        "TensorBoardLogger": "._loggers",
        "Outcome": "._outcomes",
        "by_run": "._outcomes",
        "comparison": "._outcomes",
        "learning_curves": "._outcomes",
        "outcome": "._outcomes",
        "read_tests": "._outcomes",
        "finished": "._perform",
        "has_begun": "._perform",
        "perform": "._perform",
        "SEARCHES": "._presets",
        "Preset": "._presets",
        "make_search": "._presets",
        "ProcessLostError": "._processes",
        "Run": "._run",
        "hand_out": "._run",
        "sparsify": "._sparsify",
        "Row": "._tables",
        "write_table": "._tables",
        "spend": "._budget",
        "collect": ".jobs",
        "read_rows": ".jobs",
    },
)
