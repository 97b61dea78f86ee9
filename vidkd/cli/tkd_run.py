"""What vidkd tkd does: a fresh copy of the student learns along each input, and with --compare-policies under every key-frame policy."""

import contextlib
import dataclasses
import functools
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidkd.base.cores import check_threads
from vidkd.base.errors import ConfigError, VideoError, VidkdError
from vidkd.base.files import read_json, sha256, write_json
from vidkd.base.settings import as_dict
from vidkd.bench.streams.study import write_policies_study
from vidkd.cli import study as study_verb
from vidkd.cli.detect_run import FINISHING, STOPPED, kept, kept_record, out_folder, stream_config
from vidkd.cli.learning import budget_of, open_both, oracle_files, student_files
from vidkd.cli.learning import recorded as recorded_learning
from vidkd.cli.tkd import Settings
from vidkd.detection.online import AsynchronousLearner, OneAtATime, Oracle, Student, SynchronousLearner, TimedOracle
from vidkd.detection.online.account import KEY_FRAMES, LOSSES, Account, as_row, compare_with_frozen, read_account, write_key_frames
from vidkd.detection.online.key_frames import NEEDS_HEADS
from vidkd.detection.online.learner import LearningStepper
from vidkd.detection.online.update import LearningConfig, load_learning_config
from vidkd.detection.opening import EXPORTED, TORCHVISION, names_run, recorded
from vidkd.detection.policies import BLIND, names_selector, open_policy
from vidkd.detection.policies.lstm import objections, other_learning, read_about
from vidkd.detection.stream import ByteTracker, Filtered, Stepper, StreamConfig, Tracked, walk_stream
from vidkd.detection.stream.folder import SUMMARY
from vidkd.detection.stream.inputs import find_inputs, folder_names
from vidkd.detection.stream.run import frames_wanted, writing
from vidkd.engine.interrupts import Interrupt
from vidkd.inference.sources import Source, is_live
from vidkd.report.annotate import draw_boxes
from vidkd.report.page import render_report
from vidkd.report.stream import FEWEST, key_frame_strips, stream_report
from vidkd.video.files import content_of

log = logging.getLogger(__name__)

REPORT = "report.html"
TIMEOUT_S = 10.0
"""Of an answer in parallel to the stream."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with every input: a copy of the student learns along each. record: what results depend on, besides the stream's."""

    given: Settings
    student: Student
    oracle: Oracle
    config: LearningConfig
    stream: StreamConfig
    record: Mapping[str, Any]
    folders: Mapping[str, Path]

    def saved_in(self, item: str) -> Path | None:
        """Where the student of an input is kept, if it is."""
        folder = self.given.save_student
        return folder if folder is None or len(self.folders) == 1 else folder / self.folders[item].name


def learn(given: Settings) -> int:
    """Learn along every input, one after the other; returns 1 if one of several failed, 130 if the user stopped it."""
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
        **recorded_learning(light, heavy, given),
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

    return f"sha256 {sha256(policy)[:16]}" if names_selector(policy) else policy


def _check(given: Settings, inputs: Sequence[str]) -> None:

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
                added=(KEY_FRAMES, LOSSES, REPORT),
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
    return recorded(saved / f"{EXPORTED}.cfg", "run") == str(folder.resolve())


def _stepper(source: Source, *, job: Job, item: str, stack: contextlib.ExitStack) -> Stepper:
    """A fresh student that learns, with filters and tracks around it."""
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
    folder, given = job.folders[item], job.given
    account = read_account(folder / "detections.jsonl")
    strips = [] if is_live(item) else key_frame_strips(item, account, job.student.class_names, sequence_fps=given.fps)
    judged = [] if is_live(item) else compare_with_frozen(item, account, job.student, sequence_fps=given.fps)
    chosen: dict[str, Any] = {"policy": Path(given.policy).name, "budget": given.budget}
    page = stream_report(folder, account, **chosen, strips=strips, judged=judged, policies=policies_of(folder))
    with writing(folder, frames=account.frames):
        write_key_frames(folder, account.keys)
        render_report(folder / REPORT, page)
        frozen = {"compared_with_frozen": as_row(judged)} if judged else {}
        write_json(folder / SUMMARY, {**read_json(folder / SUMMARY), "learning": {**chosen, **account.as_row(), **frozen}})


def _said(item: str, job: Job, summary: Mapping[str, Any]) -> str:
    """What is printed of an input."""
    folder = job.folders[item]
    if summary["status"] == "stopped":
        further = "it cannot be resumed: --overwrite starts again" if job.given.asynchronous else "the same command resumes"
        return f"{folder}: stopped after {summary['frames']} frames; {further}"
    frozen = read_json(folder / SUMMARY)["learning"].get("compared_with_frozen")
    said = report(read_account(folder / "detections.jsonl"), summary, str(folder), frozen, chose=job.given.policy not in BLIND)
    saved = job.saved_in(item)
    return f"{said}\nwritten: {folder / REPORT}" + ("" if saved is None else f"\nstudent: {saved}")


def report(
    account: Account, summary: Mapping[str, Any], folder: str, frozen: Mapping[str, Any] | None = None, *, chose: bool = False
) -> str:
    """What the verb prints of a finished input.

    frozen: what its summary says of the frozen student. chose: whether the student had a say in which frames are key frames.
    """
    found = "found finished: " if summary["status"] == "found" else ""
    lines = [f"{folder}: {found}{account.frames} frames, {len(account.keys)} calls of the oracle ({account.share * 100:.1f} %)"]
    if account.quarters is not None:
        first, last = account.quarters
        lines.append(f"disagreement with the oracle on key frames (0: none), first quarter of the calls {first:.3f}, last {last:.3f}")
    if frozen is not None and (count := frozen["key_frames"]):
        limits = "; the student that learned had a say in which these are, and looks worse on them" if chose else ""
        limits = "; too few to say whether learning helped" if count < FEWEST else limits
        frames = "the one key frame" if count == 1 else f"the {count} key frames"
        lines.append(f"on {frames} after the first update {frozen['learned']:.3f}, frozen {frozen['frozen']:.3f}{limits}")
    parts = ", ".join(f"{part} {spent:.1f}" for part, spent in account.ms_a_frame.items())
    whole = summary["frames_per_second"].get("end_to_end", 0.0)
    lines.append(f"{whole:.1f} frames a second; of a frame's milliseconds, over all frames: {parts}")
    if (cost := account.cost) is not None:  # only where the lines say what a call takes
        ratio, learning, oracle = cost["ratio"], cost["learning_ms_per_frame"], cost["oracle_ms_per_frame"]
        compared = f"{ratio:.1f} times as much as" if ratio >= 1 else f"{100 * ratio:.0f} % of"
        hint = "; the oracle on every frame would be faster and better" if ratio >= 1 else ""
        lines.append(f"cost: {learning:.1f} ms per frame, {compared} the oracle on every frame ({oracle:.1f} ms){hint}")
    return "\n".join(lines)


log = logging.getLogger(__name__)

FLAG = "--compare-policies"
FOLDER = "policies"
"""In the folder of an input: the study, its cells, its summary and its page."""
UNLIKE = {"asynchronous": False, "every": 1, "seconds": None, "oracle_runtime": None}
"""Settings with which a run goes another way along the video than a study does."""


def check_policies(given: Settings, inputs: Sequence[str]) -> None:
    """Raise ConfigError where a study could not go the run's way, before anything is opened."""
    if not given.compare_policies:
        return
    for name, usual in UNLIKE.items():
        if getattr(given, name) != usual:
            raise ConfigError(f"{FLAG} is not possible with --{name.replace('_', '-')}", hint="leave out one of the two")
    if given.oracle.startswith(TORCHVISION) or names_run(oracle_files(given).model):
        mend = f"export it (vidkd export), or leave out {FLAG}"
        raise ConfigError(f"{FLAG} asks a darknet .cfg or an exported file, not {given.oracle}", hint=mend)
    for item in inputs:
        if not Path(item).is_file():
            raise ConfigError(f"{FLAG} needs a video file, which it reads again and again: {item}")


def check_selector(given: Settings, unfit: Sequence[str]) -> None:
    """Raise ConfigError where a study would refuse the selector, before hours are spent. unfit: what speaks against it."""
    if given.compare_policies and unfit:
        mend = f"train one on other videos with this student (vidkd train_selector), or leave out {FLAG}"
        raise ConfigError(f"{FLAG} would judge the selector by what it knows already: {'; '.join(unfit)}", hint=mend)


def compare_with_selector(given: Settings, inputs: Sequence[str], student: Student, config: LearningConfig) -> list[str]:
    """Log where a selector's file says that it was trained with another student, or other learning, or has seen a video of these.

    Returns why its choice along these videos is no fair test: another student, a video that it has seen, or a file that does not say which.
    """
    if not names_selector(given.policy):
        return []
    about, selector = read_about(given.policy), f"the selector {given.policy}"
    contents: dict[str, str] = {}
    for item in filter(lambda name: Path(name).exists(), inputs):
        with contextlib.suppress(OSError, VideoError):  # what cannot be read is reported when its turn comes
            contents[item] = content_of(item)
    net, resize = student.detector.net, student.detector.resize
    unfit = [f"{selector} {reason}" for reason in objections(about, net, resize, contents)]
    learning = {**as_dict(config), **{name: getattr(given, name) for name in ("every", "budget", "window")}}
    if other := other_learning(about, learning):
        log.warning("%s was trained with other learning: %s", selector, "; ".join(other))
    for reason in unfit:
        log.warning("%s", reason)
    return unfit


def compare_policies(item: str, job: "Job") -> None:
    """Run the study of an input, resuming it, and write its summary and page. Raises as `vidkd study` does."""
    given, folder = job.given, job.folders[item] / FOLDER
    if given.overwrite and folder.is_dir():
        shutil.rmtree(folder)
    path = write_policies_study(
        folder,
        video=Path(item),
        student=job.student,
        oracle=oracle_files(given),
        learning=job.record,
        heads=job.config.update.loss in NEEDS_HEADS,
        shares=given.compare_policies,
        seed=given.seed,
        selector=Path(given.policy) if names_selector(given.policy) else None,
    )
    runs, cache = str(folder / "runs"), str(folder / "oracle")
    study_verb.run(study_verb.Settings(config=str(path), out=str(folder), runs=runs, cache=cache))


def policies_of(folder: Path) -> dict[str, Any] | None:
    """The summary of the study next to a run, if there is one."""
    path = folder / FOLDER / "summary.json"
    return read_json(path) if path.exists() else None
