"""Studies of streams read strictly from YAML."""

from pathlib import Path

from vidkd.base.errors import ConfigError
from vidkd.base.settings import read_yaml
from vidkd.bench.streams.settings import check_methods
from vidkd.bench.streams.spec import StreamStudy, StreamStudySpec
from vidkd.bench.streams.typed import built, check_keys


def read_stream_study(path: Path | str) -> StreamStudy:
    """Read a study of streams. Raises ConfigError with file and key for anything unknown, of a wrong type or out of range."""
    path = Path(path)
    tree = read_yaml(path)
    try:
        check_keys(tree.content, StreamStudySpec, "", path, tree.lines)
        study = StreamStudy(built(StreamStudySpec, tree.content), path)
        check_methods(study.spec)
    except ConfigError as error:
        raise error.with_lines(study=path) from error
    return study
