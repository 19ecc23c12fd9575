"""A slice of the random graphs of `make fuzz`, and graphs that once differed, against torch."""

import collections
from pathlib import Path

import pytest
from torch_check import MANY_SAMPLES, Undefined, compare, find_difference, read_cases

GOLDEN = Path(__file__).parents[1] / "golden/fuzz"


@pytest.mark.filterwarnings("ignore")
def test_random_graphs_agree_with_torch():
    skipped = collections.Counter()
    assert list(compare(1, 200, skipped)) == []
    assert skipped.total() < 20, skipped


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.ir")), ids=lambda path: path.stem)
def test_kept_graphs_agree_with_torch(path):
    seed = path.stem.rpartition("_")[2]
    for case, data in read_cases("case", path, seed, MANY_SAMPLES):
        try:
            assert find_difference(case, data) == "", case["graph"]
        except Undefined as reason:
            pytest.skip(str(reason))
