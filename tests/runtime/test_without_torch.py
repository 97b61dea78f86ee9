import sys

from model_files import picture_metadata, picture_onnx, picture_tflite
from started import run_to_end

CODE = """
import sys
for name in ("torch", "torchvision", "decord", "av", "jsonargparse", "supervision", "lightning_fabric"):
    sys.modules[name] = None
import numpy as np
from vidkd.runtime.formats import write_csv
from vidkd.runtime.opening import open_detector
frames = np.full((1, 4, 4, 3), 255, np.uint8)
frames[0, 0, 0, :2] = 0
for path in sys.argv[1:]:
    detector = open_detector(path)
    write_csv(sys.stdout, detector(frames), detector.class_names)
"""


def test_a_detector_runs_and_its_results_are_written_without_torch(tmp_path):
    paths = [
        picture_onnx(tmp_path / "net.onnx", embedded=picture_metadata().to_json()),
        picture_tflite(tmp_path / "net.tflite", quantised=True),
    ]
    (tmp_path / "net.yaml").write_text(picture_metadata().to_json(), encoding="utf-8")  # JSON is YAML
    done = run_to_end([sys.executable, "-c", CODE, *map(str, paths)], check=True)
    assert done.stdout.splitlines()[1::2] == ["0,,0.0,0.0,4.0,4.0,1.0,dog,"] * 2
