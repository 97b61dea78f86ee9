import pytest

from vidkd.runtime.onnx_options import session_options

pytest.importorskip("onnxruntime")


def test_threads_sleep_while_they_wait() -> None:
    options = session_options("detect", threads=2)
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("optimization.constant_folding_max_output_size_in_bytes") == str(2**27)
    assert session_options("detect").intra_op_num_threads == 0
