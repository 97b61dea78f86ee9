"""Small generated data sets, each laid out as its official archive unpacks; a function makes one and names its layout."""

import itertools
import json
from pathlib import Path

import numpy as np

from vidkd.video import write_video

CLASSES, ACTORS = ("Jump", "Wave"), ("ana", "bo", "cy")
FRAMES = 10


def write_clip(path: Path, frames_each: int = 1) -> None:
    """Ten frames of a bright bar that moves right over a still pattern, 40x32 pixels; each shown for `frames_each` of 1/25 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    still = np.random.default_rng(len(path.name)).integers(40, 90, (1, 32, 40, 3)).astype(np.uint8)
    frames = still.repeat(FRAMES, 0)
    for t in range(FRAMES):
        frames[t, 8:20, 3 * t : 3 * t + 6] = 220
    write_video(path, frames.repeat(frames_each, 0), fps=25)


def write_texts(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def ucf101(root: Path) -> str:
    clips = {g: [f"{name}/v_{name}_g0{g}_c01" for name in CLASSES] for g in (1, 2, 3)}
    for name in itertools.chain(*clips.values()):
        write_clip(root / "UCF-101" / f"{name}.mp4")
    train = "".join(f"{name}.avi {CLASSES.index(name.split('/')[0]) + 1}\n" for g in (2, 3) for name in clips[g])
    test = "".join(f"{name}.avi\n" for name in clips[1])
    texts = {
        "classInd.txt": "1 Jump\n2 Wave\n",
        **{f"{side}list0{split}.txt": text for split in (1, 2, 3) for side, text in (("train", train), ("test", test))},
    }
    write_texts(root / "ucfTrainTestlist", texts)
    return "ucf101"


def classwise(root: Path, videos: str, lists: str) -> None:
    for name in CLASSES:
        clips = [f"film{number}_{name}_f_nm_np1_fr_med_0" for number in range(3)]
        for clip in clips:
            write_clip(root / videos / name / f"{clip}.mp4")
        rows = "".join(f"{clip}.avi {2 if number == 0 else 1}\n" for number, clip in enumerate(clips))
        write_texts(root / lists, {f"{name}_test_split1.txt": rows})


def hmdb51(root: Path) -> str:
    classwise(root, ".", "testTrainMulti_7030_splits")
    return "hmdb51"


def jhmdb(root: Path) -> str:
    classwise(root, "ReCompress_Videos", "splits")
    return "jhmdb"


def something(root: Path) -> str:
    labels = {"Pushing something from left to right": "0", "Lifting something": "1"}
    rows = [{"id": str(number), "template": list(labels)[number % 2].replace("something", "[something]")} for number in range(6)]
    for row in rows:
        write_clip(root / "20bn-something-something-v2" / f"{row['id']}.mp4")
    texts = {"labels": labels, "train": rows[:4], "validation": rows[4:]}
    write_texts(root / "labels", {f"{name}.json": json.dumps(content) for name, content in texts.items()})
    return "something"


def weizmann(root: Path) -> str:
    for name, actor in itertools.product(CLASSES, ACTORS):
        write_clip(root / "video" / name / f"{actor}_{name}.mp4")
    return "weizmann"


def ut_interaction(root: Path) -> str:
    for sequence, label in itertools.product(range(1, 11), range(6)):
        write_clip(root / "set1" / f"{6 * (sequence - 1) + label}_{sequence}_{label}.mp4")
    return "ut_interaction"


def folder(root: Path) -> str:
    for number, (name, _) in enumerate(itertools.product(CLASSES, range(4))):
        write_clip(root / "videos" / name / f"take{number}.mp4")
    return "folder"


def epic100(root: Path) -> str:
    """Two kitchens of four seconds, three actions each; the first begins too early for anything to be observed a second before."""
    head = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration,verb,verb_class,noun,noun_class\n"
    actions = ["00:00:00.50,00:00:01.20,take tap,take,0,tap,0", "00:00:01.50,00:00:02.50,put spoon,put,1,spoon,1"]
    actions.append("00:00:02.60,00:00:03.80,take spoon,take,0,spoon,1")
    texts = {
        "EPIC_100_verb_classes.csv": "id,key,instances\n0,take,['take']\n1,put,['put']\n",
        "EPIC_100_noun_classes.csv": "id,key,instances\n0,tap,['tap']\n1,spoon,['spoon']\n",
        "EPIC_100_video_info.csv": "video_id,duration,fps,resolution\nP01_01,4.0,25.0,40x32\nP02_01,4.0,25.0,40x32\n",
    }
    for name, video in (("train", "P01_01"), ("validation", "P02_01")):
        write_clip(root / video[:3] / "videos" / f"{video}.mp4", frames_each=10)
        rows = [f"{video}_{number},{video[:3]},{video},{action}\n" for number, action in enumerate(actions)]
        texts[f"EPIC_100_{name}.csv"] = head + "".join(rows)
    write_texts(root / "annotations", texts)
    return "epic100"
