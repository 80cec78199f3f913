"""`python -m baton_loadtest.benchmarks`: writes docs/benchmarks.md; paths are relative to the
repository's root."""

from baton_loadtest.benchmarks.kept import RESULTS, read_kept
from baton_loadtest.benchmarks.page import PAGE, benchmarks_page

if __name__ == "__main__":
    PAGE.write_text(benchmarks_page(read_kept(RESULTS)))
