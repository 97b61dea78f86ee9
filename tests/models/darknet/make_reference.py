"""Reference outputs of OpenCV 4's darknet importer, an independent reader of cfg and weights. OpenCV 5 has none, so it takes two steps.

With the environment of the project, write the networks with our own writers, and their inputs, into a folder:
    VIDKD_DATA=<folder of real data> python tests/models/darknet/make_reference.py write FOLDER
With an environment that holds only `pip install "opencv-python-headless<5"`, run them and keep their numbers:
    python tests/models/darknet/make_reference.py run FOLDER
Without VIDKD_DATA the cases with published weights are left as they are.
"""

import os
import shutil
import sys
from pathlib import Path

import numpy as np

SCORE, IOU = 0.3, 0.45


def write(folder: Path) -> None:
    import reference_nets as nets

    from vidkd.models.darknet import save_weights, to_cfg

    folder.mkdir(parents=True, exist_ok=True)
    for case in nets.CASES:
        net = case.build()
        (folder / f"{case.name}.cfg").write_text(to_cfg(net.config))
        save_weights(net, folder / f"{case.name}.weights")
        np.save(folder / f"{case.name}.npy", nets.noise(case))
    data = os.environ.get("VIDKD_DATA")
    for name, (cfg, weights, size) in nets.REAL.items() if data else ():
        shutil.copy(f"{data}/{cfg}.cfg", folder / f"{name}.cfg")
        shutil.copy(f"{data}/{weights}.weights", folder / f"{name}.weights")
        np.save(folder / f"{name}.npy", nets.picture(size))


def run(folder: Path) -> None:
    kept = Path(__file__).parent / "reference"
    kept.mkdir(exist_ok=True)
    for cfg in sorted(folder.glob("*.cfg")):
        results = outputs(cfg)
        np.savez_compressed(kept / f"{cfg.stem}.npz", **results)
        print({name: (value.shape, float(np.abs(value).max(initial=0))) for name, value in results.items()}, cfg.stem)  # noqa: T201


def outputs(cfg: Path) -> dict[str, np.ndarray]:
    """Entries of the raw heads and of the decoded ones with their shapes, and the boxes that are left after NMS."""
    import cv2

    net = cv2.dnn.readNetFromDarknet(str(cfg), str(cfg.with_suffix(".weights")))
    net.setInput(np.load(cfg.with_suffix(".npy")))
    names = net.getLayerNames()
    raw_names = [names[index - 1] for index, name in enumerate(names) if name.startswith("permute")]
    yolo_names = [name for name in names if name.startswith("yolo")]
    values = net.forward(raw_names + yolo_names)
    raw, decoded = values[: len(raw_names)], values[len(raw_names) :]
    results = {}
    for index, (head, rows) in enumerate(zip(raw, decoded, strict=True)):
        results |= {f"raw{index}": entries(head), f"raw{index}_shape": np.array(head.shape)}
        results |= {f"boxes{index}": entries(rows[:, :4]), f"objectness{index}": entries(rows[:, 4])}
    return results | detections(np.concatenate(decoded))


def entries(values: np.ndarray, most: int = 1000) -> np.ndarray:
    """At most `most` entries of the flattened array, drawn by a fixed seed: an even step would meet some columns only."""
    flat = np.asarray(values).reshape(-1)
    return flat[np.random.RandomState(0).permutation(flat.size)[:most]]


def detections(rows: np.ndarray) -> dict[str, np.ndarray]:
    """rows: (N, 5+C), centre, width and height as shares of the input, objectness, scores. Best class, threshold, NMS of each class."""
    import cv2

    labels, scores = rows[:, 5:].argmax(1), rows[:, 5:].max(1)
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]], 1)
    kept = []
    for label in np.unique(labels[scores > SCORE]):
        members = np.flatnonzero((labels == label) & (scores > SCORE))
        kept += members[cv2.dnn.NMSBoxes(corners[members].tolist(), scores[members].tolist(), SCORE, IOU)].tolist()
    kept = sorted(kept, key=lambda row: -scores[row])
    xyxy = np.concatenate([corners[kept, :2], corners[kept, :2] + corners[kept, 2:]], 1).astype(np.float32)
    return {"kept_boxes": xyxy, "kept_scores": scores[kept].astype(np.float32), "kept_labels": labels[kept]}


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](Path(sys.argv[2]))
