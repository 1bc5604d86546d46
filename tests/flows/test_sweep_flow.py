"""What a sweep refuses before it starts; tests/cluster has whole ones."""

import pytest

from flows.sweep_flow import only_sweep_of, sweep_flow
from mnist_pipeline.config import FieldError, Search


def test_a_study_is_searched_by_one_sweep_at_a_time(prefect_api: str) -> None:
    with (
        only_sweep_of("my/study"),
        pytest.raises(FieldError, match="study my/study is being searched by another sweep: stop that first"),
    ):
        sweep_flow.fn(Search(study="my/study"))
    with only_sweep_of("my/study"):
        pass
