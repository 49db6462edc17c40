import pytest

from stress import node_load


@pytest.mark.slow
def test_each_of_many_series_gets_one_final_result_of_all_its_slices(tmp_path):
    counts = node_load.run(count=24, slices=8, folder=tmp_path)
    assert counts["refused"] == 0
    assert counts["late_instances"] > 0
    assert counts["series_done"] == counts["series_whole"] == counts["final_results_of_all_slices"] == 24
    assert counts["results_shared_by_two_series"] == 0
