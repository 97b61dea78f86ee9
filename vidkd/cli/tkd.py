"""Run a light detector along videos while it learns from a heavy oracle, which is asked on few key frames.

Writes what detect writes, and key_frames.jsonl, losses.csv and report.html. Killed at any moment, the same command resumes, unless
--asynchronous. Settings of learning follow as flags (--settings lists them) or lie in --config. docs/guides/streams.md explains the rest.

  vidkd tkd street.mp4 --model tiny.cfg --weights tiny.weights --names coco.names --oracle yolox_nano.onnx --out learned
  vidkd tkd videos/ --model runs/tiny --oracle yolox_nano.onnx --policy selector.pt --budget 0.05 --out learned --update.lr 1e-4
  vidkd tkd videos/ --config tkd/shapes --out learned
"""

import contextlib
import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.errors import ConfigError
from vidkd.base.records import Positive, Share
from vidkd.cli.detect import kept, kept_record
from vidkd.cli.learning import LearningSettings, budget_of, open_both, oracle_files, recorded, student_files
from vidkd.cli.settings import list_settings
from vidkd.cli.streams import FINISHING, STOPPED, StreamSettings, out_folder, stream_config
from vidkd.cli.tkd_policies import check_policies, check_selector, compare_policies, compare_with_selector, policies_of
from vidkd.cli.verb_parser import positional

if TYPE_CHECKING:
    from vidkd.detection.online import Oracle, Student
    from vidkd.detection.online.account import Account
    from vidkd.detection.online.config import LearningConfig
    from vidkd.detection.stream import Stepper, StreamConfig
    from vidkd.inference.sources import Source

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Of an answer in parallel to the stream."""


@dataclass(frozen=True, kw_only=True)
class Settings(LearningSettings, StreamSettings):
    """The verb's own.

    Args:
        inputs: video files, folders, globs in quotes, image sequences, a camera's number, rtsp://...
        policy: what chooses key frames: the name of a policy, or the file of a trained selector.
        save_student: a folder for the student after the last frame: cfg, weights, names.
        emit_oracle: key frames carry the oracle's boxes, not the student's; only the JSON lines mark them.
        compare_policies: compare all policies along each video at these shares of calls, for the report.
        asynchronous: oracle and training run in parallel to the stream; a file is read at its frame rate; cannot be resumed.
        timeout: give up an answer of the oracle after so many seconds (default: 10 with --asynchronous, else never).
        list_settings: list every setting that may follow as a flag, and stop.
    """

    inputs: tuple[str, ...] = positional("VIDEO")
    policy: str = "fixed"
    save_student: Path | None = None
    emit_oracle: bool = False
    compare_policies: tuple[Share, ...] = ()
    asynchronous: bool = False
    timeout: Positive | None = None
    list_settings: bool = False
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with every input: a copy of the student learns along each. record: what results depend on, besides the stream's."""

    given: Settings
    student: "Student"
    oracle: "Oracle"
    config: "LearningConfig"
    stream: "StreamConfig"
    record: Mapping[str, Any]
    folders: Mapping[str, Path]

    def saved_in(self, item: str) -> Path | None:
        """Where the student of an input is kept, if it is."""
        folder = self.given.save_student
        return folder if folder is None or len(self.folders) == 1 else folder / self.folders[item].name


def run(given: Settings) -> int:
    """Learn along every input, one after the other; returns 1 if one of several failed, 130 if the user stopped it."""
    from vidkd.base.errors import VidkdError
    from vidkd.detection.online.config import LearningConfig
    from vidkd.detection.stream.inputs import find_inputs
    from vidkd.engine.interrupts import Interrupt

    if given.list_settings:
        return list_settings(LearningConfig)
    inputs = find_inputs(given.inputs, leave_out=given.out)
    job, failed, interrupt = job_of(given, inputs), 0, Interrupt(FINISHING)
    with out_folder(given.out), interrupt.caught():
        for item in inputs:
            status = ""
            try:
                summary = learn_along(item, job, lambda: interrupt.asked)
                status = summary["status"]
                sys.stdout.write(_said(item, job, summary) + "\n")
            except VidkdError as error:
                if len(inputs) == 1:
                    raise
                failed += 1
                sys.stderr.write(f"vidkd: {item}: {error}\n")
            # a camera that was stopped is finished
            if interrupt.asked and (status == "stopped" or item != inputs[-1]):
                return STOPPED
    return 1 if failed else 0


def job_of(given: Settings, inputs: Sequence[str]) -> Job:
    """The job that the settings describe, its networks opened. Raises ConfigError or CheckpointError for one that cannot be."""
    from vidkd.base.settings import as_dict
    from vidkd.detection.online import OneAtATime, TimedOracle
    from vidkd.detection.online.config import LearningConfig, load_learning_config
    from vidkd.detection.policies import open_policy
    from vidkd.detection.stream.inputs import folder_names

    _check(given, inputs)
    log.info("opening %s and %s", given.model, given.oracle)  # before what runs them is imported
    config = load_learning_config(LearningConfig, given.settings, seed=given.seed)
    open_policy(given.policy, seed=given.seed)
    light, heavy = student_files(given), oracle_files(given)
    student, oracle = open_both(light, heavy, config.update)
    kept(given, student.class_names)
    check_selector(given, compare_with_selector(given, inputs, student, config))
    cost = "a call costs the oracle's time and %d training steps on %d frames; up to %g %% of the frames are key frames"
    log.info(cost, config.update.steps, config.update.replay + 1, 100 * given.budget)
    if given.asynchronous:  # asynchronous learners, one an input, have a time-out of their own and share the oracle
        oracle = OneAtATime(oracle)
    elif given.timeout is not None:
        oracle = TimedOracle(oracle, given.timeout)
    # what came of the learning is read from the lines
    formats = (*given.formats, "jsonl") if given.formats else ()
    record = {
        **recorded(light, heavy, given),
        **{name: value for name, value in as_dict(config).items() if name in ("update", "replay")},
        "policy": _policy_record(given.policy),
        "emit_oracle": given.emit_oracle,
        "asynchronous": given.asynchronous,
        "timeout_s": given.timeout or (TIMEOUT_S if given.asynchronous else None),
        **kept_record(given, student.class_names),
    }
    return Job(
        given=given,
        student=student,
        oracle=oracle,
        config=config,
        stream=stream_config(dataclasses.replace(given, formats=formats), batch=1, real_time=given.asynchronous),
        record=record,
        folders={name: given.out / folder for name, folder in folder_names(inputs).items()},
    )


def _policy_record(policy: str) -> str:
    from vidkd.base.files import sha256
    from vidkd.detection.policies import names_selector

    return f"sha256 {sha256(policy)[:16]}" if names_selector(policy) else policy


def _check(given: Settings, inputs: Sequence[str]) -> None:
    from vidkd.base.cores import check_threads
    from vidkd.inference.sources import is_live

    check_threads(given.threads, where="--threads")
    if given.asynchronous and given.emit_oracle:
        raise ConfigError("asynchronous answers come too late to be emitted", hint="leave out --emit-oracle or --asynchronous")
    check_policies(given, inputs)
    if not given.asynchronous and any(map(is_live, inputs)):
        sys.stderr.write("vidkd: a live source waits for oracle and training, and loses frames meanwhile; --asynchronous does not\n")
    if given.asynchronous and not all(map(is_live, inputs)):
        sys.stderr.write("vidkd: with --asynchronous a file is read at its own frame rate, as from a camera\n")


def learn_along(item: str, job: Job, stop: Callable[[], bool]) -> dict[str, Any]:
    """Learn along one input and write all that comes of it; returns the summary of its stream. Raises as `walk_stream`."""
    from vidkd.base.errors import VideoError
    from vidkd.detection.stream import walk_stream
    from vidkd.report.boxes import draw_boxes

    folder, names, saved = job.folders[item], job.student.class_names, job.saved_in(item)
    if saved is not None and not job.given.overwrite and not _is_of(folder, saved) and (there := sorted(saved.glob("student.*"))):
        raise ConfigError(f"the output exists: {there[0]}", hint="another --save-student, or --overwrite to replace it")
    with contextlib.ExitStack() as stack:
        try:
            summary = walk_stream(
                item,
                functools.partial(_stepper, job=job, item=item, stack=stack),
                folder,
                class_names=names,
                settings=job.record,
                config=job.stream,
                draw=functools.partial(draw_boxes, class_names=names),
                stop=stop,
                overwrite=job.given.overwrite,
            )
        except VideoError:
            if (folder / "summary.json").exists():  # of an input that broke off, what there was counts
                write_account(item, job)
            raise
    if summary["status"] != "stopped":
        write_account(item, job)
        if saved is not None and not _is_of(folder, saved):
            what = f"the run in {folder} was finished without --save-student {saved}, and its student is gone"
            raise ConfigError(what, hint="--overwrite makes it again")
        if job.given.compare_policies:
            compare_policies(item, job)
            write_account(item, job)  # once more, with what the study says
    return summary


def _is_of(folder: Path, saved: Path) -> bool:
    """Whether the student that lies in `saved` is that of the run in `folder`."""
    from vidkd.detection.opening import EXPORTED, recorded

    return recorded(saved / f"{EXPORTED}.cfg", "run") == str(folder.resolve())


def _stepper(source: "Source", *, job: Job, item: str, stack: contextlib.ExitStack) -> "Stepper":
    """A fresh student that learns, with filters and tracks around it."""
    import torch

    from vidkd.detection.online import AsynchronousLearner, SynchronousLearner
    from vidkd.detection.online.stepper import LearningStepper
    from vidkd.detection.policies import open_policy
    from vidkd.detection.stream import ByteTracker, Filtered, Tracked
    from vidkd.detection.stream.run import frames_wanted

    given = job.given
    learning: dict[str, Any] = {"update": job.config.update, "replay": job.config.replay}
    torch.manual_seed(given.seed)
    student = job.student.copy().for_update(job.config.update, seed=given.seed)
    budget = budget_of(given, frames=frames_wanted(source, job.stream))
    parts: Any = (student, job.oracle, open_policy(given.policy, seed=given.seed), budget)
    if given.asynchronous:
        learner: Any = stack.enter_context(AsynchronousLearner(*parts, **learning, timeout_s=given.timeout or TIMEOUT_S))
    else:
        learner = SynchronousLearner(*parts, **learning)
    inner = LearningStepper(learner, emit_oracle=given.emit_oracle, saved=job.saved_in(item), owner=job.folders[item])
    filtered = Filtered(inner, *kept(given, student.class_names))
    return Tracked(filtered, ByteTracker(fps=source.fps / given.every)) if given.track else filtered


def write_account(item: str, job: Job) -> None:
    """Write key_frames.jsonl, losses.csv and report.html of a finished stream, and into its summary what came of learning.

    Raises VideoError where they cannot be written.
    """
    from vidkd.base.files import read_json, write_json
    from vidkd.detection.online.account import as_row, beside_unlearned, read_account, write_key_frames
    from vidkd.detection.stream.folder import REPORT, SUMMARY
    from vidkd.detection.stream.run import writing
    from vidkd.inference.sources import is_live
    from vidkd.report.page import render_report
    from vidkd.report.stream import key_frame_strips, stream_report

    folder, given = job.folders[item], job.given
    account = read_account(folder / "detections.jsonl")
    strips = [] if is_live(item) else key_frame_strips(item, account, job.student.class_names, sequence_fps=given.fps)
    judged = [] if is_live(item) else beside_unlearned(item, account, job.student, sequence_fps=given.fps)
    chosen: dict[str, Any] = {"policy": Path(given.policy).name, "budget": given.budget}
    page = stream_report(folder, account, **chosen, strips=strips, judged=judged, policies=policies_of(folder))
    with writing(folder, frames=account.frames):
        write_key_frames(folder, account.keys)
        render_report(folder / REPORT, page)
        frozen = {"without_learning": as_row(judged)} if judged else {}
        write_json(folder / SUMMARY, {**read_json(folder / SUMMARY), "learning": {**chosen, **account.as_row(), **frozen}})


def _said(item: str, job: Job, summary: Mapping[str, Any]) -> str:
    """What is printed of an input."""
    from vidkd.base.files import read_json
    from vidkd.detection.online.account import read_account
    from vidkd.detection.policies import BLIND
    from vidkd.detection.stream.folder import REPORT, SUMMARY

    folder = job.folders[item]
    if summary["status"] == "stopped":
        further = "it cannot be resumed: --overwrite starts again" if job.given.asynchronous else "the same command resumes"
        return f"{folder}: stopped after {summary['frames']} frames; {further}"
    frozen = read_json(folder / SUMMARY)["learning"].get("without_learning")
    said = report(read_account(folder / "detections.jsonl"), summary, str(folder), frozen, chose=job.given.policy not in BLIND)
    saved = job.saved_in(item)
    return f"{said}\nwritten: {folder / REPORT}" + ("" if saved is None else f"\nstudent: {saved}")


def report(
    account: "Account", summary: Mapping[str, Any], folder: str, frozen: Mapping[str, Any] | None = None, *, chose: bool = False
) -> str:
    """What the verb prints of a finished input.

    frozen: what its summary says of the frozen student. chose: whether the student had a say in which frames are key frames.
    """
    from vidkd.report.stream_learning import FEWEST

    found = "found finished: " if summary["status"] == "found" else ""
    lines = [f"{folder}: {found}{account.frames} frames, {len(account.keys)} calls of the oracle ({account.share * 100:.1f} %)"]
    if account.quarters is not None:
        first, last = account.quarters
        lines.append(f"disagreement with the oracle on key frames (0: none), first quarter of the calls {first:.3f}, last {last:.3f}")
    if frozen is not None and (count := frozen["key_frames"]):
        limits = "; the student that learned had a say in which these are, and looks worse on them" if chose else ""
        limits = "; too few to say whether learning helped" if count < FEWEST else limits
        frames = "the one key frame" if count == 1 else f"the {count} key frames"
        lines.append(f"on {frames} after the first update {frozen['learned']:.3f}, frozen {frozen['as_it_began']:.3f}{limits}")
    parts = ", ".join(f"{part} {spent:.1f}" for part, spent in account.ms_a_frame.items())
    whole = summary["frames_per_second"].get("end_to_end", 0.0)
    lines.append(f"{whole:.1f} frames a second; of a frame's milliseconds, over all frames: {parts}")
    if (cost := account.cost) is not None:  # only where the lines say what a call takes
        ratio, learning, oracle = cost["ratio"], cost["learning_ms_per_frame"], cost["oracle_ms_per_frame"]
        compared = f"{ratio:.1f} times as much as" if ratio >= 1 else f"{100 * ratio:.0f} % of"
        hint = "; the oracle alone would be faster and better" if ratio >= 1 else ""
        lines.append(f"cost: {learning:.1f} ms per frame, {compared} the oracle on every frame ({oracle:.1f} ms){hint}")
    return "\n".join(lines)
