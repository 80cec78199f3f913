"""The tables of a run on a GPU, each tried by itself: a fault ends one of them and is noted in the
result, and the others go on.

Knows the result and how its tables are printed; knows neither device nor stack.
"""

import traceback
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table

from baton_loadtest.gpu_report import (
    GpuReport,
    GpuTable,
    end_to_end_table,
    gpu_table,
    kernels_table,
)
from baton_loadtest.gpu_result import GpuResult

SHOWN: Mapping[GpuTable, Callable[[GpuReport], Table]] = {
    GpuTable.ALONE: gpu_table,
    GpuTable.KERNELS: kernels_table,
    GpuTable.END_TO_END: end_to_end_table,
}

WHY_CHARS_MAX = 500
"""In the result, enough to know an error by; the whole of it is printed."""

Fill = Callable[[], None]
"""Measures one table into the result."""


def fill_each(
    fills: Mapping[GpuTable, Fill],
    result: GpuResult,
    console: Console,
    leave_device: Callable[[], None],
) -> bool:
    """Whether all went well. `leave_device`: gives its memory to whoever measures next."""
    for table, fill in fills.items():
        result.begin(table)
        try:
            fill()
        except Exception as error:
            traceback.print_exception(error)  # with what it came from
            result.fail(table, f"{type(error).__name__}: {error!s:.{WHY_CHARS_MAX}}")
        except KeyboardInterrupt:
            result.fail(table, "ended from outside")
            raise
        finally:
            console.print(SHOWN[table](result.report))
        leave_device()
    return not any(table.value in result.report.failed for table in fills)
