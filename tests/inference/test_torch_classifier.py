"""One window through a classifier: its view, its probabilities, its map."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from vidkd.data.footage import Footage
from vidkd.data.transforms import Geometry
from vidkd.inference.torch_classifier import classify, each_frame_to_one, view_of
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier

CPU = torch.device("cpu")


def model_of(view: Any = "rgb", **attention: Any) -> VideoClassifier:
    torch.manual_seed(0)
    return VideoClassifier(ModelConfig(attention=AttentionConfig(**attention)), 3, view).eval()


def test_a_model_sees_the_crop_of_its_view() -> None:
    rng = np.random.default_rng(0)
    footage = Footage(rng.integers(0, 256, (3, 10, 12, 3)).astype(np.uint8), rng.random((3, 10, 12, 2)).astype(np.float32))
    geometry = Geometry(top=1, left=2, side=8, size=8)
    rgb, flow = (view_of(model_of(view), footage, geometry) for view in ("rgb", "flow"))
    assert (rgb.dtype, flow.dtype) == (torch.uint8, torch.float32)
    np.testing.assert_array_equal(rgb.numpy(), footage.frames[:, 1:9, 2:10].transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(flow.numpy(), cast(Any, footage.flow)[:, 1:9, 2:10].transpose(3, 0, 1, 2))


@pytest.mark.parametrize("softmax", ["spatial", "spatiotemporal"])
def test_probabilities_and_a_map_whose_frames_sum_to_one(softmax: Any) -> None:
    model = model_of(pooling="soft", softmax=softmax)
    view = torch.randint(0, 256, (3, 4, 32, 32), dtype=torch.uint8)
    found = classify(model, view, CPU)
    with torch.inference_mode():
        output = model(view[None])
    np.testing.assert_allclose(found.probabilities, output.logits[0].double().softmax(0), rtol=1e-12)
    assert found.attention is not None
    maps = output.attention["motion"][0].double().exp().numpy()
    np.testing.assert_allclose(found.attention.sum((1, 2)), 1)
    np.testing.assert_allclose(found.attention[1] / found.attention[1].max(), maps[1] / maps[1].max())


def test_each_frame_to_one_by_hand() -> None:
    np.testing.assert_allclose(each_frame_to_one(np.array([[[1.0, 3.0]], [[0.5, 0.0]]])), np.array([[[0.25, 0.75]], [[1.0, 0.0]]]))
